"""Repeated reports of one class B cause isolate, whatever lies between them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuvitals.health.verdict import next_change_at
from gpuvitals.model.health import HealthState
from gpuvitals.model.signal import Source, XidReport
from support.long_runs import share
from support.signals import BUS, POLICY, START, fold, good, judge, moment

SPACINGS = st.floats(1.0, 8 * 3600.0)
POLLS = st.sampled_from([5.0, 7.0, 31.0])
WORDS = st.sampled_from(
    [
        (1 << 4, 0, 0, 0, 0, 0, 0),
        (0x10000, 0, 0, 0, 0, 0, 0),
        (0, 0, 1, 0, 0, 0, 0),
        (0, 0, 0, 0, 1 << 28, 0, 0),
    ]
)


def broken_link(at: float, words: tuple[int, ...]) -> XidReport:
    return XidReport(source=Source.KMSG, seen=moment(at), bus_id=BUS, code=74, words=words)


def out_at(first: float, spacing: float, poll: float, words: tuple[int, ...], lines: int) -> float:
    """The instant at which the GPU leaves service, with a verdict at each report, poll and scheduled change."""
    state, now, due, seen = fold(good(first - 1)), first, first, first
    while now < first + 3 * spacing + 1000:
        if now >= due:
            state = fold(*(broken_link(due + line / 50, words) for line in range(lines)), state=state)
            due += spacing
        if now >= seen:
            state = fold(good(now), state=state)
            # For a spacing of hours only some polls are simulated: the verdict must change without them.
            seen = now + max(poll, spacing / 20)
        if judge(state, now).state is HealthState.UNHEALTHY:
            return now
        turns = next_change_at(state, now, POLICY)
        now = min(each for each in (due, seen, turns) if each is not None)
    raise AssertionError("stays in service")


def keep(spacing: float, poll: float, words: tuple[int, ...], lines: int) -> None:
    first = START + 10
    took = out_at(first, spacing, poll, words, lines) - first

    assert took <= 2 * spacing + 0.1
    if spacing < POLICY.dwell_seconds:
        assert took <= POLICY.dwell_seconds + 5


@settings(max_examples=500)
@given(SPACINGS, POLLS, WORDS, st.integers(1, 4))
def test_a_cause_that_is_reported_again_and_again_isolates(
    spacing: float, poll: float, words: tuple[int, ...], lines: int
) -> None:
    """Finding L1: within dwell + 5 s for spacings below the dwell, and at the third report for any."""
    keep(spacing, poll, words, lines)


@pytest.mark.long
@pytest.mark.timeout(1200)
@settings(max_examples=share(10_000))
@given(SPACINGS, POLLS, WORDS, st.integers(1, 4))
def test_a_cause_that_is_reported_again_and_again_isolates_at_length(
    spacing: float, poll: float, words: tuple[int, ...], lines: int
) -> None:
    """Finding L1"""
    keep(spacing, poll, words, lines)
