"""Events and metrics on their way out. They are kept while the sinks are not there yet: sockets open first."""

import threading
from collections import deque

from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.kubeletplugin.claims.claim_queue import Operation
from gpuvitals.kubeletplugin.ports import PluginEvent, PluginPorts

_KEPT = 256


class TelemetryBuffer:
    """Takes from the first moment on; gives from `attach` on. Thread safe; nothing here blocks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sources: PluginPorts | None = None
        self._events: deque[PluginEvent] = deque(maxlen=_KEPT)
        self._observed: deque[tuple[str, str, float]] = deque(maxlen=_KEPT)
        self._recoveries: deque[str] = deque(maxlen=_KEPT)
        self._streams = 0
        self._claims = 0

    def attach(self, sources: PluginPorts) -> None:
        """Hands over what was kept, and everything from now on."""
        with self._lock:
            self._sources = sources
            self._flush()

    def sources(self) -> PluginPorts | None:
        """What was attached, None before."""
        return self._sources

    def emit(self, event: PluginEvent) -> None:
        """Takes an event."""
        with self._lock:
            self._events.append(event)
            self._flush()

    def observe(self, operation: Operation, code: str, seconds: float) -> None:
        """Takes the time of one answered claim."""
        with self._lock:
            self._observed.append((operation.value, code, seconds))
            self._flush()

    def recovered(self, cause: str, message: str, concerned: tuple[ClaimRef, ...] = ()) -> None:
        """Takes the recovery of a state file: counted, and reported on the Node and on the claims concerned."""
        reason = {"newer": "CheckpointNewer"}.get(cause, "CheckpointCorrupt")
        with self._lock:
            self._recoveries.append(cause)
            for claim in (None, *concerned):
                self._events.append(PluginEvent(reason=reason, message=message, claim=claim))
            self._flush()

    def streams(self, count: int) -> None:
        """The number of open health streams."""
        with self._lock:
            self._streams = count
            self._flush()

    def claims(self, count: int) -> None:
        """The number of prepared claims."""
        with self._lock:
            self._claims = count
            self._flush()

    def _flush(self) -> None:
        """Under the lock, so that events keep their order; both sinks return at once by contract."""
        if self._sources is None:
            return
        while self._events:
            self._sources.events.emit(self._events.popleft())
        metrics = self._sources.metrics
        if metrics is None:
            self._observed.clear()
            self._recoveries.clear()
            return
        while self._observed:
            operation, code, seconds = self._observed.popleft()
            metrics.prepare_seconds.labels(operation, code).observe(seconds)
        while self._recoveries:
            metrics.checkpoint_recoveries.labels(self._recoveries.popleft()).inc()
        metrics.health_stream_clients.set(self._streams)
        metrics.prepared_claims.set(self._claims)
