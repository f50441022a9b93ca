"""Stage 3 of 10: queues signals between the sources and the agent. Levels are coalesced; no event is ever dropped."""

import threading
from collections import deque

from gpuvitals.model.signal import Checkup, ExternalReports, IdentityReport, PresenceReport, Reading, Signal


class SignalQueue:
    """Thread safe. A Reading, Checkup, PresenceReport or ExternalReports replaces its predecessor; events are kept."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._events: deque[Signal] = deque()
        self._levels: dict[tuple[object, ...], Signal] = {}
        self._woken = False

    def put(self, signal: Signal) -> None:
        """Adds a signal and wakes the agent."""
        with self._changed:
            match signal:
                case Reading():
                    self._levels[("reading", signal.source, signal.uuid)] = signal
                case Checkup():
                    self._levels[("checkup", signal.source, signal.uuid)] = signal
                case PresenceReport():
                    self._levels[("presence", signal.source, signal.bus_id)] = signal
                case ExternalReports():
                    self._levels[("reports", signal.source)] = signal
                case _:
                    self._events.append(signal)
            self._changed.notify()

    def wake(self) -> None:
        """Makes a waiting `wait` return at once."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def wait(self, timeout_seconds: float) -> None:
        """Returns on a waiting signal, after the timeout, or on a wake."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or self._levels or self._woken, timeout_seconds)
            self._woken = False

    def take(self) -> list[Signal]:
        """Removes and returns all waiting signals, oldest first.

        Of signals at one instant an identity comes first, as in the kernel log, and levels last. The order does not
        depend on which source was faster.
        """
        with self._changed:
            taken = [*self._events, *self._levels.values()]
            self._events.clear()
            self._levels.clear()
        return sorted(taken, key=_order)


def _order(signal: Signal) -> tuple[float, int]:
    match signal:
        case IdentityReport():
            return signal.seen.at, 0
        case PresenceReport() | ExternalReports():
            return signal.seen.at, 2
        case Reading() | Checkup():
            return signal.seen.at, 3
        case _:
            return signal.seen.at, 1
