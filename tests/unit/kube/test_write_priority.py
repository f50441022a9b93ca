"""Claims and events wait for a pending slice write, but not long."""

import threading
import time

from gpuvitals.kube.write_priority import LONGEST_SECONDS, SliceWritePriority


def test_without_a_pending_slice_write_nothing_waits() -> None:
    started = time.monotonic()
    SliceWritePriority().wait()
    assert time.monotonic() - started < LONGEST_SECONDS


def test_a_waiting_write_continues_once_the_slices_are_written() -> None:
    priority, order = SliceWritePriority(), list[str]()

    def second() -> None:
        priority.wait()
        order.append("claims")

    priority.begin()
    waiting = threading.Thread(target=second, name="claims of the test")
    waiting.start()
    order.append("slices")
    priority.end()
    waiting.join(5)
    assert order == ["slices", "claims"]


def test_slices_that_can_not_be_written_block_nothing_for_long() -> None:
    priority = SliceWritePriority()
    priority.begin()
    started = time.monotonic()
    priority.wait()
    assert time.monotonic() - started + 0.005 >= LONGEST_SECONDS
    assert time.monotonic() - started < 5
