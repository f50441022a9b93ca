"""Telemetry of finished calls: after the answer, in batches, and without loss."""

import logging
import threading

import pytest

from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.inventory.event import Event
from gpuvitals.inventory.next_step import CORRECT, NEW_POD, NEXT_STEP
from gpuvitals.kubeletplugin.outcome import ClaimOutcome, Operation, Refusal, RefusalCode
from gpuvitals.kubeletplugin.telemetry import OutcomeReporter
from support.waiting import eventually
from support.worlds.plugin_world import World, kubelet, uid_of


def outcome(number: int, code: RefusalCode | None = None) -> ClaimOutcome:
    refusal = None if code is None else Refusal(code=code, message="why")
    ref = ClaimRef(namespace="ml", name=f"c{number}", uid=uid_of(number))
    return ClaimOutcome(operation=Operation.PREPARE, ref=ref, refusal=refusal, seconds=0.1)


class Recorder:
    """Records every report in order, as the sink and as the prepared claims."""

    def __init__(self) -> None:
        self.changes = 0
        self.codes: list[str] = []
        self.events: list[Event] = []
        self.fails = False

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def observe(self, operation: Operation, code: str, seconds: float) -> None:
        assert (operation, seconds) == (Operation.PREPARE, 0.1)
        self.codes.append(code)

    def refresh(self) -> None:
        self.changes += 1
        if self.fails:
            raise RuntimeError("a listener's defect")


def test_calls_that_end_together_are_reported_together_and_a_stop_loses_none() -> None:
    recorder = Recorder()
    reporter = OutcomeReporter(recorder, recorder)
    for number in range(8):
        reporter.add([outcome(number)])
    reporter.start()
    reporter.stop(5.0)

    assert recorder.codes == ["ok"] * 8
    assert recorder.changes == 1


def test_a_refusal_is_an_event_of_its_claim_unless_it_is_normal_operation() -> None:
    recorder = Recorder()
    reporter = OutcomeReporter(recorder, recorder)
    reporter.add([outcome(1, RefusalCode.DEVICE_IN_USE), outcome(2, RefusalCode.STOPPING)])
    reporter.add([outcome(3, RefusalCode.INVALID_ARGUMENT)])
    reporter.start()
    reporter.stop(5.0)

    assert recorder.codes == ["DeviceInUse", "Stopping", "InvalidArgument"]
    assert [(event.reason, event.claim and event.claim.name) for event in recorder.events] == [
        ("DeviceInUse", "c1"),
        ("InvalidArgument", None),
    ]


def test_a_defect_of_a_listener_is_logged_and_the_next_calls_are_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = Recorder()
    recorder.fails = True
    reporter = OutcomeReporter(recorder, recorder)
    reporter.start()
    with caplog.at_level(logging.ERROR, logger="gpuvitals"):
        reporter.add([outcome(1)])
        eventually(lambda: "finished calls not reported" in caplog.text)
    recorder.fails = False
    reporter.add([outcome(2)])
    reporter.stop(5.0)

    assert recorder.codes == ["ok"]


def test_the_kubelet_does_not_wait_for_listeners(node: World) -> None:
    gate, notified = threading.Event(), threading.Event()

    class SlowListener:
        def prepared_changed(self) -> None:
            notified.set()
            assert gate.wait(10)

        def kubelet_changed(self) -> None:
            pass

    with node.running() as plugin, kubelet(plugin) as calls:
        plugin.subscribe(SlowListener())
        assert calls.prepare(node.allocate(1, 0), timeout=5.0)[uid_of(1)].error == ""
        assert notified.wait(5)
        assert calls.prepare(node.allocate(2, 1), timeout=5.0)[uid_of(2)].error == ""
        assert len(plugin.prepared()) == 2
        gate.set()


LASTING = {
    RefusalCode.WRONG_POOL: NEXT_STEP,
    RefusalCode.UNKNOWN_DEVICE: NEXT_STEP,
    RefusalCode.DUPLICATE_DEVICE: NEXT_STEP,
    RefusalCode.DEVICE_REPLACED: NEXT_STEP,
    RefusalCode.DEVICE_UNHEALTHY: NEXT_STEP,
    RefusalCode.PLATFORM_UNSUPPORTED: NEXT_STEP,
    RefusalCode.INVALID_CONFIG: CORRECT,
    RefusalCode.CLAIM_NOT_FOUND: NEW_POD,
    RefusalCode.CLAIM_REPLACED: NEW_POD,
}


@pytest.mark.parametrize("code", list(RefusalCode), ids=lambda code: code.value)
def test_a_permanent_refusal_has_the_next_step_of_the_pods_owner(code: RefusalCode) -> None:
    """Finding K8: also where the message is long, since a note that is cut off loses its end."""
    text = Refusal(code=code, message="m" * 2000).text("prepare of claim a/b refused: ")

    assert ("next: " in text) is (code in LASTING)
    if code in LASTING:
        assert text.endswith(LASTING[code])
        assert len(text.encode()) <= 1000
