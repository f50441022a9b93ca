"""The writer goes first, and never holds up the agent for long."""

import threading
import time

from gpuvitals.node.head_start import LONGEST_SECONDS, HeadStart


def test_the_agent_goes_on_as_soon_as_the_writer_is_ready() -> None:
    start = HeadStart()
    start.take(7)
    began = time.monotonic()
    for _ in range(1000):
        start.give(7)
        start.give(3)
    assert time.monotonic() - began < 1000 * LONGEST_SECONDS


def test_a_writer_that_gets_ready_in_between_ends_the_wait() -> None:
    start = HeadStart()
    order: list[str] = []

    def write() -> None:
        order.append("ready")
        start.take(1)

    writer = threading.Thread(target=write)
    while "agent" not in order:
        if writer.ident is None:
            writer.start()
        start.give(1)
        if order:
            order.append("agent")
    writer.join(5)
    assert order == ["ready", "agent"]


def test_a_writer_that_waits_itself_is_not_waited_for() -> None:
    began = time.monotonic()
    HeadStart().give(1)
    assert LONGEST_SECONDS * 0.9 <= time.monotonic() - began < 1.0
