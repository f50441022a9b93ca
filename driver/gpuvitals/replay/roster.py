"""Which GPUs a log names, under which names, and whom of them a signal means. Pure.

A kernel log names a GPU by its bus id; the UUID comes late, with the first XID, or never. So the bus id is its name here.
"""

from collections.abc import Iterable
from dataclasses import replace

from gpuvitals.health.attribution import concerned
from gpuvitals.model.gpu import DeviceKind, Gpu, MigInstance
from gpuvitals.model.ids import GpuUuid, PciBusId
from gpuvitals.model.signal import Checkup, ClearReport, GpuSignal, InventoryReport, Reading, XidReport

MAX_GPUS = 1024
"""No node has as many: beyond it a log is garbage or forged, and what it names is counted and no more."""


class Roster:
    """The GPUs and MIG instances named so far. `uuids` has the real UUID of each name, where the log told it."""

    def __init__(self) -> None:
        self.gpus: dict[GpuUuid, Gpu] = {}
        self.uuids: dict[GpuUuid, GpuUuid] = {}
        self._names: dict[GpuUuid, GpuUuid] = {}

    def enlist(self, report: InventoryReport) -> None:
        """Takes over what the driver enumerated."""
        parents = [gpu for gpu in report.gpus if gpu.mig is None]
        for gpu in (*parents, *(gpu for gpu in report.gpus if gpu.mig is not None)):
            mig = gpu.mig
            name = _named(gpu.bus_id, None if mig is None else (mig.gpu_instance, mig.compute_instance))
            if mig is not None:
                mig = replace(mig, parent=self._names.get(mig.parent, mig.parent))
            self._knows(name, gpu.uuid)
            self._add(replace(gpu, uuid=name, mig=mig))

    def meant(self, signal: GpuSignal) -> tuple[GpuSignal, tuple[GpuUuid, ...]]:
        """The signal in the names used here, and who is meant: a GPU that is heard of for the first time is added."""
        if isinstance(signal, Reading | Checkup | ClearReport):
            name = self._names.get(signal.uuid)
            if name is None:
                return signal, ()
            signal = replace(signal, uuid=name)
        elif signal.bus_id is not None:
            self._add(_gpu(signal.bus_id))
            if signal.uuid is not None:
                self._knows(_named(signal.bus_id), signal.uuid)
            if isinstance(signal, XidReport) and signal.gpu_instance is not None:
                self._add_instance(signal.bus_id, signal.gpu_instance, signal.compute_instance)
            signal = replace(signal, uuid=None)
        elif signal.uuid is not None:
            signal = replace(signal, uuid=self._names.get(signal.uuid, signal.uuid))
        return signal, concerned(signal, self.gpus.values())

    def physical(self) -> int:
        """How many GPUs, instances aside."""
        return sum(gpu.mig is None for gpu in self.gpus.values())

    def parents(self) -> dict[GpuUuid, GpuUuid]:
        """The GPU of each instance."""
        return {name: gpu.mig.parent for name, gpu in self.gpus.items() if gpu.mig is not None}

    def _knows(self, name: GpuUuid, uuid: GpuUuid) -> None:
        if len(self._names) < MAX_GPUS:
            self._names[uuid] = name
            self.uuids[name] = uuid

    def _add(self, gpu: Gpu) -> None:
        if gpu.uuid not in self.gpus and len(self.gpus) < MAX_GPUS:
            self.gpus[gpu.uuid] = gpu

    def _add_instance(self, bus_id: PciBusId, gpu_instance: int, compute_instance: int | None) -> None:
        """A line that names no compute instance means all of them; where none is known, the first."""
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


def phantoms(count: int) -> list[Gpu]:
    """That many GPUs that no log names, for counting the share of a node that is out."""
    return [
        Gpu(uuid=GpuUuid(f"unnamed-{number}"), bus_id=PciBusId(""), product_name="", memory_bytes=0)
        for number in range(count)
    ]
