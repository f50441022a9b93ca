"""A thread that looks at something on the API server again and again, for what may be read and not watched."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from gpuvitals.kube.errors import ApiError
from gpuvitals.kube.retry import WATCH, Retries, retrying
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PollTask:
    """`look` raises ApiError and is tried again then; `is_urgent` until its first success; `failed` hears of each failure.

    `pause_seconds` gives the time between two looks, asked for each.
    """

    name: str
    look: Callable[[], None]
    is_urgent: Callable[[], bool]
    failed: Callable[[ApiError, float], None]
    pause_seconds: Callable[[], float]


class Poller:
    """One thread. It makes the first look at once."""

    def __init__(self, looking: PollTask, metrics: NodeMetrics) -> None:
        self._looking = looking
        self._metrics = metrics
        self._stop = threading.Event()
        # A daemon: it only reads, so a call that outlives the stop deadline has nothing to lose.
        self._thread = threading.Thread(target=self._run, name=looking.name, daemon=True)

    def start(self) -> None:
        """Looks at once, and then again and again."""
        self._thread.start()

    def start_once(self) -> None:
        """Starts, unless it was started or stopped before. One thread calls it."""
        if self._thread.ident is None and not self._stop.is_set():
            self.start()

    def stop(self, deadline_seconds: float) -> None:
        """Ends the looking; waits for a look at hand up to the deadline."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(deadline_seconds)

    def _run(self) -> None:
        looking = self._looking
        loop = Retries(
            stop=self._stop, metrics=self._metrics, failed=looking.failed, urgent=looking.is_urgent
        )
        step = retrying(WATCH, loop)
        while not self._stop.is_set():
            try:
                step(looking.look)
            except ApiError as error:
                log.debug("not looked at", extra=keys(what=looking.name, error=str(error)))
            self._stop.wait(looking.pause_seconds())
