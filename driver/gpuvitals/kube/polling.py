"""Polls an API object on a thread of its own, for objects that the account may read but not watch."""

import logging
from typing import Protocol

from gpuvitals.kube.errors import ApiError
from gpuvitals.kube.retry import WATCH, RetriedLoop, retrying
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals.stoppable_thread import StoppableThread

log = logging.getLogger(__name__)


class PollTask(RetriedLoop, Protocol):
    """The read that a poller repeats. Its methods are called on the poller's thread."""

    def poll(self) -> None:
        """Reads once. Raises ApiError, after which the read is retried."""
        ...

    def pause_seconds(self) -> float:
        """Seconds until the next read."""
        ...


class Poller:
    """Runs a task at once and then after each pause. One thread."""

    def __init__(self, name: str, task: PollTask, metrics: NodeMetrics) -> None:
        self._name = name
        self._task = task
        self._metrics = metrics
        # A daemon: it only reads, so a call that outlives the stop deadline has nothing to lose.
        self._thread = StoppableThread(self._run, name=name, daemon=True)

    def start(self) -> None:
        """Starts, unless it was started or stopped before."""
        self._thread.start()

    def stop(self, deadline_seconds: float) -> None:
        """Stops; waits for a read in progress up to the deadline."""
        self._thread.stop(deadline_seconds)

    def _run(self) -> None:
        stopping = self._thread.stopping
        step = retrying(WATCH, self._task, stopping, self._metrics)
        while not stopping.is_set():
            try:
                step(self._task.poll)
            except ApiError as error:
                log.debug("poll stopped", extra=keys(poller=self._name, error=str(error)))
            stopping.wait(self._task.pause_seconds())
