"""The slice writer sends a new snapshot before the agent's own work on it goes on: every millisecond of it counts.

The interpreter runs one thread at a time. Without a head start the writer would wait while the memory is encoded and
flushed, although the fault is safe either way: until the memory has it, the kernel log is read again from before it.
"""

import threading

LONGEST_SECONDS = 0.002
"""The writer may have to wait for a reason of its own: the server, or the time between two writes."""


class HeadStart:
    """Thread safe, for one writer. Revisions only grow."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken = -1

    def give(self, revision: int) -> None:
        """Returns once the writer is about to send that revision, and after `LONGEST_SECONDS` in any case."""
        with self._changed:
            self._changed.wait_for(lambda: self._taken >= revision, LONGEST_SECONDS)

    def take(self, revision: int) -> None:
        """The writer has got that revision ready. Returns at once."""
        with self._changed:
            self._taken = revision
            self._changed.notify_all()
