"""The signals that end a process, for every verb that has something to put away first.

A Python signal handler runs between any two instructions of the main thread, also while that thread holds a lock. A
handler that takes the same lock, as `threading.Event.set` does, then waits for ever. So the handlers here do nothing.
The interpreter's C handler writes the signal's number to a descriptor, and a thread reads it.
"""

import os
import signal
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_JOIN_SECONDS = 1.0
_CLOSED = 0
"""Written by `close`; no signal has this number."""


class Termination:
    """Takes SIGTERM, SIGINT and SIGHUP while it is open. `asked` is set soon after the first of them.

    Made on the main thread. A SIGHUP that is ignored at the start, as under nohup, stays ignored.
    """

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.number = 0
        self._lock = threading.Lock()
        self._request: Callable[[], None] = lambda: None
        self._reading, self._writing = os.pipe()
        # A full pipe must not block the C handler, wherever it interrupts.
        os.set_blocking(self._writing, False)
        self._thread = threading.Thread(target=self._read, name="termination", daemon=True)
        self._thread.start()
        self._wakeup = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        self._handlers = {
            number: signal.signal(number, _nothing)
            for number in SIGNALS
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
        }

    @property
    def exit_code(self) -> int:
        """The exit code of a process that a signal has ended before its work was done; 0 where none came."""
        return 128 + self.number if self.number else 0

    def hand_to(self, request: Callable[[], None]) -> None:
        """Calls `request` once on a thread when a signal comes, or at once where one has come. It returns at once."""
        with self._lock:
            self._request = request
            came = self.asked.is_set()
        if came:
            request()

    def close(self) -> None:
        """Gives the signals back to the handlers that had them before."""
        for number, handler in self._handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(self._wakeup)
        os.write(self._writing, bytes([_CLOSED]))
        self._thread.join(_JOIN_SECONDS)
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
            if self.asked.is_set() or number not in SIGNALS:
                return
            self.number = number
            self.asked.set()
            request = self._request
        request()


def _nothing(*_: object) -> None:
    """Its presence has the interpreter's C handler take the signal instead of the default action."""
