"""Reports of operators and programs: their effect and their end."""

from datetime import timedelta

import pytest

from gpuvitals.health.clearing import after_restart
from gpuvitals.health.evaluate import advance
from gpuvitals.health.fold_reports import fold_reports
from gpuvitals.health.policy import Policy
from gpuvitals.health.state import Ending, GpuState
from gpuvitals.health.witnesses import Witness, witnesses
from gpuvitals.model.health import Confidence, HealthState, Phase
from gpuvitals.model.ids import Reason
from gpuvitals.model.signal import ClearReport, ExternalReport, ReportedState, Source
from support.signals import UUID, fold, good, judge, moment, xid

POLICY = Policy()
PERSON, PROGRAM = Source.OPERATOR, Source.DROP_IN


def says(what: ReportedState, by: str = "jane", at: float | None = None) -> ExternalReport:
    return ExternalReport(
        gpu=UUID, state=what, by=by, reason="ticket 123", at=None if at is None else moment(at)
    )


def told(state: GpuState, source: Source, at: float, *reports: ExternalReport) -> GpuState:
    return fold_reports(advance(state, at, POLICY), source, reports, moment(at), POLICY)


def test_a_persons_word_isolates_at_once_and_is_definitive() -> None:
    judged = judge(told(fold(good(1000)), PERSON, 1001, says(ReportedState.BAD)), 1001)

    assert (judged.state, judged.score, judged.reason) == (HealthState.UNHEALTHY, 0, "ReportedBad")
    assert judged.definitive
    assert judged.message == "ReportedBad: jane: ticket 123; unfit until the report is retracted or expires"
    assert judged.confidence is Confidence.SINGLE


def test_a_programs_word_isolates_after_the_dwell_and_is_not_definitive() -> None:
    state = told(fold(good(1000)), PROGRAM, 1001, says(ReportedState.BAD, "burn-in"))
    state = fold(*(good(at) for at in range(1005, 1300, 5)), state=state)
    early, late = judge(state, 1300), judge(fold(good(1301), state=state), 1301)

    assert (early.state, early.phase, early.reason) == (
        HealthState.DEGRADED,
        Phase.SUSPECT,
        "ProgramReportedBad",
    )
    assert (late.state, late.definitive) == (HealthState.UNHEALTHY, False)


@pytest.mark.parametrize(
    ("source", "reason"), [(PERSON, "ReportedDegraded"), (PROGRAM, "ProgramReportedDegraded")]
)
def test_degraded_is_degraded_at_once_and_never_isolates(source: Source, reason: str) -> None:
    state = told(fold(good(1000)), source, 1001, says(ReportedState.DEGRADED))
    judged = [judge(fold(good(at), state=state), at) for at in (1001.5, 90_000)]

    assert {(each.state, each.reason, each.score) for each in judged} == {(HealthState.DEGRADED, reason, 90)}


def test_what_is_taken_back_is_followed_by_probation_and_stays_in_the_history() -> None:
    state = told(fold(good(1000)), PERSON, 1001, says(ReportedState.BAD))
    state = told(state, PERSON, 1100)
    judged = judge(fold(good(1101), state=state), 1101)

    assert (judged.state, judged.phase) == (HealthState.DEGRADED, Phase.PROBATION)
    (past,) = state.past
    assert (past.reason, past.ending, past.note) == (
        "ReportedBad",
        Ending.OPERATOR,
        "retracted or expired",
    )


def test_a_program_that_changes_its_mind_again_and_again_is_flapping() -> None:
    state = fold(good(1000))
    for at in range(1001, 4000, 900):
        state = told(state, PROGRAM, at, says(ReportedState.BAD, "burn-in"))
        state = fold(good(at + 400), state=state)
        state = told(state, PROGRAM, at + 401)

    assert state.fault(Reason("Flapping")) is not None


def test_neither_time_nor_good_readings_nor_a_reset_nor_a_boot_ends_it() -> None:
    state = told(fold(good(1000)), PERSON, 1001, says(ReportedState.BAD))
    state = fold(*(good(at) for at in range(1005, 1400, 5)), state=state)
    rebooted = after_restart(state, same_boot=False, same_driver_load=False, age_seconds=60)
    rebooted = fold(good(30), good(90_000), state=rebooted)

    assert judge(state, 1400).reason == "ReportedBad"
    assert judge(rebooted, 90_000).reason == "ReportedBad"


def test_a_clear_ends_what_is_older_than_it_and_not_what_came_after() -> None:
    state = fold(good(1000), xid(79, 1010), xid(95, 1050))
    state = told(state, PERSON, 1060, says(ReportedState.CLEAR, at=1020))
    state = fold(good(1061), state=state)

    assert [fault.rule.reason for fault in state.faults] == ["Xid95"]
    again = told(state, PERSON, 1100, says(ReportedState.CLEAR, at=1020))
    assert again.faults == state.faults
    cleared = told(state, PERSON, 1070, says(ReportedState.CLEAR, at=1065))
    judged = judge(fold(good(1071), state=cleared), 1071)
    assert (judged.state, judged.phase) == (HealthState.DEGRADED, Phase.PROBATION)


@pytest.mark.parametrize("ahead", [0.0, 240.0])
def test_a_clear_ends_nothing_newer_when_it_is_read_again(ahead: float) -> None:
    """Finding R3: its time is of the writer's clock, and each start of the agent reads it again."""
    order = says(ReportedState.CLEAR, at=1100 + ahead)
    state = told(fold(good(1000), xid(48, 1001)), PERSON, 1101, order)
    state = fold(good(1102), xid(95, 1200), state=state)
    again = told(state, PERSON, 1400, order)
    older = told(fold(good(1000), xid(48, 1001)), PERSON, 1101, order, order)

    assert judge(fold(good(1401), state=again), 1401).reason == "Xid95"
    assert judge(fold(good(1102), state=older), 1102).phase is Phase.PROBATION
    cleared = told(again, PERSON, 1500, says(ReportedState.CLEAR, at=1499))
    assert judge(fold(good(1501), state=cleared), 1501).phase is Phase.PROBATION


def test_a_clear_does_not_end_what_is_still_being_said() -> None:
    state = told(fold(good(1000)), PROGRAM, 1001, says(ReportedState.BAD, "burn-in"))
    state = told(state, PERSON, 1010, says(ReportedState.CLEAR, at=1009))
    order = ClearReport(source=PERSON, seen=moment(1020), uuid=UUID, operator_reason="x")

    assert [fault.rule.reason for fault in fold(order, state=state).faults] == ["ProgramReportedBad"]


def test_sources_do_not_take_back_each_others_words() -> None:
    state = told(fold(good(1000)), PROGRAM, 1001, says(ReportedState.DEGRADED, "burn-in"))
    state = told(state, PERSON, 1002, says(ReportedState.BAD))
    state = told(state, PERSON, 1003)

    assert [fault.rule.reason for fault in state.faults] == ["ProgramReportedDegraded"]


def test_a_word_is_a_witness_of_its_own_and_never_the_drivers() -> None:
    state = told(fold(good(1000)), PERSON, 1001, says(ReportedState.BAD))

    assert witnesses(state, state.faults[0]) == {Witness.PERSON}


def test_an_end_is_quoted() -> None:
    ends = moment(1000).time + timedelta(days=1)
    report = ExternalReport(gpu=UUID, state=ReportedState.BAD, by="jane", reason="hot", expires=ends)
    judged = judge(told(fold(good(1000)), PERSON, 1001, report), 1001)

    assert "jane: hot (until 2026-11-25T00:16:40Z)" in judged.message
