"""What a source of signals is to the rest: something that starts, puts signals, says what it counts, and stops."""

from typing import Protocol

from gpuvitals.model.signal import Signal


class SignalSink(Protocol):
    """Where signals go. Contract: `put` returns at once and never drops."""

    def put(self, signal: Signal) -> None:
        """Hands over one signal."""
        ...


class SignalSource(Protocol):
    """A thing that observes. It reports its own blindness as a MonitorReport and keeps trying."""

    @property
    def name(self) -> str:
        """For logs and thread names."""
        ...

    def start(self) -> None:
        """Begins to observe, on threads of its own."""
        ...

    def stop(self, deadline_seconds: float) -> None:
        """Stops and joins its threads within the deadline."""
        ...
