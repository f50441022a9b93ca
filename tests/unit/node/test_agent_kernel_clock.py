"""The agent on a node whose kernel log has a clock of its own: a class A XID isolates whatever came before it."""

from pathlib import Path

import pytest

from gpuvitals.model.health import HealthState
from gpuvitals.model.signal import ExternalReport, ExternalReports, ReportedState, Source
from support.fakes.lagging_kernel_log import LaggingLog
from support.signals import moment
from support.worlds.agent_world import AgentWorld, reading

FAULTY = 3
BUS = "0000:03:00"


class Node:
    """An agent with eight GPUs, and the kernel log that it reads."""

    def __init__(self, folder: Path, lag: float) -> None:
        self.world = AgentWorld(folder)
        self.log = LaggingLog(at=50_000.0, lag=lag)
        self.feed, self.sink = self.log.feed()
        self.world.begin(self.log.at)

    def turn(self, seconds: float, *, action: int = 0) -> None:
        """So many seconds of polls, each 5 s apart."""
        until = self.log.at + seconds
        while self.log.at < until:
            self.log.at += 5
            asked = {FAULTY: action}
            polls = (reading(index, self.log.at, recovery_action=asked.get(index, 0)) for index in range(8))
            self.world.turn(self.log.at, *polls)

    def fails(self, code: int) -> None:
        """The GPU logs an XID, which is read at once."""
        self.feed.take([self.log.xid(code, after=2, bus=BUS)])
        heard, self.sink.signals[:] = list(self.sink.signals), []
        self.world.turn(self.log.at, *heard)

    @property
    def shown(self) -> tuple[HealthState, str, bool]:
        entry = self.world.published[-1].gpus[FAULTY]
        return entry.verdict.state, entry.verdict.reason, entry.isolated


@pytest.mark.parametrize("lag", [0.0, 10.0, 200.0, 3600.0])
def test_a_fault_soon_after_a_reset_isolates(tmp_path: Path, lag: float) -> None:
    """Finding R3"""
    node = Node(tmp_path, lag)
    node.fails(95)
    node.turn(30, action=1)
    node.turn(120)
    assert node.shown[1] == "Probation"
    node.fails(95)

    assert node.shown == (HealthState.UNHEALTHY, "Xid95", True)


@pytest.mark.parametrize("jump", [10.0, 200.0, 3600.0])
def test_a_fault_after_a_suspend_isolates(tmp_path: Path, jump: float) -> None:
    """Finding R3: the stamps begin to lag while the agent runs."""
    node = Node(tmp_path, 0.0)
    node.fails(95)
    node.turn(30, action=1)
    node.turn(120)
    node.log.suspend(jump)
    node.fails(48)

    assert node.shown == (HealthState.UNHEALTHY, "Xid48", True)


@pytest.mark.parametrize("lag", [0.0, 10.0, 200.0, 3600.0])
def test_a_fault_soon_after_an_operators_clear_isolates(tmp_path: Path, lag: float) -> None:
    """Finding R3"""
    node = Node(tmp_path, lag)
    node.fails(95)
    repaired = ExternalReport(
        gpu="GPU-3", state=ReportedState.CLEAR, by="jane", reason="ticket 123", at=moment(node.log.at + 1)
    )
    node.log.at += 2
    report = ExternalReports(source=Source.OPERATOR, seen=moment(node.log.at), reports=(repaired,))
    node.world.turn(node.log.at, report)
    node.turn(10)
    assert node.shown[1] == "Probation"
    node.fails(95)

    assert node.shown == (HealthState.UNHEALTHY, "Xid95", True)


@pytest.mark.parametrize("lag", [0.0, 200.0, 3600.0])
def test_an_event_of_nvml_and_the_kernels_line_are_one_report(tmp_path: Path, lag: float) -> None:
    """Finding R3: they are told apart by their times, so both have to be on one clock."""
    node = Node(tmp_path, lag)
    node.fails(95)
    first = node.world.agent.gpus[FAULTY].state.xids[0]

    assert first.last_at == pytest.approx(node.log.at, abs=0.01)
    assert node.world.observed[-1] == pytest.approx(node.log.at, abs=0.01)
