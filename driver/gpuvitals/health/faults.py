"""Opens, renews and ends faults; `evaluate` and the other folds are built on these functions."""

from dataclasses import dataclass, replace
from typing import assert_never

from gpuvitals.health.fault_classes import FLAPPING, CauseRule, Clearing, FaultClass, worse
from gpuvitals.health.policy import Policy
from gpuvitals.health.state import (
    MAX_EPISODES,
    MAX_PAST,
    Ending,
    Fault,
    GpuState,
    PastFault,
    Standing,
)
from gpuvitals.model.clock import Moment
from gpuvitals.model.ids import Reason
from gpuvitals.model.signal import Source

NVML_HUNG = Reason("NvmlHung")
_LEVEL_CLEARINGS = (Clearing.LEVEL, Clearing.RETRACTED)
"""The clearings of levels, which are bad for a period; the other clearings belong to events."""
_SAME_REPORT_SECONDS = 0.5
"""Lines within this time count as one report: one NVLink fault logs a line for each link."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The event that ended faults, and its time. `note` is the operator's reason."""

    ending: Ending
    at: float
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One observation of a fault. `level` is False for events, which come in episodes."""

    rule: CauseRule
    seen: Moment
    source: Source
    detail: str
    level: bool


def raise_fault(state: GpuState, evidence: Evidence, policy: Policy) -> GpuState:
    """Opens the fault or renews it. A renewal keeps the first instant and the worst class."""
    known = state.fault(evidence.rule.reason)
    fault = _opened(state, evidence) if known is None else _renewed(state, known, evidence, policy)
    if _is_suspect_level(fault) and state.suspect_since is None:
        runs = (*state.suspect_runs, evidence.seen.at)[-MAX_EPISODES:]
        state = replace(state, suspect_since=evidence.seen.at, suspect_runs=runs)
    return with_fault(state, fault)


def with_fault(state: GpuState, fault: Fault) -> GpuState:
    """`state` with the fault added or replaced. Faults are sorted by reason, one per reason."""
    others = (other for other in state.faults if other.rule.reason != fault.rule.reason)
    return replace(state, faults=tuple(sorted((*others, fault), key=lambda entry: entry.rule.reason)))


def isolates(state: GpuState, fault: Fault, now: float, policy: Policy) -> bool:
    """Whether the fault takes its GPU out of service: class A at once, class B after its dwell or when it recurs.

    An event recurs with a second episode within the dwell, with a third report within a day, or if it is reported again
    and not repaired by the end of the dwell. The dwell of levels runs for all class B levels together: a change from one
    bad level to another does not restart it.
    """
    match fault.rule.fault_class:
        case FaultClass.A:
            return True
        case FaultClass.B:
            if fault.rule.clearing is Clearing.QUIET:
                return True
            if fault.rule.clearing not in _LEVEL_CLEARINGS:
                return _has_recurred(fault, now, policy)
            return (
                _runs_repeat(state.suspect_runs, policy)
                or _level_duration(state, now, policy) >= policy.dwell_seconds
            )
        case FaultClass.B0 | FaultClass.C | FaultClass.NONE:
            return False
        case _:
            assert_never(fault.rule.fault_class)


def run_ends_at(fault: Fault, policy: Policy) -> float | None:
    """The latest instant at which a repeated event isolates; None if it was reported once."""
    if fault.run_since is None or fault.reports[-1] - fault.run_since < _SAME_REPORT_SECONDS:
        return None
    return fault.run_since + policy.dwell_seconds


def confirmed(fault: Fault, policy: Policy) -> bool:
    """Whether a degrading fault counts yet: an event at once, a level after `level_confirm_seconds` of bad readings.

    A level that the kernel logged, such as XID 154, counts at once, since no reading follows if the value can't be read.
    """
    if fault.rule.clearing is not Clearing.LEVEL or fault.rule.fault_class is not FaultClass.B0:
        return True
    if Source.KMSG in fault.sources:
        return True
    return fault.last_at - fault.first_at >= policy.level_confirm_seconds


def end_faults(state: GpuState, ended: tuple[Fault, ...], end: End, policy: Policy) -> GpuState:
    """`state` without the faults `ended`, which move to the history.

    If one of them had isolated the GPU, probation begins, longer after each relapse. A flapping GPU stays out of service.
    """
    if not ended:
        return state
    repaired = [fault for fault in ended if isolates(state, fault, end.at, policy)]
    reasons = {fault.rule.reason for fault in ended}
    kept = tuple(fault for fault in state.faults if fault.rule.reason not in reasons)
    if end.ending is not Ending.EXPIRY:
        # An expired fault is not repaired: its XID still lowers the score.
        state = _resolved(state, reasons)
    state = replace(state, faults=kept)
    if not any(_is_suspect_level(fault) for fault in kept):
        # Runs that isolated are followed by probation; the others are kept, since a second one isolates.
        runs = () if any(_is_suspect_level(fault) for fault in repaired) else state.suspect_runs
        state = replace(state, suspect_since=None, suspect_runs=runs)
    state = _with_history(state, ended, repaired, end)
    if not repaired:
        return state
    state = _on_probation(state, repaired, end.at, policy)
    return (
        replace(state, repairs=())
        if end.ending is Ending.OPERATOR
        else _latch_flapping(state, repaired, end.at, policy)
    )


def _resolved(state: GpuState, reasons: set[Reason]) -> GpuState:
    xids = tuple(
        replace(record, resolved=record.resolved or record.rule.reason in reasons) for record in state.xids
    )
    return replace(state, xids=xids)


def _on_probation(state: GpuState, repaired: list[Fault], at: float, policy: Policy) -> GpuState:
    """Starts probation. A fault that began after the last repair is a relapse, an earlier one the same incident."""
    relapses, repairs = state.relapses, state.repairs
    if state.repaired_at is None:
        relapses, repairs = 0, (at,)
    elif max(fault.first_at for fault in repaired) > state.repaired_at:
        relapses = relapses + 1 if at - state.repaired_at < policy.relapse_seconds else 0
        repairs = (*repairs, at)
    length = policy.probation_seconds * 2 ** min(relapses, policy.probation_doublings)
    return replace(
        state,
        repaired_at=at,
        relapses=relapses,
        repairs=repairs[-max(MAX_EPISODES, policy.flap_repairs) :],
        probation_until=at + length,
    )


def _latch_flapping(state: GpuState, repaired: list[Fault], at: float, policy: Policy) -> GpuState:
    """Raises Flapping on a GPU that was repaired too often (docs/adr/025). A further repair renews it."""
    known = state.fault(FLAPPING.reason)
    recent = tuple(start for start in state.repairs if at - start < policy.flap_window_seconds)
    if all(fault.rule.reason == FLAPPING.reason for fault in repaired) or (
        known is None and len(recent) < policy.flap_repairs
    ):
        return state
    worst = max((fault.rule.fault_class for fault in repaired), key=lambda entry: entry.rank)
    newest = max(repaired, key=lambda fault: fault.last_at)
    rule = replace(FLAPPING, fault_class=worst)
    latch = Fault(
        rule=rule if known is None else worse(known.rule, rule),
        standing=Standing.CURRENT,
        first_at=at if known is None else known.first_at,
        last_at=at,
        last_time=newest.last_time,
        episodes=recent[-MAX_EPISODES:],
        good_since=None,
        sources=newest.sources,
        detail=f"{FLAPPING.meaning}; most recently {newest.rule.reason}",
    )
    return with_fault(state, latch)


def _with_history(state: GpuState, ended: tuple[Fault, ...], repaired: list[Fault], end: End) -> GpuState:
    past = list(state.past)
    for fault in ended:
        entry = PastFault(
            reason=fault.rule.reason,
            ending=end.ending,
            isolated=fault in repaired,
            times=1,
            first_at=fault.first_at,
            ended_at=end.at,
            note=end.note,
        )
        known = next((other for other in past if _is_same_entry(other, entry)), None)
        if known is not None:
            past.remove(known)
            entry = replace(entry, times=known.times + 1, first_at=known.first_at)
        past.append(entry)
    return replace(state, past=tuple(past[-MAX_PAST:]))


def _is_same_entry(one: PastFault, other: PastFault) -> bool:
    return (one.reason, one.ending, one.isolated) == (other.reason, other.ending, other.isolated)


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
        reports=(evidence.seen.at,) if evidence.rule.fault_class is FaultClass.B else (),
        run_since=evidence.seen.at if _is_event_of_class_b(evidence) else None,
    )


def _renewed(state: GpuState, known: Fault, evidence: Evidence, policy: Policy) -> Fault:
    newer = evidence.seen.at > known.last_at
    if _is_event_of_class_b(evidence):
        known = _with_report(known, evidence.seen.at, policy)
    elif known.good_since is not None and evidence.rule.fault_class is FaultClass.B:
        known = replace(known, reports=(*known.reports, evidence.seen.at)[-MAX_EPISODES:])
    episodes = known.episodes
    if not evidence.level and evidence.seen.at - known.last_at >= policy.burst_silence_seconds:
        episodes = (*episodes, evidence.seen.at)[-MAX_EPISODES:]
    return replace(
        known,
        rule=worse(known.rule, evidence.rule),
        standing=Standing.CURRENT if evidence.seen.at >= state.started_at else known.standing,
        first_at=min(known.first_at, evidence.seen.at),
        last_at=max(known.last_at, evidence.seen.at),
        last_time=evidence.seen.time if newer else known.last_time,
        episodes=episodes,
        good_since=None,
        sources=known.sources | {evidence.source},
        detail=evidence.detail if newer else known.detail,
    )


def _is_event_of_class_b(evidence: Evidence) -> bool:
    return not evidence.level and evidence.rule.fault_class is FaultClass.B


def _is_suspect_level(fault: Fault) -> bool:
    return fault.rule.fault_class is FaultClass.B and fault.rule.clearing in _LEVEL_CLEARINGS


def _level_duration(state: GpuState, now: float, policy: Policy) -> float:
    """Seconds for which class B levels have been bad without interruption.

    A level lasts until its last bad reading. A flapping level is one fault, so it includes good readings that did not
    clear it. A hang lasts until the next good reading, an external report until it is retracted.
    """
    if state.suspect_since is None:
        return 0.0
    ends = [_lasts_until(fault, now, policy) for fault in state.faults if _is_suspect_level(fault)]
    return max(ends, default=state.suspect_since) - state.suspect_since


def _lasts_until(fault: Fault, now: float, policy: Policy) -> float:
    if fault.rule.clearing is Clearing.RETRACTED:
        return now
    if fault.good_since is None:
        return now if fault.rule.reason == NVML_HUNG else fault.last_at
    is_flapping = len(fault.reports) > 1
    return min(now, fault.good_since + policy.level_clear_seconds) if is_flapping else fault.last_at


def _has_recurred(fault: Fault, now: float, policy: Policy) -> bool:
    ends = run_ends_at(fault, policy)
    is_often = _is_within(fault.episodes, policy.dwell_episodes, policy.dwell_seconds)
    is_often = is_often or _is_within(fault.reports, policy.repeat_reports, policy.xid_count_seconds)
    return is_often or (ends is not None and now >= ends)


def _runs_repeat(starts: tuple[float, ...], policy: Policy) -> bool:
    is_often = _is_within(starts, policy.dwell_episodes, policy.dwell_seconds)
    return is_often or _is_within(starts, policy.repeat_reports, policy.xid_count_seconds)


def _is_within(starts: tuple[float, ...], count: int, seconds: float) -> bool:
    """Whether any `count` consecutive starts are within `seconds`."""
    return any(last - first <= seconds for first, last in zip(starts, starts[count - 1 :], strict=False))


def _with_report(known: Fault, at: float, policy: Policy) -> Fault:
    """`known` with a class B report at `at`, which may be older than the newest report."""
    if any(abs(at - start) < _SAME_REPORT_SECONDS for start in known.reports):
        return known
    reports = tuple(sorted((*known.reports, at)))[-MAX_EPISODES:]
    return replace(known, reports=reports, run_since=_run_since(known, at, policy))


def _run_since(known: Fault, at: float, policy: Policy) -> float:
    """The start of the run of reports, after the report at `at`."""
    since = known.run_since
    if since is None:
        return at
    if at < since:
        return at if since - at < policy.dwell_seconds else since
    if _has_recurred(known, at, policy):
        # An isolating fault keeps isolating after the reports that caused it were dropped.
        return min(since, at - policy.dwell_seconds)
    return at if at - known.reports[-1] >= policy.dwell_seconds else since
