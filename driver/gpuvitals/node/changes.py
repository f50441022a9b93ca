"""Changes of the published state: a GPU's verdict, the set of devices, the facts about the node. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from gpuvitals.model.clock import Moment
from gpuvitals.model.health import Verdict
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.snapshot import NodeFacts, Snapshot
from gpuvitals.node.state_store import GpuRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The verdict of a GPU now, and the published one; None if there is none."""

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


def has_other_devices(
    published: Snapshot, gpus: Mapping[GpuUuid, GpuRecord], withheld: Mapping[GpuUuid, str]
) -> bool:
    """Whether a device was added or removed, or is offered in another form: whole, as instances, or not at all."""
    before = {
        entry.gpu.uuid: (entry.gpu.mig_enabled, entry.withheld)
        for entry in (*published.gpus, *published.replaced)
    }
    now = {
        uuid: (entry.gpu.mig_enabled, withheld.get(uuid, ""))
        for uuid, entry in gpus.items()
        if entry.published is not None
    }
    return before != now


def unexplained(
    facts: NodeFacts, gpus: Mapping[GpuUuid, GpuRecord], lacking: Collection[GpuUuid]
) -> NodeFacts:
    """The facts without the missing GPUs that are out of service: their own verdicts report them.

    A GPU that is out only because it is `lacking` files has no such verdict.
    """
    explained = {entry.gpu.bus_id for uuid, entry in gpus.items() if entry.isolated and uuid not in lacking}
    return replace(facts, missing_gpus=tuple(bus for bus in facts.missing_gpus if bus not in explained))
