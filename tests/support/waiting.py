"""Waits for a condition in place of a sleep of a fixed length."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(look: Callable[[], T], seconds: float = 10.0) -> T:
    """The first result of `look` that is true. Fails the test with the last one if none is true within `seconds`."""
    until = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < until, f"did not happen within {seconds:g} s; last seen: {found!r}"
        time.sleep(0.01)
    return found
