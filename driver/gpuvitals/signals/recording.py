"""Recordings of signals: lines of JSON that `gpuvitals replay` evaluates again, for example under another policy.

    {"time": "2026-11-25T06:00:00+00:00", "event": "signal", "kind": "XidReport", "signal": {...}}

A recording holds NVML readings too, which a kernel log does not. The recorder stands between the sources and the queue
and delays neither: a thread of its own writes the lines, and the recording counts the signals that it leaves out.
"""

import json
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import get_args

import msgspec

from gpuvitals.model.clock import Clock
from gpuvitals.model.signal import ExternalReports, Signal
from gpuvitals.observability.logs import keys
from gpuvitals.signals.source import SignalSink
from gpuvitals.stoppable_thread import StoppableThread

log = logging.getLogger(__name__)

MAX_BYTES = 64 << 20
"""Of one file. The previous file is kept as `.1`; for eight GPUs both cover about a day."""
MAX_WAITING = 20_000
_WRITE_SECONDS = 1.0

EVENT = "signal"
_RECORDED_KINDS: dict[type[Signal], str] = {ExternalReports: "StatementsReport"}
"""Kinds whose name in recordings is not the name of the class."""
_RECORDED_FIELDS = {"reports": "statements", "state": "says"}
"""Fields of ExternalReports and of its reports, likewise."""
_FIELDS = {recorded: field for field, recorded in _RECORDED_FIELDS.items()}
_KINDS: dict[str, type[Signal]] = {
    _RECORDED_KINDS.get(kind, kind.__name__): kind for kind in get_args(Signal)
}


def event_line(signal: Signal, received_time: datetime) -> str:
    """One line, without newline. `received_time` may be later than `signal.seen`: old log lines are read at start."""
    body = msgspec.to_builtins(signal, str_keys=True)
    event = {
        "time": received_time.isoformat(),
        "event": EVENT,
        "kind": recorded_kind(signal),
        "signal": _renamed(body, _RECORDED_FIELDS) if isinstance(signal, ExternalReports) else body,
    }
    return json.dumps(event, separators=(",", ":"))


def recorded_kind(signal: Signal) -> str:
    """The name of a signal's kind in recordings."""
    return _RECORDED_KINDS.get(type(signal), type(signal).__name__)


@dataclass(frozen=True, slots=True)
class RecordedSignal:
    """A signal and the time at which the agent received it."""

    signal: Signal
    time: datetime


def signal_of_event(entry: Mapping[str, object]) -> RecordedSignal | None:
    """The signal of one event; None for an event of another name. Raises ValueError naming the field.

    A kind of a newer version is an error, not skipped: it may hold the decisive signal.
    """
    if entry.get("event") != EVENT:
        return None
    name = entry.get("kind")
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(
            f"kind: {str(name)[:40]!r} is no signal; expected one of {', '.join(sorted(_KINDS))}"
        )
    body = entry.get("signal")
    try:
        signal = msgspec.convert(_renamed(body, _FIELDS) if kind is ExternalReports else body, type=kind)
        return RecordedSignal(signal, received_time(entry))
    except (msgspec.ValidationError, RecursionError) as error:
        raise ValueError(f"signal: {str(error)[:200].lower()}") from error


def received_time(entry: Mapping[str, object]) -> datetime:
    """The time of any event of the agent's log. Raises ValueError."""
    text = entry.get("time")
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError as error:
        raise ValueError(f"time: {str(text)[:40]!r} is no time; expected it as ISO 8601") from error
    if found.tzinfo is None:
        raise ValueError(f"time: {text} has no time zone")
    return found


def _renamed(value: object, names: Mapping[str, str]) -> object:
    """The value with the keys of all its objects renamed."""
    if isinstance(value, dict):
        return {names.get(key, key): _renamed(each, names) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_renamed(each, names) for each in value]
    return value


class SignalRecorder:
    """A SignalSink that passes signals on to another and records them; without a path it records nothing."""

    def __init__(
        self, sink: SignalSink, clock: Clock, path: Path | None, *, max_bytes: int = MAX_BYTES
    ) -> None:
        self._sink = sink
        self._clock = clock
        self._path = path
        self._max_bytes = max_bytes
        self._waiting: deque[tuple[Signal, datetime]] = deque()
        self._left_out = 0
        self._failed = False
        self._thread = StoppableThread(self._run, name="recorder", daemon=False)

    def put(self, signal: Signal) -> None:
        """Passes the signal on, then queues it for the recording. Any thread; does not block."""
        self._sink.put(signal)
        if self._path is None or self._failed:
            return
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append((signal, self._clock.now().time))
        else:
            self._left_out += 1

    def start(self) -> None:
        """Starts writing."""
        if self._path is not None:
            self._thread.start()

    def stop(self, deadline_seconds: float) -> None:
        """Writes the queued signals, within the deadline."""
        self._thread.stop(deadline_seconds)

    def _run(self) -> None:
        assert self._path is not None
        while not self._failed:
            is_last = self._thread.stopping.wait(_WRITE_SECONDS)
            try:
                self._write(self._path)
            except OSError as error:
                # A recording is optional: the agent goes on without it, and logs the reason.
                self._failed = True
                self._waiting.clear()
                log.error("signals not recorded any more", extra=keys(path=self._path, reason=str(error)))
            if is_last:
                return

    def _write(self, path: Path) -> None:
        lines = [event_line(*self._waiting.popleft()) for _ in range(len(self._waiting))]
        if self._left_out:
            lost, self._left_out = self._left_out, 0
            time = self._clock.now().time.isoformat()
            lines.append(json.dumps({"time": time, "event": "signals left out", "count": lost}))
        if not lines:
            return
        if path.exists() and path.stat().st_size >= self._max_bytes:
            path.replace(path.with_name(f"{path.name}.1"))
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))
