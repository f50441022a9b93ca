"""Metrics, events and log lines of the plugin.

`TelemetryBuffer` holds events and metrics until their sinks are attached, because the sockets open first.
`OutcomeReporter` reports finished calls on a thread of its own, so that no pod waits for telemetry.
"""

import logging
import queue
from collections import deque
from threading import Lock
from typing import Protocol

from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.inventory.event import Event, EventSink
from gpuvitals.kubeletplugin.outcome import ClaimOutcome, Operation, RefusalCode
from gpuvitals.kubeletplugin.ports import PluginPorts
from gpuvitals.observability.logs import keys
from gpuvitals.stoppable_thread import StoppableThread

_BUFFERED = 256
"""Entries of each kind held before the sinks are attached; the oldest are dropped first."""
_BATCH_SECONDS = 0.01
"""Delay before a report: pods that start together need the processor first, and their calls are reported together."""
_IDLE_SECONDS = 30.0

_WITHOUT_EVENT = frozenset({RefusalCode.STOPPING, RefusalCode.SUPERSEDED, RefusalCode.STARTING})
"""Refusals in normal operation: logged and counted, without an event."""

log = logging.getLogger(__name__)


class TelemetryBuffer:
    """Accepts events and metrics at any time and passes them on once `attach` was called. Thread safe; never blocks."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._ports: PluginPorts | None = None
        self._events: deque[Event] = deque(maxlen=_BUFFERED)
        self._durations: deque[tuple[str, str, float]] = deque(maxlen=_BUFFERED)
        self._recoveries: deque[str] = deque(maxlen=_BUFFERED)
        self._streams = 0
        self._claims = 0

    def attach(self, ports: PluginPorts) -> None:
        """Passes on everything buffered so far, and later entries at once."""
        with self._lock:
            self._ports = ports
            self._flush()

    def emit(self, event: Event) -> None:
        """Queues an event."""
        with self._lock:
            self._events.append(event)
            self._flush()

    def observe(self, operation: Operation, code: str, seconds: float) -> None:
        """Records the duration of one claim's operation."""
        with self._lock:
            self._durations.append((operation.value, code, seconds))
            self._flush()

    def recovered(self, cause: str, message: str, claims: tuple[ClaimRef, ...] = ()) -> None:
        """Counts the recovery of the checkpoint, and emits events on the Node and on the affected `claims`."""
        reason = {"newer": "CheckpointNewer"}.get(cause, "CheckpointCorrupt")
        with self._lock:
            self._recoveries.append(cause)
            for claim in (None, *claims):
                self._events.append(Event(reason=reason, message=message, claim=claim))
            self._flush()

    def streams(self, count: int) -> None:
        """Sets the number of open health streams."""
        with self._lock:
            self._streams = count
            self._flush()

    def claims(self, count: int) -> None:
        """Sets the number of prepared claims."""
        with self._lock:
            self._claims = count
            self._flush()

    def _flush(self) -> None:
        """Runs under the lock to keep the order of events. Both sinks return at once, by their contract."""
        if self._ports is None:
            return
        while self._events:
            self._ports.events.emit(self._events.popleft())
        metrics = self._ports.metrics
        if metrics is None:
            self._durations.clear()
            self._recoveries.clear()
            return
        while self._durations:
            operation, code, seconds = self._durations.popleft()
            metrics.prepare_seconds.labels(operation, code).observe(seconds)
        while self._recoveries:
            metrics.checkpoint_recoveries.labels(self._recoveries.popleft()).inc()
        metrics.health_stream_clients.set(self._streams)
        metrics.prepared_claims.set(self._claims)


class OutcomeSink(EventSink, Protocol):
    """Takes the metrics and events of finished calls."""

    def observe(self, operation: Operation, code: str, seconds: float) -> None:
        """Records the duration of one claim's operation. Contract: returns at once, never raises."""
        ...


class PreparedState(Protocol):
    """The prepared claims, as other parts of the agent see them."""

    def refresh(self) -> None:
        """Reads the checkpoint and notifies listeners if it has changed."""
        ...


class OutcomeReporter:
    """Reports finished calls after their RPCs have returned: one refresh of the prepared claims, then each outcome.

    Outcomes added before `start` are reported too.
    """

    def __init__(self, sink: OutcomeSink, prepared: PreparedState) -> None:
        self._sink = sink
        self._prepared = prepared
        self._added: queue.SimpleQueue[list[ClaimOutcome]] = queue.SimpleQueue()
        # A daemon thread: a lost report loses no state, because prepared claims are in the checkpoint.
        self._thread = StoppableThread(self._run, name="kubeletplugin-telemetry", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def add(self, outcomes: list[ClaimOutcome]) -> None:
        """Queues the outcomes of one call. Returns at once."""
        self._added.put(outcomes)

    def stop(self, deadline_seconds: float) -> None:
        """Reports the queued outcomes within the deadline and ends the thread."""
        self._thread.stopping.set()
        self._added.put([])
        self._thread.stop(deadline_seconds)

    def _run(self) -> None:
        stopping = self._thread.stopping
        while not (stopping.is_set() and self._added.empty()):
            try:
                outcomes = self._added.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                continue
            stopping.wait(_BATCH_SECONDS)
            while not self._added.empty():
                outcomes = [*outcomes, *self._added.get()]
            if outcomes:
                self._report_all(outcomes)

    def _report_all(self, outcomes: list[ClaimOutcome]) -> None:
        try:
            self._prepared.refresh()
            for outcome in outcomes:
                self._report(outcome)
        except Exception:  # no caller is left to receive the error, and the next calls must be reported
            log.exception(
                "finished calls not reported", extra=keys(claims=[each.ref.uid for each in outcomes])
            )

    def _report(self, outcome: ClaimOutcome) -> None:
        ref, refusal, operation = outcome.ref, outcome.refusal, outcome.operation.value
        code = "ok" if refusal is None else refusal.code.value
        self._sink.observe(outcome.operation, code, outcome.seconds)
        claim = f"{ascii(ref.namespace[:80])[1:-1]}/{ascii(ref.name[:260])[1:-1]}"
        if refusal is None:
            log.info(f"{operation}d", extra=keys(claim=claim, uid=ref.uid, seconds=round(outcome.seconds, 4)))
            return
        extra = keys(claim=claim, uid=ascii(ref.uid[:80])[1:-1], reason=code, detail=refusal.message)
        log.warning(f"{operation} refused", extra=extra)
        if refusal.code not in _WITHOUT_EVENT:
            # The names of an invalid reference can't be those of an object: its event is about the Node.
            about = None if refusal.code is RefusalCode.INVALID_ARGUMENT else ref
            message = refusal.text(f"{operation} of claim {claim} refused: ")
            self._sink.emit(Event(reason=refusal.code.value, message=message, claim=about))
