"""Folds what people and programs say of a GPU: evidence that stands for as long as whoever gave it lets it stand.

A person's word is definitive: it isolates at once, whatever the rest of the node looks like. A program's is not: it
isolates after the dwell of class B and within the cap, since one that goes astray does so on every GPU at once.
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
    state: GpuState, source: Source, statements: tuple[ExternalReport, ...], seen: Moment, policy: Policy
) -> GpuState:
    """The state after everything that `source` says of this GPU now; what it said before and no longer says ends.

    Of several statements that amount to one reason the first is quoted. Only a person can clear.
    """
    said: dict[Reason, ExternalReport] = {}
    for statement in statements:
        if statement.says is not ReportedState.CLEAR:
            said.setdefault(_REASONS[source, statement.says], statement)
        elif source is Source.OPERATOR:
            state = _apply_clear_once(state, statement, seen, policy)
    for reason, statement in said.items():
        evidence = Evidence(
            rule=LEVELS[reason], seen=seen, source=source, detail=report_text(statement), level=True
        )
        state = raise_fault(state, evidence, policy)
    mine = {reason for (whose, _), reason in _REASONS.items() if whose is source}
    over = tuple(
        fault
        for fault in state.faults
        if fault.rule.clearing is Clearing.RETRACTED and fault.rule.reason in mine - said.keys()
    )
    # Taking a word back is no repair that failed to hold, unlike a program that changes its mind again and again.
    ending = Ending.OPERATOR if source is Source.OPERATOR else Ending.LEVEL
    return end_faults(state, over, End(ending=ending, at=seen.at, note="taken back or expired"), policy)


def _apply_clear_once(state: GpuState, statement: ExternalReport, seen: Moment, policy: Policy) -> GpuState:
    """The state after a clear. Each start of the agent reads the clear again, for as long as its annotation stands.

    Its time is of the clock of whoever wrote it. Where that clock is ahead, the same text read later would end a fault
    that came after it.
    """
    if statement.at is None:
        return state
    order = f"{statement.at.time.isoformat()} {report_text(statement)}"
    if order == state.last_clear:
        return state
    at = statement.at if statement.at.at <= seen.at else seen
    report = ClearReport(
        source=Source.OPERATOR, seen=at, uuid=state.uuid, operator_reason=report_text(statement)
    )
    return replace(cleared(state, report, policy), last_clear=order)


def report_text(statement: ExternalReport) -> str:
    """The statement in one line, as it stands in claims, events and explanations."""
    until = "" if statement.expires is None else f" (until {statement.expires:%Y-%m-%dT%H:%M:%SZ})"
    return f"{statement.by}: {statement.reason}{until}"
