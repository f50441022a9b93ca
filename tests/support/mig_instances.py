"""GPUs in MIG mode and their instances, and the worker's facts about them."""

from dataclasses import replace

from gpuvitals.model.gpu import DeviceKind, Gpu, MigInstance
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.signal import InventoryReport, Source
from support.signals import moment
from support.worlds.agent_world import gpu


def in_mig_mode(index: int) -> Gpu:
    """That GPU, published as its instances only, as the NVML monitor reports it."""
    return replace(gpu(index), mig_enabled=True, expected_links=0)


def instance_uuid(index: int, number: int) -> GpuUuid:
    """The UUID of a GPU's instance with that GPU instance id."""
    return GpuUuid(f"MIG-{index}-{number}")


def instance(index: int, number: int, *, uuid: str = "", profile: str = "1g.10gb") -> Gpu:
    """An instance of that GPU, with all the engines that the API has room for."""
    mig = MigInstance(
        parent=gpu(index).uuid,
        profile=profile,
        gpu_instance=number,
        compute_instance=0,
        multiprocessors=14,
        copy_engines=1,
        decoders=1,
        encoders=1,
        jpeg_engines=1,
        placement=number - 7,
    )
    return replace(
        gpu(index),
        uuid=GpuUuid(uuid) or instance_uuid(index, number),
        kind=DeviceKind.MIG,
        mig=mig,
        memory_bytes=10 << 30,
        minor=None,
        expected_links=0,
    )


def divided(at: float, instances: dict[int, tuple[int, ...]], gpus: int = 4) -> InventoryReport:
    """The driver lists its GPUs, and of those in `instances` the instances with these ids."""
    found: list[Gpu] = []
    for index in range(gpus):
        found.append(in_mig_mode(index) if index in instances else gpu(index))
        found += [instance(index, number) for number in instances.get(index, ())]
    return InventoryReport(source=Source.NVML_POLL, seen=moment(at), gpus=tuple(found), driver_load="570.1")
