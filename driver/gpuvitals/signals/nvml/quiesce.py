"""Quiesce: the handshake by which another thread has the monitor close GPUs, so that they can be reset.

A reset fails while any process has the GPU open. A request is fulfilled once no worker that started before it is left:
later workers do not open the quiesced GPUs.
"""

import threading


class Quiesce:
    """Numbers quiesce requests and tracks their fulfilment. Methods are thread safe unless they say otherwise."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._requested = self._applied = self._fulfilled = 0
        self._covers_all = False

    @property
    def covers_all(self) -> bool:
        """Whether all GPUs are quiesced, so that no worker may run."""
        return self._covers_all

    @property
    def is_pending(self) -> bool:
        """Whether an applied request is not fulfilled yet."""
        return self._fulfilled < self._applied

    def request(self, *, covers_all: bool) -> int:
        """Registers a request and returns its number."""
        with self._changed:
            self._requested += 1
            self._covers_all = self._covers_all or covers_all
            return self._requested

    def lift(self, *, covers_all: bool) -> None:
        """Ends the quiesce of all GPUs if the caller resumes all."""
        with self._changed:
            self._covers_all = self._covers_all and not covers_all

    def wait(self, number: int, deadline_seconds: float) -> bool:
        """Waits until a request is fulfilled. False at the deadline."""
        with self._changed:
            return self._changed.wait_for(lambda: self._fulfilled >= number, deadline_seconds)

    def apply(self, number: int) -> None:
        """Marks a request as applied to the schedule. Monitor's thread only."""
        self._applied = number

    def fulfil(self) -> None:
        """Fulfils all applied requests. Monitor's thread only, once no older worker is left."""
        with self._changed:
            self._fulfilled = self._applied
            self._changed.notify_all()
