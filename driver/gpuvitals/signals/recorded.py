"""Signals as lines of JSON, the way the agent logs what it heard: `{"time": ..., "event": "signal", ...}`.

A recording holds what a kernel log can't: the readings of NVML. A replay of it judges on the same evidence as the agent.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import get_args

import msgspec

from gpuvitals.model.signal import Signal

EVENT = "signal"
_KINDS: dict[str, type[Signal]] = {kind.__name__: kind for kind in get_args(Signal)}


def event_line(signal: Signal, heard_time: datetime) -> str:
    """One line, without newline. `heard_time` may be later than when the signal was seen: a log is read back."""
    event = {
        "time": heard_time.isoformat(),
        "event": EVENT,
        "kind": type(signal).__name__,
        "signal": msgspec.to_builtins(signal, str_keys=True),
    }
    return json.dumps(event, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class HeardSignal:
    """A recorded signal and when it was heard."""

    signal: Signal
    time: datetime


def signal_of_event(entry: Mapping[str, object]) -> HeardSignal | None:
    """The signal of one event; None for events of another name. Raises ValueError naming the field.

    A kind that only a newer agent knows is refused, not skipped: it may have been the one that decides.
    """
    if entry.get("event") != EVENT:
        return None
    kind = entry.get("kind")
    found = _KINDS.get(kind) if isinstance(kind, str) else None
    if found is None:
        raise ValueError(
            f"kind: {str(kind)[:40]!r} is no signal; expected one of {', '.join(sorted(_KINDS))}"
        )
    try:
        signal = msgspec.convert(entry.get("signal"), type=found)
        return HeardSignal(signal, heard_time(entry))
    except (msgspec.ValidationError, RecursionError) as error:
        raise ValueError(f"signal: {str(error)[:200].lower()}") from error


def heard_time(entry: Mapping[str, object]) -> datetime:
    """The time of any event of the agent's log. Raises ValueError."""
    text = entry.get("time")
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError as error:
        raise ValueError(f"time: {str(text)[:40]!r} is no time; expected it as ISO 8601") from error
    if found.tzinfo is None:
        raise ValueError(f"time: {text} has no time zone")
    return found
