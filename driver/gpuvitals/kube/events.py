"""Events: what a person should see with `kubectl describe`, one a change.

A bounded queue and a thread of its own: an event is worth less than the fault it tells of, so it never delays one.
An event that equals one of the last minutes is not sent again.
"""

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

import msgspec

from gpuvitals.kube.client import Call, Transport
from gpuvitals.kube.errors import ApiError
from gpuvitals.kube.retry import EVENTS, Retries, RetryPolicy, retrying
from gpuvitals.kube.right_of_way import RightOfWay
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics

log = logging.getLogger(__name__)

_IDLE_SECONDS = 30.0
_MAX_NOTE_BYTES = 1024
"""Source: kubernetes/kubernetes pkg/apis/core/validation/events.go, NoteLengthLimit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Regarding:
    """The object that an event is about. `namespace` is empty for a Node."""

    api_version: str
    kind: str
    name: str
    namespace: str = ""
    uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """One event. `reason` is CamelCase; `warning` chooses the type."""

    regarding: Regarding
    reason: str
    note: str
    warning: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLimits:
    """How many events wait at most, how long an equal one is not sent again, and how often one is tried."""

    queued: int = 256
    quiet_seconds: float = 300.0
    policy: RetryPolicy = EVENTS


class EventRecorder:
    """Sends events; `emit` never blocks and never raises. `dropped` counts those that nobody will see."""

    def __init__(
        self,
        transport: Transport,
        *,
        reporting_instance: str,
        metrics: NodeMetrics | None = None,
        limits: EventLimits | None = None,
        way: RightOfWay | None = None,
    ) -> None:
        self._way = way or RightOfWay()
        self._transport = transport
        self._instance = reporting_instance
        self._limits = limits or EventLimits()
        self._changed = threading.Condition()
        self._waiting: deque[EventRecord] = deque()
        self._sent: dict[EventRecord, float] = {}
        self.dropped = 0
        self._closing = False
        self._stop = threading.Event()
        retries = Retries(stop=self._stop, metrics=metrics, failed=self._failed)
        self._step = retrying(self._limits.policy, retries)
        # A daemon: an event that can't be sent within the stop deadline is not worth waiting for.
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def start(self) -> None:
        """Starts to send."""
        self._thread.start()

    def stop(self, deadline_seconds: float) -> None:
        """Sends what waits, within the deadline, and stops."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(deadline_seconds)
        self._stop.set()
        with self._changed:
            if self._waiting:
                log.warning("events not sent", extra=keys(waiting=len(self._waiting)))

    def emit(self, event: EventRecord) -> None:
        """Queues one event; where the queue is full the oldest one goes."""
        with self._changed:
            if len(self._waiting) >= self._limits.queued:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(event)
            self._changed.notify()

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing, _IDLE_SECONDS)
                event = self._waiting.popleft() if self._waiting else None
                if event is None and self._closing:
                    return
            if event is not None:
                self._send(event)

    def _send(self, event: EventRecord) -> None:
        now = time.monotonic()
        quiet = self._limits.quiet_seconds
        self._sent = {known: at for known, at in self._sent.items() if now - at < quiet}
        if event in self._sent:
            return
        call = _call(event, self._instance)
        self._way.give()
        try:
            self._step(self._transport.request, call)
            self._sent[event] = now
        except ApiError as error:
            self.dropped += 1
            log.warning("event not sent", extra=keys(reason=event.reason, error=str(error)))

    def _failed(self, error: ApiError, seconds: float) -> None:
        log.debug("event waits", extra=keys(error=str(error), again_in=round(seconds, 1)))


def _call(event: EventRecord, instance: str) -> Call:
    about = event.regarding
    namespace = about.namespace or "default"
    reference = {"apiVersion": about.api_version, "kind": about.kind, "name": about.name}
    reference |= {key: value for key, value in (("namespace", about.namespace), ("uid", about.uid)) if value}
    body = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": "gpuvitals-", "namespace": namespace},
        "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": "vitals.internal/agent",
        "reportingInstance": instance[:128],
        "action": event.reason,
        "reason": event.reason,
        "note": event.note.encode()[:_MAX_NOTE_BYTES].decode(errors="ignore"),
        "type": "Warning" if event.warning else "Normal",
        "regarding": reference,
    }
    path = f"/apis/events.k8s.io/v1/namespaces/{quote(namespace, safe='')}/events"
    return Call(method="POST", path=path, body=msgspec.json.encode(body))
