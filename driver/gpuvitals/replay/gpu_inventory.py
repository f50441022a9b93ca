"""The GPUs and MIG instances that a log names, and the GPUs that a signal concerns. Pure.

A kernel log identifies a GPU by its PCI bus ID; the UUID appears with the first XID or never. A replay therefore uses the
bus ID as the name of a GPU.
"""

from collections.abc import Iterable
from dataclasses import replace

from gpuvitals.health.attribution import affected_gpus
from gpuvitals.model.gpu import DeviceKind, Gpu, MigInstance
from gpuvitals.model.ids import GpuUuid, PciBusId
from gpuvitals.model.signal import Checkup, ClearReport, GpuSignal, InventoryReport, Reading, XidReport

MAX_GPUS = 1024
"""The most GPUs of a replay. A log that names more is damaged or forged; further names are only counted."""


class GpuInventory:
    """The GPUs and MIG instances named so far. `uuids` maps names to real UUIDs, as far as the log has them."""

    def __init__(self) -> None:
        self.gpus: dict[GpuUuid, Gpu] = {}
        self.uuids: dict[GpuUuid, GpuUuid] = {}
        self._names: dict[GpuUuid, GpuUuid] = {}

    def add_report(self, report: InventoryReport) -> None:
        """Adds the GPUs that the driver enumerated."""
        parents = [gpu for gpu in report.gpus if gpu.mig is None]
        for gpu in (*parents, *(gpu for gpu in report.gpus if gpu.mig is not None)):
            mig = gpu.mig
            name = _named(gpu.bus_id, None if mig is None else (mig.gpu_instance, mig.compute_instance))
            if mig is not None:
                mig = replace(mig, parent=self._names.get(mig.parent, mig.parent))
            self._map_uuid(name, gpu.uuid)
            self._add(replace(gpu, uuid=name, mig=mig))

    def resolve(self, signal: GpuSignal) -> tuple[GpuSignal, tuple[GpuUuid, ...]]:
        """The signal with replay names, and the names of the GPUs that it concerns. Adds a GPU at its first line."""
        if isinstance(signal, Reading | Checkup | ClearReport):
            name = self._names.get(signal.uuid)
            if name is None:
                return signal, ()
            signal = replace(signal, uuid=name)
        elif signal.bus_id is not None:
            self._add(_gpu(signal.bus_id))
            if signal.uuid is not None:
                self._map_uuid(_named(signal.bus_id), signal.uuid)
            if isinstance(signal, XidReport) and signal.gpu_instance is not None:
                self._add_instance(signal.bus_id, signal.gpu_instance, signal.compute_instance)
            signal = replace(signal, uuid=None)
        elif signal.uuid is not None:
            signal = replace(signal, uuid=self._names.get(signal.uuid, signal.uuid))
        return signal, affected_gpus(signal, self.gpus.values())

    def gpu_count(self) -> int:
        """The number of physical GPUs, without MIG instances."""
        return sum(gpu.mig is None for gpu in self.gpus.values())

    def parents(self) -> dict[GpuUuid, GpuUuid]:
        """The parent GPU of each MIG instance."""
        return {name: gpu.mig.parent for name, gpu in self.gpus.items() if gpu.mig is not None}

    def _map_uuid(self, name: GpuUuid, uuid: GpuUuid) -> None:
        if len(self._names) < MAX_GPUS:
            self._names[uuid] = name
            self.uuids[name] = uuid

    def _add(self, gpu: Gpu) -> None:
        if gpu.uuid not in self.gpus and len(self.gpus) < MAX_GPUS:
            self.gpus[gpu.uuid] = gpu

    def _add_instance(self, bus_id: PciBusId, gpu_instance: int, compute_instance: int | None) -> None:
        """A line without a compute instance concerns all of them; if none is known, the first is added."""
        if compute_instance is None and _has_instance(self.gpus.values(), bus_id, gpu_instance):
            return
        compute = compute_instance or 0
        parent = _gpu(bus_id)
        mig = MigInstance(parent=parent.uuid, profile="", gpu_instance=gpu_instance, compute_instance=compute)
        name = _named(bus_id, (gpu_instance, compute))
        self._add(replace(parent, uuid=name, kind=DeviceKind.MIG, mig=mig))


def _has_instance(gpus: Iterable[Gpu], bus_id: PciBusId, gpu_instance: int) -> bool:
    return any(
        gpu.mig is not None and (gpu.bus_id, gpu.mig.gpu_instance) == (bus_id, gpu_instance) for gpu in gpus
    )


def _named(bus_id: PciBusId, instance: tuple[int, int] | None = None) -> GpuUuid:
    return GpuUuid(bus_id if instance is None else f"{bus_id} GI{instance[0]} CI{instance[1]}")


def _gpu(bus_id: PciBusId) -> Gpu:
    return Gpu(uuid=_named(bus_id), bus_id=bus_id, product_name="", memory_bytes=0)


def unnamed_gpus(count: int) -> list[Gpu]:
    """Placeholders for GPUs that the log does not name, so that the isolation cap counts them."""
    return [
        Gpu(uuid=GpuUuid(f"unnamed-{number}"), bus_id=PciBusId(""), product_name="", memory_bytes=0)
        for number in range(count)
    ]
