"""Opening, renewing and ending faults: the small steps that `evaluate` and `advance` are made of."""

from dataclasses import dataclass, replace

from gpuvitals.health.fault_classes import CauseRule, Clearing, FaultClass
from gpuvitals.health.policy import Policy
from gpuvitals.health.state import MAX_EPISODES, Fault, GpuState, Standing
from gpuvitals.model.clock import Moment
from gpuvitals.model.signal import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One observation of a cause. `level` is False for events, which come in episodes."""

    rule: CauseRule
    seen: Moment
    source: Source
    detail: str
    level: bool


def raise_fault(state: GpuState, evidence: Evidence, policy: Policy) -> GpuState:
    """Opens the fault or renews it. Never lowers anything: a renewal keeps the first instant and the worst class."""
    known = state.fault(evidence.rule.reason)
    if known is None:
        return _with(state, _opened(state, evidence))
    rule = max(known.rule, evidence.rule, key=lambda rule: rule.fault_class.rank)
    apart = abs(evidence.seen.at - known.last_at) >= policy.burst_silence_seconds
    episodes = known.episodes
    if not evidence.level and apart and evidence.seen.at not in episodes:
        episodes = tuple(sorted((*episodes, evidence.seen.at)))[-MAX_EPISODES:]
    newer = evidence.seen.at >= known.last_at
    renewed = replace(
        known,
        rule=rule,
        standing=Standing.CURRENT if evidence.seen.at >= state.started_at else known.standing,
        first_at=min(known.first_at, evidence.seen.at),
        last_at=max(known.last_at, evidence.seen.at),
        last_time=evidence.seen.time if newer else known.last_time,
        episodes=episodes,
        good_since=None,
        sources=known.sources | {evidence.source},
        detail=evidence.detail if newer else known.detail,
    )
    return _with(state, renewed)


def isolating(fault: Fault, now: float, policy: Policy) -> bool:
    """Whether the fault takes its GPU out of service at `now`: class A at once, B after its dwell or a second episode."""
    match fault.rule.fault_class:
        case FaultClass.A:
            return True
        case FaultClass.B:
            if fault.rule.clearing is Clearing.LEVEL:
                until = now if fault.good_since is None else fault.good_since
                return until - fault.first_at >= policy.dwell_seconds
            return _crowded(fault.episodes, policy)
        case FaultClass.B0 | FaultClass.C | FaultClass.NONE:
            return False


def confirmed(fault: Fault, now: float, policy: Policy) -> bool:
    """Whether a degrading fault shows yet: an event at once, a level once it was read bad long enough."""
    if fault.rule.clearing is not Clearing.LEVEL or fault.rule.fault_class is not FaultClass.B0:
        return True
    until = now if fault.good_since is None else fault.good_since
    return until - fault.first_at >= policy.level_confirm_seconds


def end_faults(state: GpuState, ended: tuple[Fault, ...], at: float, policy: Policy) -> GpuState:
    """`state` without `ended`. A GPU that one of them had isolated goes on probation, longer at each relapse."""
    if not ended:
        return state
    reasons = {fault.rule.reason for fault in ended}
    kept = tuple(fault for fault in state.faults if fault.rule.reason not in reasons)
    codes = {reason.removeprefix("Xid") for reason in reasons}
    xids = tuple(
        replace(record, resolved=record.resolved or str(record.code) in codes) for record in state.xids
    )
    state = replace(state, faults=kept, xids=xids)
    repaired = [fault for fault in ended if isolating(fault, at, policy)]
    return _on_probation(state, repaired, at, policy) if repaired else state


def _on_probation(state: GpuState, repaired: list[Fault], at: float, policy: Policy) -> GpuState:
    """A fault that began after the last repair is a relapse; one that began before it belongs to the same incident."""
    relapses = state.relapses
    if state.repaired_at is None:
        relapses = 0
    elif max(fault.first_at for fault in repaired) > state.repaired_at:
        relapses = relapses + 1 if at - state.repaired_at < policy.relapse_seconds else 0
    length = policy.probation_seconds * 2 ** min(relapses, policy.probation_doublings)
    return replace(state, repaired_at=at, relapses=relapses, probation_until=at + length)


def _opened(state: GpuState, evidence: Evidence) -> Fault:
    early = evidence.seen.at < state.started_at
    return Fault(
        rule=evidence.rule,
        standing=Standing.BEFORE_START if early else Standing.CURRENT,
        first_at=evidence.seen.at,
        last_at=evidence.seen.at,
        last_time=evidence.seen.time,
        episodes=(evidence.seen.at,),
        good_since=None,
        sources=frozenset({evidence.source}),
        detail=evidence.detail,
    )


def _with(state: GpuState, fault: Fault) -> GpuState:
    others = (other for other in state.faults if other.rule.reason != fault.rule.reason)
    return replace(state, faults=tuple(sorted((*others, fault), key=lambda entry: entry.rule.reason)))


def _crowded(episodes: tuple[float, ...], policy: Policy) -> bool:
    wanted = policy.dwell_episodes
    starts = episodes[-MAX_EPISODES:]
    return any(
        starts[index + wanted - 1] - starts[index] <= policy.dwell_seconds
        for index in range(len(starts) - wanted + 1)
    )
