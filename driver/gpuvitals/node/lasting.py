"""Separates the lasting part of the memory, which the journal holds, from values that the next poll reads again. Pure."""

from dataclasses import fields

from gpuvitals.health.state import GpuState
from gpuvitals.node.memory_format import GpuRecord, NodeRecord

READ_AGAIN = frozenset(
    {
        "reading",
        "dcgm_reading",
        "checkup",
        "last_ok_at",
        "margin_millicelsius",
        "links_down",
        "memory_percent",
        "ecc_uncorrected",
    }
)
"""Fields that change with nearly every poll. The periodic snapshot saves them."""
_LASTING_STATE = tuple(entry.name for entry in fields(GpuState) if entry.name not in READ_AGAIN)
_LASTING = tuple(entry.name for entry in fields(GpuRecord) if entry.name != "state")


def lasting_changes(before: NodeRecord, now: NodeRecord) -> tuple[GpuRecord, ...] | None:
    """The GPUs whose lasting part differs. None if GPUs came, went or changed places, or after another boot."""
    if before.boot_id != now.boot_id or len(before.gpus) != len(now.gpus):
        return None
    pairs = tuple(zip(before.gpus, now.gpus, strict=True))
    if any(was.gpu.uuid != entry.gpu.uuid for was, entry in pairs):
        return None
    return tuple(entry for was, entry in pairs if not _is_same(was, entry))


def _is_same(was: GpuRecord, now: GpuRecord) -> bool:
    if was is now:
        return True
    return _is_equal(was, now, _LASTING) and (
        was.state is now.state or _is_equal(was.state, now.state, _LASTING_STATE)
    )


def _is_equal(was: GpuRecord | GpuState, now: GpuRecord | GpuState, names: tuple[str, ...]) -> bool:
    return all(getattr(was, name) == getattr(now, name) for name in names)
