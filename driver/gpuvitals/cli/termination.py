"""Handles the signals that end a process, for verbs that must clean up first.

A Python signal handler runs between any two instructions of the main thread, also while that thread holds a lock. A
handler that acquires the same lock, as `threading.Event.set` does, deadlocks. So the handlers here do nothing: the
interpreter's C handler writes the signal's number to a descriptor, and a thread reads it.
"""

import os
import signal
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from gpuvitals.stoppable_thread import StoppableThread

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_JOIN_SECONDS = 1.0
_CLOSED = 0
"""Written by `close`; no signal has this number."""


class Termination:
    """Receives SIGTERM, SIGINT and SIGHUP while it is open. `requested` is set soon after the first of them.

    Construct it on the main thread. A SIGHUP that is ignored at the start, as under nohup, stays ignored.
    """

    def __init__(self) -> None:
        self.requested = threading.Event()
        self.number = 0
        self._lock = threading.Lock()
        self._request: Callable[[], None] = lambda: None
        self._reading, self._writing = os.pipe()
        # A full pipe must not block the C handler, wherever it interrupts.
        os.set_blocking(self._writing, False)
        # A daemon: it only waits for signals.
        self._thread = StoppableThread(self._read, name="termination", daemon=True)
        self._thread.start()
        self._wakeup = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        self._handlers = {
            number: signal.signal(number, _nothing)
            for number in SIGNALS
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
        }

    @property
    def exit_code(self) -> int:
        """The exit code of a process that a signal has ended early; 0 without a signal."""
        return 128 + self.number if self.number else 0

    def on_request(self, request: Callable[[], None]) -> None:
        """Calls `request` once, on another thread at the first signal, or at once after a signal. `request` must not block."""
        with self._lock:
            self._request = request
            came = self.requested.is_set()
        if came:
            request()

    def close(self) -> None:
        """Restores the previous signal handlers."""
        for number, handler in self._handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(self._wakeup)
        os.write(self._writing, bytes([_CLOSED]))
        self._thread.stop(_JOIN_SECONDS)
        os.close(self._writing)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> None:
        with os.fdopen(self._reading, "rb", buffering=0) as pipe:
            while (read := pipe.read(1)) and read[0] != _CLOSED:
                self._take(read[0])

    def _take(self, number: int) -> None:
        with self._lock:
            if self.requested.is_set() or number not in SIGNALS:
                return
            self.number = number
            self.requested.set()
            request = self._request
        request()


def _nothing(*_: object) -> None:
    """A handler must be set, so that the interpreter's C handler runs instead of the default action."""
