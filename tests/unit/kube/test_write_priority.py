"""Slices are written before claims and events, which wait for them, but not long."""

import threading
import time

from gpuvitals.kube.write_priority import LONGEST_SECONDS, RightOfWay


def test_nobody_waits_while_nobody_goes_first() -> None:
    started = time.monotonic()
    RightOfWay().give()
    assert time.monotonic() - started < LONGEST_SECONDS


def test_the_one_that_waits_goes_on_once_the_first_is_through() -> None:
    way, order = RightOfWay(), list[str]()

    def second() -> None:
        way.give()
        order.append("claims")

    way.take()
    waiting = threading.Thread(target=second, name="claims of the test")
    waiting.start()
    order.append("slices")
    way.release()
    waiting.join(5)
    assert order == ["slices", "claims"]


def test_slices_that_can_not_be_written_hold_up_nobody_for_long() -> None:
    way = RightOfWay()
    way.take()
    started = time.monotonic()
    way.give()
    assert time.monotonic() - started + 0.005 >= LONGEST_SECONDS
    assert time.monotonic() - started < 5
