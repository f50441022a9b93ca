"""A state store with a small journal, and records of a few GPUs."""

from pathlib import Path

from gpuvitals.health.state import initial_state
from gpuvitals.node.state_store import GpuRecord, StateStore
from support.signals import moment
from support.worlds.agent_world import gpu

GPUS = 3


def small_store(folder: Path, records: int = 4) -> StateStore:
    """A store whose journal takes `records` records of one block."""
    return StateStore(folder / "state.json", journal_bytes=records * 4096)


def gpu_record(index: int) -> GpuRecord:
    """A GPU that was met at 1000 s on the boot clock."""
    return GpuRecord(
        gpu=gpu(index),
        state=initial_state(gpu(index), moment(1000.0)),
        published=None,
        published_at=1000.0,
        state_since=moment(1000.0).time,
        isolated=False,
    )
