"""The reactions of this instance of the plugin to the publisher lock."""

import logging

from gpuvitals.inventory.event import Event
from gpuvitals.kubeletplugin.attached_ports import AttachedPorts
from gpuvitals.kubeletplugin.health_service import HealthService
from gpuvitals.kubeletplugin.ports import PluginListener
from gpuvitals.kubeletplugin.settings import PluginSettings
from gpuvitals.kubeletplugin.telemetry import TelemetryBuffer
from gpuvitals.observability.logs import keys

log = logging.getLogger(__name__)


class Instance:
    """An InstanceObserver: keeps health streams, listeners and events in step with the right to publish."""

    def __init__(
        self,
        settings: PluginSettings,
        ports: AttachedPorts,
        telemetry: TelemetryBuffer,
        health: HealthService,
        listener: PluginListener,
    ) -> None:
        self._settings = settings
        self._ports = ports
        self._telemetry = telemetry
        self._health = health
        self._listener = listener

    def is_ready(self) -> bool:
        """Whether this instance could publish now."""
        return self._ports.can_publish

    def publishing_changed(self, *, is_publishing: bool) -> None:
        """Starts or silences the health streams, and notifies the listener."""
        log.info("publishing" if is_publishing else "not publishing any more")
        self._health.notify()
        self._listener.kubelet_changed()

    def instance_departed(self) -> None:
        """Sends the health lists again: the end of the other instance's stream cleared the kubelet's cache."""
        self._health.repeat()

    def standing_by(self, publisher: str) -> None:
        """Reports a second installation that has the same driver name."""
        message = (
            f"agent {self._settings.pod_uid} stands by: agent {publisher} on this node publishes for "
            f"driver {self._settings.naming.driver}; two installations have one driver name: remove one of them, or "
            "give it a driver name and a state folder of its own"
        )
        log.warning("stands by", extra=keys(publisher=publisher))
        self._telemetry.emit(Event(reason="StandingBy", message=message))
