"""A change of what is published of one GPU. Pure."""

from dataclasses import dataclass, replace

from gpuvitals.model.clock import Moment
from gpuvitals.model.health import Verdict
from gpuvitals.model.ids import GpuUuid
from gpuvitals.node.state_store import GpuRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The verdict of a GPU now, and the one that was published before; None where none was."""

    uuid: GpuUuid
    before: Verdict | None
    now: Verdict
    isolated: bool
    spared: str


def with_change(entry: GpuRecord, change: Change, now: Moment) -> GpuRecord:
    """The record of the GPU with the change as its published verdict."""
    is_other = change.before is None or change.before.state is not change.now.state
    return replace(
        entry,
        published=change.now,
        published_at=now.at,
        state_since=now.time if is_other else entry.state_since,
        isolated=change.isolated,
        spared=change.spared,
    )
