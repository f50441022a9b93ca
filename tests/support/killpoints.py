"""Ends the process before the call of a given number, among all calls that are counted together."""

import os
from collections.abc import Callable

KILLED = 9
"""Exit status of a process that was ended so."""


def killed_before(point: int) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """A wrapper: the calls of everything it wraps are counted, and before call number `point` the process ends."""
    count = 0

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **named: object) -> object:
            nonlocal count
            count += 1
            if count == point:
                os._exit(KILLED)
            return real(*args, **named)

        return call

    return counted
