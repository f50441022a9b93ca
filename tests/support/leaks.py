"""A fixture that fails a test which leaves a thread, a child process or an open file behind."""

import gc
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

_SECONDS = 3.0
"""Time for pool threads and closed sockets of gRPC to end; no one joins them."""


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fails a test after which there are more threads, children or open files of a kind than before it."""
    before = _held()
    yield
    deadline = time.monotonic() + _SECONDS
    while _held() - before:
        # A connection pool closes its sockets when it is collected.
        gc.collect()
        left = _held() - before
        assert not left or time.monotonic() < deadline, f"the test leaves behind: {dict(left)}"
        time.sleep(0.01)


def _held() -> Counter[str]:
    """The threads, children and files of this process, by kind."""
    held: Counter[str] = Counter(f"thread {_kind(thread.name)}" for thread in threading.enumerate())
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:  # the descriptor of the listing itself
            continue
        kind = target.split(":")[0] if not target.startswith("/") else "file"
        # Other files come and go with modules and with pytest's capture.
        if kind in ("socket", "pipe"):
            held[kind] += 1
    for task in Path("/proc/self/task").iterdir():
        try:
            held["child process"] += len((task / "children").read_text().split())
        except OSError:  # the thread has ended meanwhile
            continue
    return held


def _kind(name: str) -> str:
    """A thread's name without its number."""
    return name.rstrip("0123456789").rstrip("-_ (")
