"""How long the cluster takes to show what the agent knows."""

import threading

from gpuvitals.model.clock import Clock
from gpuvitals.observability.metrics import NodeMetrics


class PendingFaults:
    """Keeps the faults that were told and are not yet stored. Thread safe."""

    def __init__(self, clock: Clock, metrics: NodeMetrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._lock = threading.Lock()
        self._waiting: dict[int, float] = {}

    def told(self, revision: int, heard_at: float) -> None:
        """A snapshot with a new fault went to the writers; it was heard at that boot-clock instant."""
        with self._lock:
            self._waiting[revision] = heard_at
            self._metrics.pending_faults.set(len(self._waiting))

    def stored(self, revision: int) -> None:
        """The cluster shows that revision, and with it every older one."""
        now = self._clock.now().at
        with self._lock:
            shown = [told for told in self._waiting if told <= revision]
            for told in shown:
                self._metrics.fault_to_publish_seconds.observe(max(0.0, now - self._waiting.pop(told)))
            self._metrics.pending_faults.set(len(self._waiting))
