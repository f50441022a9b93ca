"""Records of a GPU's XIDs: episodes, claims that they hit, and whether they count."""

from dataclasses import replace
from typing import assert_never

from gpuvitals.health.fault_classes import CauseRule, FaultClass, worse
from gpuvitals.health.policy import Policy
from gpuvitals.health.state import MAX_MEETINGS, Meeting, XidRecord, unit_of
from gpuvitals.model.signal import Source, XidReport


def updated_record(known: XidRecord | None, signal: XidReport, rule: CauseRule, policy: Policy) -> XidRecord:
    """The record of the report's code and unit after the report. `known` is the earlier record, `rule` the report's rule."""
    return _counted(_recorded(known, signal, rule, policy), rule, signal.seen.at)


def is_duplicate(known: XidRecord, signal: XidReport, policy: Policy) -> bool:
    """Whether the report repeats a known one: NVML's XID event is the kernel's report without the status words.

    DCGM gets XIDs from the same event and reports them later.
    """
    if signal.source is Source.DCGM:
        return signal.seen.at - known.last_at <= policy.dcgm_report_seconds
    near = abs(signal.seen.at - known.last_at) <= policy.same_report_seconds
    return signal.source is Source.NVML_EVENT and near


def is_fault(fault_class: FaultClass, record: XidRecord) -> bool:
    """Whether the report opens a fault. An application's XID does so after it hit a second claim."""
    match fault_class:
        case FaultClass.A | FaultClass.B | FaultClass.B0:
            return True
        case FaultClass.C:
            return len(record.meetings) > 1
        case FaultClass.NONE:
            return False
        case _:
            assert_never(fault_class)


def _counted(record: XidRecord, rule: CauseRule, at: float) -> XidRecord:
    if not is_fault(rule.fault_class, record):
        return record
    return replace(record, counted_at=at if record.counted_at is None else max(at, record.counted_at))


def _recorded(known: XidRecord | None, signal: XidReport, rule: CauseRule, policy: Policy) -> XidRecord:
    """The record with this report. A resolved record is replaced by a new one."""
    at = signal.seen.at
    met = () if signal.claim is None else (Meeting(claim=signal.claim, at=at),)
    if known is None or known.resolved:
        return XidRecord(
            code=signal.code,
            unit=unit_of(signal.gpu_instance),
            rule=rule,
            episode_at=at,
            last_at=at,
            last_time=signal.seen.time,
            meetings=met,
            resolved=False,
            caused_by=signal.caused_by,
        )
    fresh = at - known.last_at >= policy.burst_silence_seconds
    return replace(
        known,
        rule=worse(known.rule, rule),
        episode_at=at if fresh else known.episode_at,
        last_at=max(at, known.last_at),
        last_time=max(signal.seen.time, known.last_time),
        meetings=_merge_meetings((*known.meetings, *met), policy),
        caused_by=signal.caused_by if fresh or known.caused_by is None else known.caused_by,
    )


def _merge_meetings(meetings: tuple[Meeting, ...], policy: Policy) -> tuple[Meeting, ...]:
    """Each claim once, with its latest time, within `xid_count_seconds` of the newest."""
    latest: dict[str, float] = {}
    for meeting in meetings:
        latest[meeting.claim] = max(meeting.at, latest.get(meeting.claim, meeting.at))
    end = max(latest.values(), default=0.0)
    recent = [(at, claim) for claim, at in latest.items() if end - at < policy.xid_count_seconds]
    return tuple(Meeting(claim=claim, at=at) for at, claim in sorted(recent)[-MAX_MEETINGS:])
