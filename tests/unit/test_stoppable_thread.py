"""The thread of long-lived parts: started once, stopped within a deadline."""

import threading
import time

from gpuvitals.stoppable_thread import StoppableThread


def test_stop_ends_a_thread_that_watches_the_event() -> None:
    thread = StoppableThread(lambda: thread.stopping.wait(30) and None, name="watched", daemon=False)
    thread.start()

    assert thread.is_alive
    assert thread.stop(10)
    assert not thread.is_alive


def test_a_second_start_does_nothing() -> None:
    runs: list[str] = []
    thread = StoppableThread(lambda: runs.append("run"), name="once", daemon=False)
    thread.start()
    thread.start()

    assert thread.stop(10)
    assert runs == ["run"]


def test_a_thread_that_was_stopped_before_its_start_never_runs() -> None:
    runs: list[str] = []
    thread = StoppableThread(lambda: runs.append("run"), name="late", daemon=False)

    assert thread.stop(10)
    thread.start()
    assert runs == []


def test_a_thread_that_does_not_end_is_reported_at_the_deadline() -> None:
    release = threading.Event()
    thread = StoppableThread(lambda: release.wait(30) and None, name="stuck", daemon=True)
    thread.start()
    began = time.monotonic()

    assert not thread.stop(0.05)
    assert time.monotonic() - began < 10
    release.set()
    assert thread.stop(10)


def test_a_thread_may_stop_itself() -> None:
    ended: list[bool] = []
    thread = StoppableThread(lambda: ended.append(thread.stop(10)), name="own", daemon=False)
    thread.start()

    assert thread.stop(10)
    assert ended == [False]
