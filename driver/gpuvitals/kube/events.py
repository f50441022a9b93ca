"""Sends Kubernetes events, which people read with `kubectl describe`.

A bounded queue and a thread of its own, so that an event never delays the fault that it reports. An event that equals one
of the last minutes is not sent again. The rate of each reason and object is limited too: texts carry counts, so a source
that fails in a loop makes a new text each time.
"""

import logging
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

import msgspec

from gpuvitals.kube.cause_log import CauseLog
from gpuvitals.kube.errors import ApiError, Permanent, Refused
from gpuvitals.kube.retry import EVENTS, Backoff, RetryPolicy
from gpuvitals.kube.slices.repair_budget import RepairBudget
from gpuvitals.kube.transport import Call, Transport
from gpuvitals.kube.write_priority import SliceWritePriority
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals.stoppable_thread import StoppableThread

log = logging.getLogger(__name__)

_IDLE_SECONDS = 30.0
_MAX_NOTE_BYTES = 1024
"""Source: kubernetes/kubernetes pkg/apis/core/validation/events.go, NoteLengthLimit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSource:
    """The reporter: `controller` is a qualified name, `instance` names the process."""

    controller: str
    instance: str


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
    """Limits of queue, repetition and retry.

    At most `queued` events wait. An equal event is not sent again for `quiet_seconds`. For each reason and object `burst`
    events are sent at once, then one every `seconds`, which counts the events that it replaces. An event is retried for
    `worth_seconds`, and at most `refused_tries` times while the right to send it is missing.
    """

    queued: int = 256
    quiet_seconds: float = 300.0
    burst: int = 10
    seconds: float = 60.0
    worth_seconds: float = 900.0
    refused_tries: int = 6
    policy: RetryPolicy = EVENTS


@dataclass(slots=True, kw_only=True, eq=False)
class _Waiting:
    """An event to be sent at `due`. `others` counts the events of its reason and object that it replaces."""

    event: EventRecord
    queued_at: float
    time: datetime
    due: float
    backoff: Backoff
    tries: int = 0
    others: int = 0


class EventRecorder:
    """Sends events. `emit` never blocks and never raises. `dropped` counts the events that were never sent. Thread safe."""

    def __init__(
        self,
        transport: Transport,
        source: EventSource,
        *,
        metrics: NodeMetrics | None = None,
        limits: EventLimits | None = None,
        priority: SliceWritePriority | None = None,
    ) -> None:
        self._priority = priority or SliceWritePriority()
        self._transport = transport
        self._source = source
        self._metrics = metrics
        self._limits = limits or EventLimits()
        self._changed = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._held: dict[tuple[str, Regarding], _Waiting] = {}
        self._known: dict[EventRecord, float] = {}
        self._buckets: dict[tuple[str, Regarding], RepairBudget] = {}
        self._server = Backoff(self._limits.policy)
        self._unreachable_until = 0.0
        self.dropped = 0
        self._is_abandoned = False
        """Whether the stop deadline has passed."""
        self._failures = CauseLog(log, "event not sent")
        # A daemon: an event that can't be sent within the stop deadline is not worth waiting for.
        self._thread = StoppableThread(self._run, name="events", daemon=True)

    def start(self) -> None:
        """Starts to send."""
        self._thread.start()

    def stop(self, deadline_seconds: float) -> None:
        """Sends the waiting events within the deadline, and stops."""
        self._thread.stopping.set()
        with self._changed:
            self._changed.notify()
        self._thread.stop(deadline_seconds)
        with self._changed:
            self._is_abandoned = True
            self._changed.notify()
            if self._waiting:
                log.warning("events not sent", extra=keys(waiting=len(self._waiting)))

    def emit(self, event: EventRecord) -> None:
        """Queues one event. A full queue drops its oldest one."""
        now = time.monotonic()
        with self._changed:
            if self._is_known(event, now):
                return
            self._known[event] = now
            entry = _Waiting(
                event=event,
                queued_at=now,
                time=datetime.now(UTC),
                due=now,
                backoff=Backoff(self._limits.policy),
            )
            if not self._is_held(entry, now):
                self._queue(entry)
                self._changed.notify()

    def _is_known(self, event: EventRecord, now: float) -> bool:
        """Whether an equal event was emitted within `quiet_seconds`."""
        quiet = self._limits.quiet_seconds
        self._known = {known: at for known, at in self._known.items() if now - at < quiet}
        return event in self._known

    def _is_held(self, entry: _Waiting, now: float) -> bool:
        """Whether the rate limit holds the event back, in place of an older one that it held back until now."""
        key = (entry.event.reason, entry.event.regarding)
        held = self._held.get(key)
        if held is not None:
            held.event, held.time, held.others = entry.event, entry.time, held.others + 1
            return True
        if key not in self._buckets and len(self._buckets) >= self._limits.queued:
            self._buckets.pop(next(iter(self._buckets)))
        limits = self._limits
        bucket = self._buckets.setdefault(key, RepairBudget(burst=limits.burst, seconds=limits.seconds))
        wait = bucket.take(now)
        if not wait:
            return False
        entry.due = now + wait
        self._held[key] = entry
        self._queue(entry)
        self._changed.notify()
        return True

    def _queue(self, entry: _Waiting) -> None:
        if len(self._waiting) >= self._limits.queued:
            self._forget(self._waiting[0])
            self.dropped += 1
        self._waiting.append(entry)

    def _forget(self, entry: _Waiting) -> None:
        if entry in self._waiting:
            self._waiting.remove(entry)
        self._held = {key: held for key, held in self._held.items() if held is not entry}

    def _run(self) -> None:
        while not self._is_abandoned:
            with self._changed:
                now = time.monotonic()
                entry = self._next(now)
                if entry is None:
                    if self._thread.stopping.is_set() and not self._sends_before_end(now):
                        return
                    self._changed.wait(self._wait_seconds(now))
                    continue
                self._held = {key: held for key, held in self._held.items() if held is not entry}
            self._priority.wait()
            self._send(entry)

    def _next(self, now: float) -> _Waiting | None:
        """The event to send now: those that have not failed first, in the order of their arrival."""
        if now < self._unreachable_until:
            return None
        due = [entry for entry in self._waiting if entry.due <= now]
        return min(due, key=lambda entry: (entry.tries > 0, entry.queued_at), default=None)

    def _sends_before_end(self, now: float) -> bool:
        """Whether an event waits that may still be sent before the stop."""
        soon = max(self._unreachable_until, now)
        return any(entry.due <= soon + 1 for entry in self._waiting if entry.others == 0)

    def _wait_seconds(self, now: float) -> float:
        soonest = min((entry.due for entry in self._waiting), default=now + _IDLE_SECONDS)
        return max(0.0, min(_IDLE_SECONDS, max(soonest, self._unreachable_until) - now))

    def _send(self, entry: _Waiting) -> None:
        try:
            self._transport.request(_call(entry, self._source))
        except ApiError as error:
            self._not_sent(entry, error, time.monotonic())
            return
        with self._changed:
            self._forget(entry)
            self._server.succeeded()

    def _not_sent(self, entry: _Waiting, error: ApiError, now: float) -> None:
        """Records a failure. An event that fails alone holds up no other; while no server answers all events wait."""
        entry.tries += 1
        if self._metrics is not None:
            self._metrics.api_retries.labels(code=str(error.status)).inc()
        self._failures.failed(error, reason=entry.event.reason)
        is_lasting = isinstance(error, Permanent) and (
            not isinstance(error, Refused) or entry.tries >= self._limits.refused_tries
        )
        with self._changed:
            if is_lasting or now - entry.queued_at > self._limits.worth_seconds:
                self._forget(entry)
                self._known.pop(entry.event, None)
                self.dropped += 1
            elif error.status:
                entry.due = now + entry.backoff.seconds(error)
            else:
                self._unreachable_until = now + self._server.seconds(error)


def _call(entry: _Waiting, source: EventSource) -> Call:
    event = entry.event
    about = event.regarding
    others = f" (and {entry.others} more {event.reason} since)" if entry.others else ""
    # A file name in the note may have bytes that are no valid text.
    text = event.note.encode(errors="backslashreplace")
    note = text[: _MAX_NOTE_BYTES - len(others)].decode(errors="ignore") + others
    namespace = about.namespace or "default"
    reference = {"apiVersion": about.api_version, "kind": about.kind, "name": about.name}
    reference |= {key: value for key, value in (("namespace", about.namespace), ("uid", about.uid)) if value}
    body = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": "gpuvitals-", "namespace": namespace},
        "eventTime": entry.time.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": source.controller,
        "reportingInstance": source.instance[:128],
        "action": event.reason,
        "reason": event.reason,
        "note": note,
        "type": "Warning" if event.warning else "Normal",
        "regarding": reference,
    }
    path = f"/apis/events.k8s.io/v1/namespaces/{quote(namespace, safe='')}/events"
    return Call(method="POST", path=path, body=msgspec.json.encode(body))
