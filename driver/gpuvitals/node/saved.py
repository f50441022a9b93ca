"""Up to which snapshot the agent's memory is on disk: a writer gets ready meanwhile, and waits here before it tells."""

import threading

LONGEST_SECONDS = 1.0
"""A disk that hangs must not hide a fault from the cluster."""
_WRITER_FIRST_SECONDS = 0.002


class SavedRevision:
    """Thread safe, for one writer. Revisions only grow."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._saved = self._passed = -1

    def reached(self, revision: int) -> None:
        """The memory behind that snapshot, and behind all before it, is on disk, or could not be written.

        Lets the writer go first, for a moment: the interpreter runs one thread at a time, and its write is urgent.
        """
        with self._changed:
            self._saved = revision
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._passed >= revision, _WRITER_FIRST_SECONDS)

    def wait_for(self, revision: int) -> None:
        """Returns once that revision is reached, and after `LONGEST_SECONDS` in any case."""
        with self._changed:
            self._changed.wait_for(lambda: self._saved >= revision, LONGEST_SECONDS)
            self._passed = revision
            self._changed.notify_all()
