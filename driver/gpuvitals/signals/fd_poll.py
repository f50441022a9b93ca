"""Waits for file descriptors. `select` can't be used: it refuses numbers above 1023, and a busy agent has those."""

import select


def readable(files: tuple[int, ...], seconds: float) -> frozenset[int]:
    """The descriptors that are readable without blocking, after at most `seconds`; one at end of file counts too."""
    poller = select.poll()
    for file in files:
        poller.register(file, select.POLLIN)
    return frozenset(file for file, _ in poller.poll(max(0.0, seconds) * 1000))
