"""Turns the plain values of the worker into GPUs, readings and XID reports of the model. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from gpuvitals.model.clock import Moment
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.ids import GpuUuid, PciBusId
from gpuvitals.model.pci import normalize_bus_id
from gpuvitals.model.signal import Checkup, FabricState, LinkState, Reading, ReadStatus, Source, XidReport
from gpuvitals.signals.nvml_worker.protocol import (
    GPU_IS_LOST,
    GPU_NOT_FOUND,
    NO_INSTANCE,
    NOT_FOUND,
    RESET_REQUIRED,
    DriverFacts,
    GpuFacts,
    GpuValues,
    XidEvent,
)

_LOST = frozenset({GPU_IS_LOST, GPU_NOT_FOUND, NOT_FOUND})
_MAX_TEXT = 96
_MAX_DETAIL = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The place of a GPU in the machine, as sysfs shows it without the driver."""

    numa_node: int | None = None
    pcie_root: str = ""


def bus_id_from(text: str) -> PciBusId:
    """The normalised bus ID of one that NVML printed, which always has a domain. Raises ValueError for other text."""
    bus_id = normalize_bus_id(text)
    if bus_id is None or text.count(":") != 2:
        raise ValueError(f"bus id {text[:32]!r} is not of the form domain:bus:device.function")
    return bus_id


def gpu_from(facts: GpuFacts, driver: DriverFacts, placement: Placement) -> Gpu:
    """The GPU; `expected_links` is its number of links that are active now. Raises ValueError without a valid identity."""
    if not facts.uuid.startswith("GPU-") or not facts.uuid.isascii():
        raise ValueError(f"uuid {facts.uuid[:64]!r} does not start with GPU-")
    return Gpu(
        uuid=GpuUuid(facts.uuid),
        bus_id=bus_id_from(facts.bus_id),
        product_name=_text(facts.name),
        architecture=_text(facts.architecture),
        brand=_text(facts.brand),
        serial=_text(facts.serial),
        minor=facts.minor,
        memory_bytes=max(0, facts.memory_bytes),
        numa_node=placement.numa_node,
        pcie_root=placement.pcie_root,
        driver_version=_text(driver.driver_version),
        cuda_driver_version=_text(driver.cuda_driver_version),
        cuda_compute_capability=_text(facts.cuda_compute_capability),
        expected_links=facts.active_links,
    )


def with_expected_links(gpus: Sequence[Gpu], known: Mapping[GpuUuid, Gpu]) -> tuple[Gpu, ...]:
    """The GPUs, each with the largest number of active links ever seen on a GPU of its model on this node.

    Otherwise a link that is down when the agent starts would never count as missing.
    """
    most: dict[str, int] = {}
    for gpu in [*known.values(), *gpus]:
        if gpu.expected_links is not None:
            most[gpu.product_name] = max(gpu.expected_links, most.get(gpu.product_name, 0))
    return tuple(replace(gpu, expected_links=most.get(gpu.product_name)) for gpu in gpus)


def reading_from(values: GpuValues, gpu: Gpu, seen: Moment) -> Reading:
    """The reading of a successful poll. Raises ValueError for a link or fabric state that does not exist."""
    return Reading(
        source=Source.NVML_POLL,
        seen=seen,
        uuid=gpu.uuid,
        status=ReadStatus.OK,
        recovery_action=_count(values.recovery_action),
        ecc_uncorrected_volatile=_count(values.ecc_uncorrected_volatile),
        ecc_uncorrected_aggregate=_count(values.ecc_uncorrected_aggregate),
        ecc_corrected_volatile=_count(values.ecc_corrected_volatile),
        sram_threshold_exceeded=values.sram_threshold_exceeded,
        remap_pending=values.remap_pending,
        remap_failed=values.remap_failed,
        remapped_uncorrectable=_count(values.remapped_uncorrectable),
        banks_without_spare=_count(values.banks_without_spare),
        links=None if values.links is None else tuple(LinkState(state) for state in values.links),
        fabric=None if values.fabric is None else FabricState(values.fabric),
        thermal_margin_celsius=values.thermal_margin_celsius,
        hardware_slowdown=values.hardware_slowdown,
        unsupported=frozenset(values.unsupported),
        detail=values.detail[:_MAX_DETAIL],
    )


def validated(checkup: Checkup, gpu: Gpu) -> Checkup:
    """The checkup with a short detail. Raises ValueError for one of another GPU, and for a value below zero."""
    if checkup.uuid != gpu.uuid:
        raise ValueError(f"uuid {checkup.uuid[:64]!r} is that of another GPU")
    for field in fields(checkup):
        value = getattr(checkup, field.name)
        if isinstance(value, int) and value < 0:
            raise ValueError(f"{field.name} {value} is below zero")
    return replace(checkup, detail=checkup.detail[:_MAX_DETAIL])


def status_from(code: int) -> ReadStatus:
    """The status of a GPU whose poll failed with this code. Source: nvml.h of CUDA 13.5, nvmlReturn_t."""
    if code in _LOST:
        return ReadStatus.LOST
    return ReadStatus.RESET_REQUIRED if code == RESET_REQUIRED else ReadStatus.FAILED


def xid_report(event: XidEvent, gpu: Gpu, seen: Moment) -> XidReport:
    """The report of an NVML event, which has the XID but none of the details of a kernel line."""
    return XidReport(
        source=Source.NVML_EVENT,
        seen=seen,
        bus_id=gpu.bus_id,
        uuid=gpu.uuid,
        code=event.code,
        gpu_instance=None if event.gpu_instance == NO_INSTANCE else event.gpu_instance,
        compute_instance=None if event.compute_instance == NO_INSTANCE else event.compute_instance,
    )


def in_pci_order(gpus: Iterable[Gpu]) -> tuple[Gpu, ...]:
    """The GPUs in the order of their bus IDs, which the driver's indexes do not follow."""
    return tuple(sorted(gpus, key=lambda gpu: (int(gpu.bus_id.split(":")[0], 16), gpu.bus_id)))


def _text(value: str) -> str:
    """Text of the library, without unprintable characters."""
    return "".join(character for character in value[:_MAX_TEXT] if character.isprintable()).strip()


def _count(value: int | None) -> int | None:
    return None if value is None or value < 0 else value
