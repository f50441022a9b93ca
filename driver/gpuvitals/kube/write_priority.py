"""Who writes first when a fault is told to everybody at once: the slices, which decide who gets a GPU.

Claims and events wait for that write, since three writes at a time make each of them as slow as all three: the API
server's cores are shared, and so is this process. They wait briefly, so that slices that can't be written hold up
nobody.
"""

import threading

LONGEST_SECONDS = 0.05


class RightOfWay:
    """Free until somebody takes it. Thread safe."""

    def __init__(self) -> None:
        self._free = threading.Event()
        self._free.set()

    def take(self) -> None:
        """A write that goes first is coming."""
        self._free.clear()

    def release(self) -> None:
        """It was made, or will not be."""
        self._free.set()

    def give(self) -> None:
        """Returns once nobody has the right of way, and after `LONGEST_SECONDS` in any case."""
        self._free.wait(LONGEST_SECONDS)
