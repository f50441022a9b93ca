"""Waiting for file descriptors. `select` would do, but it refuses numbers above 1023, which a busy agent reaches."""

import select


def readable(files: tuple[int, ...], seconds: float) -> frozenset[int]:
    """Those of the open files that can be read without blocking, after at most that long; an ended one counts too."""
    poller = select.poll()
    for file in files:
        poller.register(file, select.POLLIN)
    return frozenset(file for file, _ in poller.poll(max(0.0, seconds) * 1000))
