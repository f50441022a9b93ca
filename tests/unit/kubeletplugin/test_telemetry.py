"""What nobody waits for comes after the answer, is told together, and is never lost."""

import logging
import threading

import pytest

from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.inventory.next_step import CORRECT, NEW_POD, NEXT_STEP
from gpuvitals.kubeletplugin.claims.claim_queue import Operation
from gpuvitals.kubeletplugin.outcome import Refusal, RefusalCode
from gpuvitals.kubeletplugin.ports import PluginEvent
from gpuvitals.kubeletplugin.telemetry import ClaimOutcome, Listeners, OutcomeReporter
from support.waiting import eventually
from support.worlds.plugin_world import World, kubelet, uid_of


def ended(number: int, code: RefusalCode | None = None) -> ClaimOutcome:
    refusal = None if code is None else Refusal(code=code, message="why")
    ref = ClaimRef(namespace="ml", name=f"c{number}", uid=uid_of(number))
    return ClaimOutcome(operation=Operation.PREPARE, ref=ref, refusal=refusal, seconds=0.1)


class Heard:
    """Everything that was told, in order."""

    def __init__(self) -> None:
        self.changes = 0
        self.codes: list[str] = []
        self.events: list[PluginEvent] = []
        self.fails = False

    def listeners(self) -> Listeners:
        return Listeners(observe=self._observe, emit=self.events.append, changed=self._changed)

    def _observe(self, operation: Operation, code: str, seconds: float) -> None:
        assert (operation, seconds) == (Operation.PREPARE, 0.1)
        self.codes.append(code)

    def _changed(self) -> None:
        self.changes += 1
        if self.fails:
            raise RuntimeError("a listener's defect")


def test_calls_that_end_together_are_told_together_and_a_stop_loses_none() -> None:
    heard = Heard()
    answered = OutcomeReporter(heard.listeners())
    for number in range(8):
        answered.add([ended(number)])
    answered.start()
    answered.stop(5.0)

    assert heard.codes == ["ok"] * 8
    assert heard.changes == 1


def test_a_refusal_is_an_event_of_its_claim_unless_it_is_nobodys_fault() -> None:
    heard = Heard()
    answered = OutcomeReporter(heard.listeners())
    answered.add([ended(1, RefusalCode.DEVICE_IN_USE), ended(2, RefusalCode.STOPPING)])
    answered.add([ended(3, RefusalCode.INVALID_ARGUMENT)])
    answered.start()
    answered.stop(5.0)

    assert heard.codes == ["DeviceInUse", "Stopping", "InvalidArgument"]
    assert [(event.reason, event.claim and event.claim.name) for event in heard.events] == [
        ("DeviceInUse", "c1"),
        ("InvalidArgument", None),
    ]


def test_a_defect_of_a_listener_is_logged_and_the_next_calls_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard = Heard()
    heard.fails = True
    answered = OutcomeReporter(heard.listeners())
    answered.start()
    with caplog.at_level(logging.ERROR, logger="gpuvitals"):
        answered.add([ended(1)])
        eventually(lambda: "answered calls not told" in caplog.text)
    heard.fails = False
    answered.add([ended(2)])
    answered.stop(5.0)

    assert heard.codes == ["ok"]


def test_the_kubelet_does_not_wait_for_whoever_is_told(node: World) -> None:
    gate, told = threading.Event(), threading.Event()

    def slow() -> None:
        told.set()
        assert gate.wait(10)

    with node.running() as plugin, kubelet(plugin) as calls:
        plugin.on_prepared_change(slow)
        assert calls.prepare(node.allocate(1, 0), timeout=5.0)[uid_of(1)].error == ""
        assert told.wait(5)
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
def test_a_refusal_that_stays_says_what_its_owner_does_next(code: RefusalCode) -> None:
    """Finding K8: also where the message is long, since a note that is cut off loses its end."""
    text = Refusal(code=code, message="m" * 2000).text("prepare of claim a/b refused: ")

    assert ("next: " in text) is (code in LASTING)
    if code in LASTING:
        assert text.endswith(LASTING[code])
        assert len(text.encode()) <= 1000
