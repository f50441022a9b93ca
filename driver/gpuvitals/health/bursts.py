"""Bursts of XIDs: one fault can cause XIDs on several units and GPUs. The root XID is the one to investigate."""

from collections.abc import Iterable
from dataclasses import dataclass

from gpuvitals.health.policy import Policy
from gpuvitals.health.state import GpuState, XidRecord
from gpuvitals.model.ids import GpuUuid

_CLEANUPS = frozenset({43, 45})
"""Cleanup XIDs, which follow another error and are never the root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BurstXid:
    """One XID of one unit in a burst, with its GPU."""

    gpu: GpuUuid
    record: XidRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """XIDs of a node without a gap of `burst_silence_seconds`, oldest first. Times are boot-clock seconds.

    `is_named`: the driver itself named `root` as the cause of the channels that it removed (XID 45).
    """

    first_at: float
    last_at: float
    xids: tuple[BurstXid, ...]
    root: BurstXid
    is_named: bool


def bursts(states: Iterable[GpuState], policy: Policy) -> tuple[Burst, ...]:
    """The bursts in the states, oldest first, separated by gaps of `burst_silence_seconds`.

    Each XID is in the burst of its newest episode. The root is the cause that the driver names, if it is in the burst,
    else the first XID of the worst class.
    """
    found = sorted(
        (BurstXid(gpu=state.uuid, record=record) for state in states for record in state.xids),
        key=lambda each: (each.record.episode_at, each.record.code, each.gpu, each.record.unit),
    )
    groups: list[list[BurstXid]] = []
    last_at = 0.0
    for each in found:
        if not groups or each.record.episode_at - last_at >= policy.burst_silence_seconds:
            groups.append([])
        groups[-1].append(each)
        last_at = max(last_at, each.record.last_at)
    return tuple(_burst(group) for group in groups)


def _burst(xids: list[BurstXid]) -> Burst:
    causes = {each.record.caused_by for each in xids}
    named = [each for each in xids if each.record.code in causes]
    starting = [each for each in xids if each.record.code not in _CLEANUPS]
    root = min(
        named or starting or xids,
        key=lambda each: (-each.record.rule.fault_class.rank, each.record.episode_at),
    )
    return Burst(
        first_at=xids[0].record.episode_at,
        last_at=max(each.record.last_at for each in xids),
        xids=tuple(xids),
        root=root,
        is_named=bool(named),
    )
