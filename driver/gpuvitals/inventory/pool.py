"""Stage 8 of 10: builds the node's pool, the intended ResourceSlices with their devices in order, from a snapshot."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby

from gpuvitals.inventory.attributes import attributes, capacities
from gpuvitals.inventory.device import Device, device_name, is_offered
from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.node_report import LeftOut, node_report, with_left_out
from gpuvitals.inventory.taints import ServiceMode, taints
from gpuvitals.inventory.validation import invalid
from gpuvitals.model.health import HealthClass
from gpuvitals.model.ids import DeviceName, NodeName
from gpuvitals.model.snapshot import GpuHealth, Snapshot

SHARD = 64
"""Devices per slice: the API's limit for a slice with a tainted device, so that a taint never invalidates a slice.

Source: kubernetes/api resource/v1/types.go, ResourceSliceMaxDevicesWithAdvancedFeatures.
"""

MAX_INSTANCES = 7
"""The most MIG instances of a GPU. Source: NVIDIA MIG User Guide, "Introduction"."""

_CLASS_ORDER = {
    HealthClass.HIGH: 0,
    HealthClass.MEDIUM: 1,
    HealthClass.LOW: 2,
    HealthClass.UNKNOWN: 3,
    HealthClass.FAILED: 4,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSlice:
    """One intended ResourceSlice. `index` is its position in the pool and its identity across writes."""

    index: int
    devices: tuple[Device, ...]
    annotations: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """All slices of a node. There is always at least one: an empty slice means that the driver is up without devices.

    `left_out` are devices that the API server would refuse, and their whole slice with them.
    """

    node: NodeName
    driver: str
    slices: tuple[PoolSlice, ...]
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpec:
    """A desired pool, before the mode in which devices leave service is known. `conflict` is as in `pool`."""

    snapshot: Snapshot
    naming: Naming
    conflict: str = ""

    def pool(self, mode: ServiceMode) -> Pool:
        """The pool in that mode."""
        return pool(self.snapshot, self.naming, mode, self.conflict)


def pool(snapshot: Snapshot, naming: Naming, mode: ServiceMode, conflict: str = "") -> Pool:
    """The slices of `snapshot`. A GPU and its instances keep their shard, whatever happens to other GPUs.

    Inside a slice, devices are sorted by health class, then in PCI order: the scheduler takes the first that fits. With
    a `conflict`, which names another driver of these GPUs, the slices have no devices, and the report has the reason.
    """
    left_out: list[LeftOut] = []
    names: set[DeviceName] = set()
    shards = [
        () if conflict else _accepted(_devices(shard, naming, mode), names, left_out)
        for shard in _shards(snapshot.gpus)
    ]
    report = node_report(snapshot, mode, conflict, tuple(left_out))
    slices = tuple(
        PoolSlice(
            index=index,
            devices=devices,
            annotations=((naming.node_report, report),) if index == 0 else (),
        )
        for index, devices in enumerate(shards)
    )
    return Pool(node=snapshot.node, driver=naming.driver, slices=slices, left_out=tuple(left_out))


def without_devices(whole: Pool, why: Mapping[DeviceName, str]) -> Pool:
    """The pool without the devices that the API server refused; the report lists them with the server's reasons."""
    dropped = tuple(
        LeftOut(device=device.name, why=why[device.name])
        for part in whole.slices
        for device in part.devices
        if device.name in why
    )
    slices = tuple(
        replace(
            part,
            devices=tuple(device for device in part.devices if device.name not in why),
            annotations=tuple((key, with_left_out(text, dropped)) for key, text in part.annotations),
        )
        for part in whole.slices
    )
    return replace(whole, slices=slices, left_out=(*whole.left_out, *dropped))


def _accepted(
    devices: tuple[tuple[Device, str], ...], names: set[DeviceName], left_out: list[LeftOut]
) -> tuple[Device, ...]:
    """The devices that the API server accepts in one slice. Extends `names`, the pool's device names, and `left_out`."""
    taken: list[Device] = []
    for device, why in devices:
        if device.name in names:
            why = "another device of the pool has the same name"
        elif not why and len(taken) == SHARD:
            why = f"the slice has {SHARD} devices already"
        if why:
            left_out.append(LeftOut(device=device.name, why=why))
            continue
        names.add(device.name)
        taken.append(device)
    return tuple(taken)


def _shards(gpus: tuple[GpuHealth, ...]) -> list[tuple[GpuHealth, ...]]:
    """The GPUs in PCI order, packed into shards. A GPU in MIG mode reserves room for all its possible instances."""
    shards: list[tuple[GpuHealth, ...]] = [()]
    taken = 0
    for _, found in groupby(gpus, key=lambda entry: entry.gpu.gpu_uuid):
        group = tuple(found)
        instances = sum(entry.gpu.mig is not None for entry in group)
        room = max(MAX_INSTANCES, instances) if instances or group[0].gpu.mig_enabled else 1
        if taken + room > SHARD:
            shards.append(())
            taken = 0
        shards[-1] += group
        taken += room
    return shards


def _devices(
    shard: tuple[GpuHealth, ...], naming: Naming, mode: ServiceMode
) -> tuple[tuple[Device, str], ...]:
    """The shard's devices, each with the API server's rule that it breaks; empty for a valid device."""
    served = [
        entry
        for entry in shard
        if is_offered(entry.gpu) and not entry.withheld and (mode is ServiceMode.TAINT or not entry.isolated)
    ]
    served.sort(key=lambda entry: _CLASS_ORDER[entry.shown.health_class])
    return tuple(_device(entry, naming, mode) for entry in served)


@lru_cache(maxsize=1024)
def _device(entry: GpuHealth, naming: Naming, mode: ServiceMode) -> tuple[Device, str]:
    """Cached, since nearly all GPUs are equal in two successive snapshots."""
    device = Device(
        name=device_name(entry.gpu),
        attributes=attributes(entry, naming),
        capacity=capacities(entry.gpu),
        taints=taints(entry, naming) if mode is ServiceMode.TAINT else (),
    )
    return device, invalid(device)
