"""Keeps a copy of a collection up to date: a paged list, then watches, until it is stopped. One thread a reflector."""

import logging
import threading

from gpuvitals.kube.errors import ApiError
from gpuvitals.kube.list_watch import ListWatch
from gpuvitals.kube.reflector_ports import ReflectorHooks, Selection
from gpuvitals.kube.retry import retrying
from gpuvitals.kube.transport import Transport
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals.stoppable_thread import StoppableThread

log = logging.getLogger(__name__)


class Reflector:
    """Lists and watches a collection and reports each difference to `hooks`. Failures are retried with back-off."""

    def __init__(
        self, selection: Selection, transport: Transport, metrics: NodeMetrics, hooks: ReflectorHooks
    ) -> None:
        self._path = selection.path
        self._policy = selection.policy
        self._metrics = metrics
        name = f"watch-{selection.path.rsplit('/', 1)[-1]}"
        # A daemon: it only reads, so a call that outlives the stop deadline has nothing to lose.
        self._thread = StoppableThread(self._run, name=name, daemon=True)
        self._list_watch = ListWatch(selection, transport, metrics, hooks, self._thread.stopping)

    @property
    def synced(self) -> threading.Event:
        """Set after a complete list was reported, cleared while a later list is being reported."""
        return self._list_watch.synced

    @property
    def problem(self) -> str:
        """The reason why no watch is open; empty while one is open."""
        return self._list_watch.problem

    def start(self) -> None:
        """Starts to list and watch."""
        self._thread.start()

    def stop(self, deadline_seconds: float = 0.0) -> None:
        """Cuts the watch and waits for the thread up to the deadline."""
        self._thread.stopping.set()
        self._list_watch.cut()
        self._thread.stop(deadline_seconds)

    def nudge(self) -> None:
        """Ends a back-off, since another call has reached the server. Thread safe."""
        self._list_watch.nudge()

    def skip(self, reason: str) -> None:
        """Counts an object of this collection that cannot be decoded. Thread safe."""
        self._list_watch.skip(reason)

    def _run(self) -> None:
        stopping = self._thread.stopping
        step = retrying(self._policy, self._list_watch, stopping, self._metrics)
        while not stopping.is_set():
            try:
                step(self._list_watch.cycle)
            except ApiError as error:
                log.debug("watch stopped", extra=keys(path=self._path, error=str(error)))
