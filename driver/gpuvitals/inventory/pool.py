"""The node's pool: which devices stand in which slice, in which order.

Takes the snapshot and gives the slices that the publisher in `kube` makes true.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from gpuvitals.inventory.attributes import attributes, capacities
from gpuvitals.inventory.device import MAX_KEYS, Device, device_name, is_offered
from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.report import node_report
from gpuvitals.inventory.taints import ServiceMode, taints
from gpuvitals.model.health import HealthClass
from gpuvitals.model.ids import NodeName
from gpuvitals.model.snapshot import GpuHealth, Snapshot

SHARD = 64
"""Devices a slice: the API's bound as soon as one device of it carries a taint, so a taint never invalidates a slice.

Source: kubernetes/api resource/v1/types.go, ResourceSliceMaxDevicesWithAdvancedFeatures.
"""

MAX_INSTANCES = 7
"""MIG instances a GPU has at most. Source: NVIDIA MIG User Guide, "Introduction"."""

_CLASS_ORDER = {
    HealthClass.HIGH: 0,
    HealthClass.MEDIUM: 1,
    HealthClass.LOW: 2,
    HealthClass.UNKNOWN: 3,
    HealthClass.FAILED: 4,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSlice:
    """One ResourceSlice to be. `index` is its place in the pool and its identity across writes."""

    index: int
    devices: tuple[Device, ...]
    annotations: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """All slices of a node. There is always at least one: an empty one says "driver up, no devices"."""

    node: NodeName
    driver: str
    slices: tuple[PoolSlice, ...]


def pool(snapshot: Snapshot, naming: Naming, mode: ServiceMode, rival: str = "") -> Pool:
    """The slices that show `snapshot`. A GPU keeps its shard whatever happens to the others, and so do its instances.

    Inside a slice devices stand by class, then in PCI order: the scheduler takes the first that fits. `rival` says
    which other driver gives out these GPUs: the slices have no devices then, and the report tells why.
    """
    slices = []
    for index, shard in enumerate(_shards(snapshot.gpus)):
        notes = ((naming.node_report, node_report(snapshot, mode, rival)),) if index == 0 else ()
        slices.append(
            PoolSlice(
                index=index,
                devices=() if rival else _devices(shard, naming, mode),
                annotations=notes,
            ),
        )
    return Pool(node=snapshot.node, driver=naming.driver, slices=tuple(slices))


def _shards(gpus: tuple[GpuHealth, ...]) -> list[tuple[GpuHealth, ...]]:
    """The GPUs in PCI order, as many a shard as fit; one in MIG mode takes the room of all instances it may get."""
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


def _devices(shard: tuple[GpuHealth, ...], naming: Naming, mode: ServiceMode) -> tuple[Device, ...]:
    served = [
        entry
        for entry in shard
        if is_offered(entry.gpu) and (mode is ServiceMode.TAINT or not entry.isolated)
    ]
    served.sort(key=lambda entry: _CLASS_ORDER[entry.verdict.health_class])
    return tuple(_device(entry, naming, mode) for entry in served)


@lru_cache(maxsize=1024)
def _device(entry: GpuHealth, naming: Naming, mode: ServiceMode) -> Device:
    """Remembered: of two snapshots nearly all GPUs are the same."""
    listed, capacity = attributes(entry, naming), capacities(entry.gpu)
    if len(listed) + len(capacity) > MAX_KEYS:
        raise AssertionError(
            f"device {device_name(entry.gpu)}: {len(listed)} attributes and {len(capacity)} capacities, "
            f"the API takes {MAX_KEYS}"
        )
    return Device(
        name=device_name(entry.gpu),
        attributes=listed,
        capacity=capacity,
        taints=taints(entry, naming) if mode is ServiceMode.TAINT else (),
    )
