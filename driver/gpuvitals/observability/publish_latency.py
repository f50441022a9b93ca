"""Measures the time from a fault to the slice that shows it."""

import threading

from gpuvitals.model.clock import Clock
from gpuvitals.observability.metrics import NodeMetrics


class PendingFaults:
    """The faults that were passed to the writers and are not stored yet. Thread safe."""

    def __init__(self, clock: Clock, metrics: NodeMetrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._lock = threading.Lock()
        self._waiting: dict[int, float] = {}

    def add(self, revision: int, observed_at: float) -> None:
        """Adds a snapshot with a new fault, which was read at the boot-clock instant `observed_at`."""
        with self._lock:
            self._waiting[revision] = observed_at
            self._metrics.pending_faults.set(len(self._waiting))

    def stored(self, revision: int) -> None:
        """Records that the API server has stored this revision, and with it every older one."""
        now = self._clock.now().at
        with self._lock:
            shown = [each for each in self._waiting if each <= revision]
            for each in shown:
                self._metrics.fault_to_publish_seconds.observe(max(0.0, now - self._waiting.pop(each)))
            self._metrics.pending_faults.set(len(self._waiting))
