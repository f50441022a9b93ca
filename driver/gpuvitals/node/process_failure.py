"""The end of the process: a part that cannot go on, a thread that died, or a request to stop."""

import logging
import threading

from gpuvitals.observability.logs import keys

log = logging.getLogger(__name__)


class ProcessFailure:
    """Thread safe. `reason` is the cause of the end, empty after a requested stop."""

    def __init__(self) -> None:
        self.reason = ""
        self._ended = threading.Event()
        self._hook = threading.excepthook

    def fail(self, reason: str) -> None:
        """Ends the process because of a part that cannot go on."""
        self.reason = reason
        self._ended.set()

    def request_stop(self) -> None:
        """Ends the process without a failure."""
        self._ended.set()

    def wait(self, seconds: float) -> bool:
        """Waits until the process has to end. Returns whether it has to."""
        return self._ended.wait(seconds)

    def watch_threads(self) -> None:
        """Makes an uncaught exception in any thread a failure: the process ends, and the next agent restores its memory."""
        self._hook, threading.excepthook = threading.excepthook, self._thread_died

    def unwatch_threads(self) -> None:
        """Restores the earlier `threading.excepthook`."""
        threading.excepthook = self._hook

    def _thread_died(self, died: threading.ExceptHookArgs) -> None:
        name = died.thread.name if died.thread is not None else "unknown"
        error = died.exc_value
        trace = (died.exc_type, error, died.exc_traceback) if error is not None else None
        log.critical("thread died", extra=keys(thread=name), exc_info=trace)
        self.fail(f"thread {name} died of {died.exc_type.__name__}: {error}; the agent ends")
