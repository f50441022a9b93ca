"""The properties of property.promises over random histories, and the coverage of these histories."""

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings

from gpuvitals.health.fault_classes import EARLIER_FAULT, LEVELS, Clearing, FaultClass
from gpuvitals.health.state import Ending
from gpuvitals.health.verdict import NO_EVIDENCE, PROBATION
from gpuvitals.model.health import (
    NO_REASON,
    Confidence,
    HealthClass,
    HealthState,
    NvlinkStatus,
    Phase,
    RowRemap,
)
from gpuvitals.model.signal import GpuSignal, Source
from property.promises import PROMISES, Promise
from support.hypothesis.gpu_histories import histories
from support.long_runs import share
from support.signals import START, fold, fresh, judge


@pytest.mark.parametrize("promise", PROMISES, ids=str)
def test_promise(promise: Promise) -> None:
    promise.keep(500)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("promise", PROMISES, ids=str)
def test_promise_at_length(promise: Promise) -> None:
    promise.keep(share(10_000))


@dataclass
class Reached:
    """The values that occurred in the histories."""

    sources: set[Source] = field(default_factory=set)
    classes: set[FaultClass] = field(default_factory=set)
    reasons: set[str] = field(default_factory=set)
    endings: set[Ending] = field(default_factory=set)
    words: set[object] = field(default_factory=set)

    def add(self, history: list[GpuSignal]) -> None:
        self.sources |= {signal.source for signal in history}
        state = fresh()
        for signal in history:
            state = fold(signal, state=state)
            verdict = judge(state, max(signal.seen.at, START))
            self.classes |= {record.rule.fault_class for record in state.xids}
            self.classes |= {fault.rule.fault_class for fault in state.faults}
            self.reasons |= {verdict.reason}
            self.endings |= {entry.ending for entry in state.past}
            self.words |= {
                verdict.state,
                verdict.phase,
                verdict.health_class,
                verdict.nvlink_status,
                verdict.row_remap,
                verdict.confidence,
            }


@pytest.mark.timeout(300)
def test_the_histories_reach_every_source_class_reason_ending_and_word() -> None:
    """Deterministic, since a value that the histories never reach is not checked by the properties."""
    reached = Reached()

    @settings(max_examples=1500, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(histories())
    def look(history: list[GpuSignal]) -> None:
        reached.add(history)

    look()
    # External reports and restored faults are folded by other functions than signals.
    levels = {reason for reason, rule in LEVELS.items() if rule.clearing is not Clearing.RETRACTED}
    levels -= {EARLIER_FAULT.reason}
    wanted = {NO_REASON, NO_EVIDENCE, PROBATION, *levels}
    assert wanted - reached.reasons == set()
    assert set(FaultClass) - reached.classes == set()
    assert set(Ending) - {Ending.BOOT, Ending.QUIET} - reached.endings == set()
    seen = {word for kind in (HealthState, Phase, HealthClass, RowRemap, Confidence) for word in kind}
    assert seen - reached.words == set()
    assert set(NvlinkStatus) - {NvlinkStatus.NONE} - reached.words == set()
    assert {
        Source.KMSG,
        Source.NVML_EVENT,
        Source.NVML_POLL,
        Source.SYSFS,
        Source.OPERATOR,
    } <= reached.sources
    assert len([reason for reason in reached.reasons if reason.startswith("Xid")]) > 20
