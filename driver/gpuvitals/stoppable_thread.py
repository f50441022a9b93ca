"""A named thread with a stop event and a bounded stop: the one way in which long-lived parts run."""

import threading
from collections.abc import Callable


class StoppableThread:
    """Runs `run` once, on a thread of its own. `run` returns soon after `stopping` is set.

    Pass `daemon=True` only where an unfinished step loses nothing, since such a thread does not delay the process's exit.
    Methods are thread safe.
    """

    def __init__(self, run: Callable[[], None], *, name: str, daemon: bool) -> None:
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=run, name=name, daemon=daemon)

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs now."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Starts the thread, unless it was started or stopped before."""
        with self._lock:
            if self._thread.ident is None and not self.stopping.is_set():
                self._thread.start()

    def stop(self, deadline_seconds: float) -> bool:
        """Sets `stopping` and joins the thread within the deadline. Returns whether it has ended or never ran.

        The caller wakes a thread that waits for something else than `stopping`.
        """
        with self._lock:
            self.stopping.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(max(0.0, deadline_seconds))
        return not self._thread.is_alive()
