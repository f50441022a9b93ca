"""Folds operator and program reports of a GPU. A report is evidence until its author retracts it or it expires.

An operator's report is definitive: it isolates at once, whatever the state of the rest of the node. A program's report
isolates after the dwell of class B and within the cap, since a faulty program reports every GPU at once.
"""

from dataclasses import replace

from gpuvitals.health.clearing import cleared
from gpuvitals.health.fault_classes import LEVELS, Clearing
from gpuvitals.health.faults import End, Evidence, end_faults, raise_fault
from gpuvitals.health.policy import Policy
from gpuvitals.health.state import Ending, GpuState
from gpuvitals.model.clock import Moment
from gpuvitals.model.ids import Reason
from gpuvitals.model.signal import ClearReport, ExternalReport, ReportedState, Source

_REASONS = {
    (Source.OPERATOR, ReportedState.BAD): Reason("ReportedBad"),
    (Source.OPERATOR, ReportedState.DEGRADED): Reason("ReportedDegraded"),
    (Source.DROP_IN, ReportedState.BAD): Reason("ProgramReportedBad"),
    (Source.DROP_IN, ReportedState.DEGRADED): Reason("ProgramReportedDegraded"),
}


def fold_reports(
    state: GpuState, source: Source, reports: tuple[ExternalReport, ...], seen: Moment, policy: Policy
) -> GpuState:
    """The state with exactly these reports of `source` in force; its earlier reports that are missing here end.

    The first of several reports with one reason is quoted. Only an operator can clear.
    """
    current: dict[Reason, ExternalReport] = {}
    for report in reports:
        if report.state is not ReportedState.CLEAR:
            current.setdefault(_REASONS[source, report.state], report)
        elif source is Source.OPERATOR:
            state = _apply_clear_once(state, report, seen, policy)
    for reason, report in current.items():
        evidence = Evidence(
            rule=LEVELS[reason], seen=seen, source=source, detail=report_text(report), level=True
        )
        state = raise_fault(state, evidence, policy)
    own_reasons = {reason for (author, _), reason in _REASONS.items() if author is source}
    over = tuple(
        fault
        for fault in state.faults
        if fault.rule.clearing is Clearing.RETRACTED and fault.rule.reason in own_reasons - current.keys()
    )
    # An operator's retraction is no failed repair. A program that retracts again and again counts as flapping.
    ending = Ending.OPERATOR if source is Source.OPERATOR else Ending.LEVEL
    return end_faults(state, over, End(ending=ending, at=seen.at, note="retracted or expired"), policy)


def _apply_clear_once(state: GpuState, clear: ExternalReport, seen: Moment, policy: Policy) -> GpuState:
    """The state after a clear. The agent reads the clear again at each start, for as long as the annotation exists.

    The time of the clear comes from its author's clock. If that clock is ahead, the same text would end a later
    fault when it is read again, so the state remembers the clear that was applied last.
    """
    if clear.at is None:
        return state
    order = f"{clear.at.time.isoformat()} {report_text(clear)}"
    if order == state.last_clear:
        return state
    at = clear.at if clear.at.at <= seen.at else seen
    signal = ClearReport(source=Source.OPERATOR, seen=at, uuid=state.uuid, operator_reason=report_text(clear))
    return replace(cleared(state, signal, policy), last_clear=order)


def report_text(report: ExternalReport) -> str:
    """The report in one line, as claims, events and explanations show it."""
    until = "" if report.expires is None else f" (until {report.expires:%Y-%m-%dT%H:%M:%SZ})"
    return f"{report.by}: {report.reason}{until}"
