"""Ends the process before the call of a given number, among all calls that are counted together.

A write is killed before it and half-way through it.
"""

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


def in_halves(write: Callable[[int, memoryview], int]) -> Callable[[int, bytes], int]:
    """A `write` that makes two calls of `write`, as the kernel does for a process that is killed between two pages."""

    def call(file: int, body: bytes) -> int:
        view = memoryview(body)
        half = write(file, view[: len(view) // 2])
        return half + write(file, view[half:])

    return call


def at_halves(pwrite: Callable[[int, memoryview, int], int]) -> Callable[[int, bytes, int], int]:
    """A `pwrite` that makes two calls of `pwrite`, for the same reason as `in_halves`."""

    def call(file: int, body: bytes, offset: int) -> int:
        view = memoryview(body)
        half = pwrite(file, view[: len(view) // 2], offset)
        return half + pwrite(file, view[half:], offset + half)

    return call
