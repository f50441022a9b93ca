"""Builders of small snapshots for the tests of inventory, slices and reports."""

from dataclasses import replace
from datetime import UTC, datetime

from gpuvitals.model.gpu import Gpu
from gpuvitals.model.health import HealthState, Verdict
from gpuvitals.model.ids import GpuUuid, NodeName, PciBusId
from gpuvitals.model.snapshot import GpuHealth, NodeFacts, Snapshot
from support.signals import fold, good, judge, moment, xid

SINCE = datetime(2026, 11, 24, 1, 0, tzinfo=UTC)
_HEALTHY = judge(fold(good(1000)), 1000)
_FAILED = judge(fold(good(1000), xid(79, 1001)), 1001)
_DEGRADED = judge(fold(good(1000), xid(94, 1001)), 1001)
_UNKNOWN = judge(fold(), 1000)
_VERDICTS = {
    HealthState.HEALTHY: _HEALTHY,
    HealthState.UNHEALTHY: _FAILED,
    HealthState.DEGRADED: _DEGRADED,
    HealthState.UNKNOWN: _UNKNOWN,
}


def gpu(index: int) -> Gpu:
    """The GPU of that index in PCI order."""
    return Gpu(
        uuid=GpuUuid(f"GPU-{index:04d}"),
        bus_id=PciBusId(f"{index // 200:04x}:{index % 200:02x}:00.0"),
        product_name="NVIDIA H100 80GB HBM3",
        architecture="hopper",
        brand="nvidia",
        minor=index,
        memory_bytes=80 << 30,
        numa_node=index % 2,
        pcie_root="pci0000:00",
        driver_version="535.54.03",
        cuda_driver_version="12.8",
        cuda_compute_capability="9.0",
        expected_links=18,
    )


def verdict(index: int, state: HealthState = HealthState.HEALTHY) -> Verdict:
    """The real verdict of that GPU in that state."""
    return replace(_VERDICTS[state], uuid=gpu(index).uuid)


def entry(index: int, state: HealthState = HealthState.HEALTHY) -> GpuHealth:
    """A GPU in that state; unhealthy ones are out of service."""
    return GpuHealth(
        gpu=gpu(index),
        verdict=verdict(index, state),
        isolated=state is HealthState.UNHEALTHY,
        state_since=SINCE,
    )


def snapshot(gpus: int = 8, states: dict[int, HealthState] | None = None) -> Snapshot:
    """A node whose GPUs are healthy but for `states`."""
    chosen = states or {}
    return Snapshot(
        revision=1,
        taken=moment(1000),
        node=NodeName("node-a"),
        gpus=tuple(entry(index, chosen.get(index, HealthState.HEALTHY)) for index in range(gpus)),
        facts=NodeFacts(expected_gpus=gpus),
    )
