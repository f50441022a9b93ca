"""Whatever people and programs say, in whatever order: no sibling is touched, programs stop at half a node, and words end."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuvitals.health.fault_classes import Clearing
from gpuvitals.model.health import HealthState
from gpuvitals.model.signal import ExternalReport, ExternalReports, ReportedState, Source
from support.long_runs import share
from support.signals import moment
from support.worlds.agent_world import AgentWorld, reading

GPUS = 4
STEP = 150.0
"""Seconds between two turns: three of them pass the dwell of a program's word."""

Words = tuple[Source, dict[int, ReportedState]]
words: st.SearchStrategy[Words] = st.tuples(
    st.sampled_from([Source.OPERATOR, Source.DROP_IN]),
    st.dictionaries(st.integers(1, GPUS - 1), st.sampled_from([ReportedState.BAD, ReportedState.DEGRADED])),
)


def report(at: float, words: Words) -> ExternalReports:
    source, about = words
    reports = (
        ExternalReport(gpu=f"GPU-{index}", state=says, by="someone", reason="x")
        for index, says in sorted(about.items())
    )
    return ExternalReports(source=source, seen=moment(at), reports=tuple(reports))


def check(course: list[Words]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = AgentWorld(Path(folder), gpus=GPUS)
        # Of two agents the one that does not publish writes no file: ten thousand courses are not for the disk.
        world.role.is_publisher = False
        world.begin()
        untouched = world.published[-1].gpus[0]
        at, standing = (
            1000.0,
            {Source.OPERATOR: dict[int, ReportedState](), Source.DROP_IN: dict[int, ReportedState]()},
        )
        for words in course:
            at, standing[words[0]] = at + STEP, words[1]
            told = report(at, words)
            world.turn(at, told, *(reading(index, at) for index in range(GPUS)))
            count = len(world.published)
            world.turn(at + 1, told, *(reading(index, at + 1) for index in range(GPUS)))
            _holds(world, standing)
            assert len(world.published) == count
            assert world.published[-1].gpus[0] == untouched
        at += STEP
        for source in standing:
            world.turn(at, report(at, (source, {})), *(reading(index, at) for index in range(GPUS)))
        faults = [fault for entry in world.agent.gpus for fault in entry.state.faults]

    assert not [fault for fault in faults if fault.rule.clearing is Clearing.RETRACTED]


def _holds(world: AgentWorld, standing: dict[Source, dict[int, ReportedState]]) -> None:
    shown = world.published[-1].gpus
    by_people = {index for index, says in standing[Source.OPERATOR].items() if says is ReportedState.BAD}
    for index in by_people:
        assert shown[index].isolated
        assert shown[index].verdict.state is HealthState.UNHEALTHY
    suspects = sum(entry.isolated and not entry.verdict.definitive for entry in shown)
    assert suspects <= max(0, GPUS // 2 - len(by_people))


@given(st.lists(words, max_size=8))
@settings(max_examples=100)
def test_words_isolate_as_far_as_they_may_and_end_when_they_are_taken_back(course: list[Words]) -> None:
    check(course)


@pytest.mark.long
@pytest.mark.timeout(1200)
@given(st.lists(words, max_size=8))
@settings(max_examples=share(10_000))
def test_words_isolate_as_far_as_they_may_over_ten_thousand_courses(course: list[Words]) -> None:
    check(course)
