"""Notifies the other parts of the agent after a change of the prepared claims, by this instance or another."""

import logging
from threading import Lock

from gpuvitals.kubeletplugin.checkpoint.checkpoint import Checkpoint
from gpuvitals.kubeletplugin.checkpoint.format import State
from gpuvitals.kubeletplugin.health_service import HealthService
from gpuvitals.kubeletplugin.outcome import RefusedError
from gpuvitals.kubeletplugin.ports import PluginListener
from gpuvitals.kubeletplugin.telemetry import TelemetryBuffer
from gpuvitals.observability.logs import keys

log = logging.getLogger(__name__)


class PluginListeners:
    """Calls every added listener. Thread safe: a listener is only ever added."""

    def __init__(self) -> None:
        self._listeners: list[PluginListener] = []

    def add(self, listener: PluginListener) -> None:
        """Adds a listener."""
        self._listeners.append(listener)

    def prepared_changed(self) -> None:
        """Calls `prepared_changed` of each listener."""
        for listener in self._listeners:
            listener.prepared_changed()

    def kubelet_changed(self) -> None:
        """Calls `kubelet_changed` of each listener."""
        for listener in self._listeners:
            listener.kubelet_changed()


class PreparedClaims:
    """Follows the checkpoint. Thread safe."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        health: HealthService,
        telemetry: TelemetryBuffer,
        listeners: PluginListeners,
    ) -> None:
        self._checkpoint = checkpoint
        self._health = health
        self._telemetry = telemetry
        self._listeners = listeners
        self._lock = Lock()
        self._state: State | None = None

    def refresh(self) -> None:
        """Reads the checkpoint and, if it has changed, updates metric, health streams and listeners. Raises nothing."""
        # The lock keeps the order: an older state must not replace a newer one. An unchanged file costs two stats.
        with self._lock:
            try:
                state = self._checkpoint.read()
            except RefusedError as error:
                log.warning("checkpoint not readable", extra=keys(reason=error))
                return
            # Compared by identity: after a change and its reversal the state is equal, and listeners may have seen
            # the state in between.
            if state is self._state:
                return
            self._state = state
        self._telemetry.claims(len(state.claims))
        self._health.notify()
        self._listeners.prepared_changed()
