"""A GPU that was repaired again and again stays out until an operator or hours of quiet: docs/adr/025."""

import msgspec
import pytest

from gpuvitals.health.clearing import after_restart
from gpuvitals.health.evaluate import advance
from gpuvitals.health.state import MAX_PAST, Ending, GpuState
from gpuvitals.model.health import HealthState, Phase
from gpuvitals.model.signal import ClearReport, Reading, Source
from support.signals import POLICY, UUID, fold, good, identity, judge, links, moment, xid

QUIET = POLICY.flap_quiet_seconds


def failed_and_reset(at: float, state: GpuState) -> GpuState:
    return fold(xid(79, at), identity(at + 10), good(at + 20), state=state)


def flapping(start: float = 2000.0) -> GpuState:
    """Failed and reset three times within the hour, the last time read at `start` + 1220."""
    state = fold(good(1000))
    for number in range(3):
        state = failed_and_reset(start + 600 * number, state)
    return state


def watched(start: float, end: float) -> list[Reading]:
    """A good reading every 50 s."""
    return [good(start + 50 * step) for step in range(int((end - start) // 50) + 1)]


def order(at: float) -> ClearReport:
    return ClearReport(source=Source.OPERATOR, seen=moment(at), uuid=UUID, operator_reason="ticket 123")


def test_the_third_repair_within_a_day_does_not_count() -> None:
    twice = failed_and_reset(2600, failed_and_reset(2000, fold(good(1000))))
    thrice = flapping()

    assert judge(twice, 2620).phase is Phase.PROBATION
    verdict = judge(thrice, 3220)
    assert (verdict.state, verdict.reason, verdict.score) == (HealthState.UNHEALTHY, "Flapping", 0)
    assert verdict.definitive
    assert "Xid79" in verdict.message


def test_three_repairs_in_more_than_a_day_are_none_too_many() -> None:
    state = fold(good(1000))
    for number in range(5):
        at = 2000 + number * (POLICY.flap_window_seconds // 2 + 60)
        state = failed_and_reset(at, state)

    assert judge(state, at + 20).phase is Phase.PROBATION


def test_suspicion_that_comes_back_is_latched_without_becoming_definitive() -> None:
    """Links that fail for five minutes, thrice: the cap of the node still holds for such a GPU."""
    state = fold(good(1000))
    for number in range(3):
        start = 2000 + 1000 * number
        bad = [good(start + step, links=links(8)) for step in range(0, 311, 10)]
        state = fold(*bad, *(good(start + 320 + step) for step in range(0, 71, 10)), state=state)

    verdict = judge(state, 4400)
    assert (verdict.state, verdict.reason, verdict.definitive) == (HealthState.UNHEALTHY, "Flapping", False)


def test_hours_that_were_watched_end_it_on_probation() -> None:
    state = flapping()
    before = fold(*watched(3250, 3220 + QUIET - 60), state=state)
    after = advance(fold(*watched(3250, 3220 + QUIET), state=state), 3220 + QUIET, POLICY)

    assert judge(before, 3220 + QUIET - 50).reason == "Flapping"
    assert judge(after, 3220 + QUIET).phase is Phase.PROBATION
    assert after.probation_until == 3220 + QUIET + 4 * POLICY.probation_seconds


@pytest.mark.parametrize("age", [0.0, 90_000.0], ids=["blind", "no agent"])
def test_hours_in_which_nobody_looked_are_no_quiet(age: float) -> None:
    state = after_restart(flapping(), same_boot=True, same_driver_load=True, age_seconds=age)
    later = 3300 + age + (QUIET if not age else 100)
    state = fold(good(later), state=state)

    assert judge(state, later).reason == "Flapping"


def test_another_failure_begins_the_quiet_anew() -> None:
    relapsed = failed_and_reset(3220 + QUIET - 100, fold(*watched(3250, 3000 + QUIET), state=flapping()))
    at = 3220 + QUIET + 1000
    state = fold(*watched(3220 + QUIET, at), state=relapsed)

    assert judge(state, at).reason == "Flapping"


@pytest.mark.parametrize("same_boot", [True, False], ids=["driver load", "boot"])
def test_neither_a_boot_nor_a_driver_load_ends_it(same_boot: bool) -> None:
    state = after_restart(flapping(), same_boot=same_boot, same_driver_load=False, age_seconds=60)
    at = 4000.0 if same_boot else 50.0

    assert judge(fold(good(at), state=state), at).reason == "Flapping"


def test_an_operator_ends_it_and_the_count_begins_anew() -> None:
    cleared = fold(order(3300), good(3301), state=flapping())

    assert judge(cleared, 3301).phase is Phase.PROBATION
    assert judge(failed_and_reset(3600, cleared), 3620).phase is Phase.PROBATION


def test_a_gpu_that_only_degrades_is_never_latched() -> None:
    state, at = fold(good(1000)), 1000
    for _ in range(20):
        bad = [good(at + step, links=links(17)) for step in range(10, 41, 10)]
        state = fold(*bad, *(good(at + step) for step in range(50, 121, 10)), state=state)
        at += 130

    assert judge(state, at).state is HealthState.HEALTHY
    (past,) = state.past
    assert (past.reason, past.ending, past.isolated, past.times) == (
        "NvlinkDegraded",
        Ending.LEVEL,
        False,
        20,
    )


def test_the_history_says_what_ended_each_fault_and_keeps_the_operators_reason() -> None:
    state = fold(order(3300), good(3301), state=flapping())

    assert [(entry.reason, entry.ending, entry.times, entry.note) for entry in state.past] == [
        ("Xid79", Ending.RESET, 3, ""),
        ("Flapping", Ending.OPERATOR, 1, "ticket 123"),
    ]
    assert all(entry.isolated for entry in state.past)
    stored = msgspec.json.decode(msgspec.json.encode(state), type=GpuState)
    assert after_restart(stored, same_boot=True, same_driver_load=True, age_seconds=0).past == state.past
    booted = after_restart(stored, same_boot=False, same_driver_load=False, age_seconds=60)
    assert [entry.reason for entry in booted.past] == ["Xid79", "Flapping"]
    assert all(entry.ended_at <= -60 for entry in booted.past)


def test_the_history_is_bounded_whatever_happens() -> None:
    state = fold(good(1000))
    for code in range(1000, 1000 + 3 * MAX_PAST):
        state = fold(xid(code, 1010 + code), identity(1011 + code), good(1012 + code), state=state)

    assert len(state.past) == MAX_PAST
    assert state.past[-1].reason == f"Xid{999 + 3 * MAX_PAST}"
