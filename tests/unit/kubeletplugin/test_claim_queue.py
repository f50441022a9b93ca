"""The claim queue and reservations: calls of a claim in order, devices reserved before slow steps."""

import threading
import time
from dataclasses import replace

import pytest

from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.kubeletplugin.claims.claim_queue import ClaimQueue, Reservations, Wait
from gpuvitals.kubeletplugin.held_claim import HeldDevice
from gpuvitals.kubeletplugin.outcome import Operation, RefusalCode, RefusedError
from gpuvitals.model.ids import DeviceName, GpuUuid
from support.waiting import eventually
from support.worlds.plugin_world import uid_of

ONE = uid_of(1)


def device(number: int, **changed: object) -> HeldDevice:
    return HeldDevice(
        uuid=GpuUuid(f"GPU-{number}"),
        device=DeviceName(f"gpu-{number}"),
        minor=number,
        requests=("r",),
        **changed,
    )


def wait(queue: ClaimQueue, **changed: object) -> Wait:
    return replace(
        Wait(stop=threading.Event(), since=queue.wake_counts(), for_release=False, seconds=5.0), **changed
    )


def claim(number: int) -> ClaimRef:
    return ClaimRef(namespace="ml", name=f"c{number}", uid=uid_of(number))


def test_calls_for_one_claim_run_in_the_order_of_their_arrival() -> None:
    queue = ClaimQueue()
    order: list[int] = []
    threads: list[threading.Thread] = []

    def call(number: int) -> None:
        with queue.admit(ONE, Operation.PREPARE, 5.0):
            order.append(number)

    with queue.admit(ONE, Operation.PREPARE, 1.0):
        for number in range(5):
            threads.append(threading.Thread(target=call, args=(number,), name=f"call-{number}"))
            threads[-1].start()
            eventually(lambda expected=number: len(queue._queues[ONE]) == expected + 2)
        assert order == []
    for thread in threads:
        thread.join(5)
    assert order == [0, 1, 2, 3, 4]
    assert queue.active() == frozenset()


def test_turn_that_does_not_come_in_time_is_busy() -> None:
    queue = ClaimQueue()
    with queue.admit(ONE, Operation.PREPARE, 1.0):
        with pytest.raises(RefusedError) as caught, queue.admit(ONE, Operation.PREPARE, 0.05):
            pass
        assert caught.value.refusal.code is RefusalCode.BUSY
        assert queue.active() == {ONE}
        with queue.admit(uid_of(2), Operation.PREPARE, 0.05):
            assert queue.active() == {ONE, uid_of(2)}


def test_turn_is_superseded_by_the_opposite_and_not_by_the_same() -> None:
    queue = ClaimQueue()

    def behind(operation: Operation) -> threading.Thread:
        def call() -> None:
            with queue.admit(ONE, operation, 5.0):
                pass

        thread = threading.Thread(target=call, name=operation.value)
        thread.start()
        return thread

    with queue.admit(ONE, Operation.PREPARE, 1.0) as ticket:
        threads = [behind(Operation.PREPARE)]
        eventually(lambda: len(queue._queues[ONE]) == 2)
        assert not ticket.is_superseded
        threads.append(behind(Operation.UNPREPARE))
        eventually(lambda: ticket.is_superseded)
        started = time.monotonic()
        queue.pause(ticket, wait(queue))
        assert time.monotonic() - started < 1.0
    for thread in threads:
        thread.join(5)


def test_a_release_waits_for_no_preparation_and_a_preparation_for_every_earlier_call() -> None:
    """Finding R5."""
    queue = ClaimQueue()
    with queue.admit(ONE, Operation.PREPARE, 0.0) as reading, queue.admit(ONE, Operation.UNPREPARE, 0.0):
        assert reading.is_superseded
        with pytest.raises(RefusedError), queue.admit(ONE, Operation.UNPREPARE, 0.05):
            pass
        with pytest.raises(RefusedError), queue.admit(ONE, Operation.PREPARE, 0.05):
            pass


def test_a_preparation_stays_superseded_when_the_release_has_ended() -> None:
    """Finding R5: a claim that is released while it is read must not be recorded after that."""
    queue = ClaimQueue()
    with queue.admit(ONE, Operation.PREPARE, 0.0) as reading:
        with queue.admit(ONE, Operation.UNPREPARE, 0.0):
            pass
        assert reading.is_superseded


def test_a_wake_up_during_an_attempt_is_kept_and_a_release_wakes_waiters() -> None:
    """Finding K11."""
    queue = ClaimQueue()
    with queue.admit(ONE, Operation.PREPARE, 0.0) as ticket:
        before = queue.wake_counts()
        queue.wake_for_release()
        started = time.monotonic()
        queue.pause(ticket, wait(queue, since=before, for_release=True))
        assert time.monotonic() - started < 1.0
        queue.pause(ticket, wait(queue, since=before, seconds=0.1))
        assert time.monotonic() - started >= 0.1
        queue.wake()
        queue.pause(ticket, wait(queue, since=before))
        assert time.monotonic() - started < 3.0


def test_reserved_device_is_refused_to_others_until_it_is_given_back() -> None:
    reservations = Reservations()
    with reservations.reserve(claim(1), (device(0),)):
        with pytest.raises(RefusedError) as caught, reservations.reserve(claim(2), (device(1), device(0))):
            pass
        assert caught.value.refusal.code is RefusalCode.DEVICE_IN_USE
        with reservations.reserve(claim(3), (device(0, admin=True), device(1))):
            pass
    with reservations.reserve(claim(2), (device(0),)):
        pass
