"""From the worker's plain values to the model's nouns: GPUs, readings, XID reports. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from gpuvitals.model.clock import Moment
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.gpu_name import bus_id_of
from gpuvitals.model.ids import GpuUuid, PciBusId
from gpuvitals.model.signal import Checkup, FabricState, LinkState, Reading, ReadStatus, Source, XidReport
from gpuvitals.signals.nvml_worker.protocol import (
    GPU_IS_LOST,
    GPU_NOT_FOUND,
    NO_INSTANCE,
    NOT_FOUND,
    RESET_REQUIRED,
    CheckupValues,
    DriverFacts,
    GpuFacts,
    GpuValues,
    XidEvent,
)

_BUS_ID = re.compile(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([01][0-9a-f])(?:\.([0-7]))?\Z", re.ASCII)
_LOST = frozenset({GPU_IS_LOST, GPU_NOT_FOUND, NOT_FOUND})
_MAX_TEXT = 96
_MAX_DETAIL = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a GPU sits in the machine, as the kernel tells without asking the driver."""

    numa_node: int | None = None
    pcie_root: str = ""


def bus_id_from(text: str) -> PciBusId:
    """The one spelling of a bus id: `00000000:3B:00.0` becomes `0000:3b:00.0`. Raises ValueError for anything else."""
    match = _BUS_ID.match(text.strip().lower())
    if match is None:
        raise ValueError(f"bus id {text[:32]!r} is not of the form domain:bus:device.function")
    return bus_id_of(*match.groups())


def gpu_from(facts: GpuFacts, driver: DriverFacts, placement: Placement) -> Gpu:
    """The GPU as identified; `expected_links` is what is active now. Raises ValueError where it has no identity."""
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
    """The GPUs, each with the most links that it or a GPU of its model on this node was ever seen with.

    A link that is down at the agent's start would otherwise never be missed.
    """
    most: dict[str, int] = {}
    for gpu in [*known.values(), *gpus]:
        if gpu.expected_links is not None:
            most[gpu.product_name] = max(gpu.expected_links, most.get(gpu.product_name, 0))
    return tuple(replace(gpu, expected_links=most.get(gpu.product_name)) for gpu in gpus)


def reading_from(values: GpuValues, gpu: Gpu, seen: Moment) -> Reading:
    """A good reading. Raises ValueError for a state that is no state."""
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


def checkup_from(values: CheckupValues, gpu: Gpu, seen: Moment) -> Checkup:
    """A checkup. Raises ValueError where a number is below zero."""
    fields = {name: getattr(values, name) for name in values.__struct_fields__}
    for name, value in fields.items():
        if isinstance(value, int) and value < 0:
            raise ValueError(f"{name} {value} is below zero")
    known = fields | {"unsupported": frozenset(values.unsupported), "detail": values.detail[:_MAX_DETAIL]}
    return Checkup(source=Source.NVML_POLL, seen=seen, uuid=gpu.uuid, **known)


def status_from(code: int) -> ReadStatus:
    """What an error of a whole GPU says about it. Source: nvml.h of CUDA 13.5, nvmlReturn_t."""
    if code in _LOST:
        return ReadStatus.LOST
    return ReadStatus.RESET_REQUIRED if code == RESET_REQUIRED else ReadStatus.FAILED


def xid_report(event: XidEvent, gpu: Gpu, seen: Moment) -> XidReport:
    """The report of an NVML event: a number without the line's details."""
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
    """The GPUs ordered as the bus numbers them, which an index of the driver is not."""
    return tuple(sorted(gpus, key=lambda gpu: (int(gpu.bus_id.split(":")[0], 16), gpu.bus_id)))


def _text(value: str) -> str:
    """What the library printed, without what can't be shown."""
    return "".join(character for character in value[:_MAX_TEXT] if character.isprintable()).strip()


def _count(value: int | None) -> int | None:
    return None if value is None or value < 0 else value
