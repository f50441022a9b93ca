"""The interface between sources of signals and the agent."""

from typing import Protocol

from gpuvitals.model.signal import Signal


class SignalSink(Protocol):
    """Receives signals. Contract: `put` returns at once and never drops a signal."""

    def put(self, signal: Signal) -> None:
        """Accepts one signal. Any thread."""
        ...


class SignalSource(Protocol):
    """Observes one part of the node. It reports its own outages as MonitorReport signals, and keeps trying."""

    @property
    def name(self) -> str:
        """The name of the source in logs and of its thread."""
        ...

    def start(self) -> None:
        """Starts observing, on threads of its own."""
        ...

    def stop(self, deadline_seconds: float) -> None:
        """Stops and joins the threads within the deadline."""
        ...
