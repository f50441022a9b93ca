"""A class A XID is never discarded as history, however far the kernel log's clock is from the boot clock."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuvitals.health.fault_classes import FaultClass
from gpuvitals.health.xid_catalog import CATALOG
from gpuvitals.health.xid_rules import xid_rule
from gpuvitals.model.health import HealthState
from gpuvitals.model.signal import ClearReport, IdentityReport, Source, XidReport
from gpuvitals.signals.kmsg.record_stream import RecordStream
from support.fakes.lagging_kernel_log import LaggingLog
from support.long_runs import share
from support.signals import UUID, fold, good, judge, moment, xid
from support.worlds.nvml_world import Recorder

CLASS_A = sorted(code for code in CATALOG if xid_rule(xid(code, 0)).fault_class is FaultClass.A)
BEGAN = 1_000_000.0
SECONDS = st.sampled_from([0.0, 0.001, 0.4, 3.0, 10.0, 170.0, 3600.0])
LAGS = st.one_of(st.sampled_from([0.0, 10.0, 200.0, 3600.0]), st.floats(-60.0, 100_000.0))
STEPS = st.one_of(
    st.tuples(st.just("xid"), st.sampled_from(CLASS_A)),
    st.tuples(st.just("identity"), st.just(0)),
    st.tuples(st.just("noise"), st.integers(1, 3)),
    st.tuples(st.just("read"), st.just(0)),
    st.tuples(st.just("poll"), st.just(0)),
    st.tuples(st.just("asked for a reset"), st.just(0)),
    st.tuples(st.just("clear"), st.just(0)),
    st.tuples(st.just("suspend"), st.sampled_from([5.0, 200.0, 3600.0])),
    st.tuples(st.just("drift"), st.floats(-0.5, 30.0)),
    st.tuples(st.just("restart"), st.just(0)),
)


@dataclass
class Node:
    """One GPU, a kernel log on a clock of its own, and the agent's reader of it, which may be behind and restart.

    `is_faulty`: of all that the reader has seen, the newest thing that matters is a class A XID.
    """

    log: LaggingLog
    sink: Recorder = field(default_factory=Recorder)
    read: int = 0
    is_faulty: bool = False

    def __post_init__(self) -> None:
        self.log.noise()
        self.feed = self._reader(None)
        self.state = fold(good(BEGAN))
        self._is_backlog = False
        self._unread: list[bool] = []

    def step(self, what: str, amount: float) -> None:
        match what:
            case "xid":
                self.log.xid(int(amount))
                self._unread.append(True)
            case "identity":
                self.log.identity()
                self._unread.append(False)
            case "noise":
                for _ in range(int(amount)):
                    self.log.noise()
            case "read":
                self._read()
            case "poll":
                self.state = fold(good(self.log.at), state=self.state)
            case "asked for a reset":
                # The driver asks, a reset follows, and the next poll reads that nothing is asked for.
                self._read()
                self.state = fold(good(self.log.at, recovery_action=1), state=self.state)
                self.log.at += 60
                self.state = fold(good(self.log.at), state=self.state)
                self.is_faulty = False
            case "clear":
                order = ClearReport(
                    source=Source.OPERATOR, seen=moment(self.log.at), uuid=UUID, operator_reason="ticket"
                )
                self.state = fold(order, state=self.state)
                self.is_faulty = False
                self._unread = [is_fault for is_fault in self._unread if not is_fault]
            case "suspend":
                self.log.suspend(amount)
            case "drift":
                self.log.lag += amount
            case "restart":
                self.feed = self._reader(self.feed.sequence)
                self._is_backlog = True
            case _:
                raise AssertionError(what)

    def _reader(self, resume_after: int | None) -> RecordStream:
        return RecordStream(self.log, self.sink, resume_after=resume_after, accept_user_facility=False)

    def _read(self) -> None:
        self.feed.hold(self.log.written[self.read :])
        self.feed.release(self.log.at if self._is_backlog else None)
        self.read, self._is_backlog = len(self.log.written), False
        signals, self.sink.signals[:] = list(self.sink.signals), []
        for signal in signals:
            assert isinstance(signal, XidReport | IdentityReport)
            self.state = fold(signal, state=self.state)
        for is_fault in self._unread:
            self.is_faulty = is_fault
        self._unread = []


def keep(lag: float, steps: list[tuple[float, tuple[str, float]]]) -> None:
    node = Node(log=LaggingLog(at=BEGAN, lag=lag))
    for seconds, (what, amount) in steps:
        node.log.at += seconds
        node.step(what, amount)
        if node.is_faulty:
            assert judge(node.state, node.log.at).state is HealthState.UNHEALTHY
    node.step("read", 0)
    node.log.at += 5
    node.step("poll", 0)
    if node.is_faulty:
        assert judge(node.state, node.log.at).state is HealthState.UNHEALTHY


HISTORIES = st.lists(st.tuples(SECONDS, STEPS), max_size=15)


@settings(max_examples=500)
@given(LAGS, HISTORIES)
def test_a_class_a_xid_is_never_history(lag: float, steps: list[tuple[float, tuple[str, float]]]) -> None:
    """Finding R3"""
    keep(lag, steps)


@pytest.mark.long
@pytest.mark.timeout(1200)
@settings(max_examples=share(10_000))
@given(LAGS, HISTORIES)
def test_a_class_a_xid_is_never_history_at_length(
    lag: float, steps: list[tuple[float, tuple[str, float]]]
) -> None:
    """Finding R3"""
    keep(lag, steps)
