"""The plugin's ports, which are attached after the sockets are open, and the newest snapshot."""

from gpuvitals.kubeletplugin.ports import PluginPorts
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.snapshot import Snapshot


class AttachedPorts:
    """Holds the ports once they are attached. Thread safe: each attribute is one reference, replaced as a whole."""

    def __init__(self) -> None:
        self._ports: PluginPorts | None = None
        self._notified: Snapshot | None = None

    def attach(self, ports: PluginPorts) -> None:
        """Sets the ports."""
        self._ports = ports

    def notify(self, snapshot: Snapshot) -> None:
        """Sets the newest snapshot, which may be ahead of the agent's own reference to it."""
        self._notified = snapshot

    @property
    def ports(self) -> PluginPorts | None:
        """The attached ports, None before `attach`."""
        return self._ports

    @property
    def snapshot(self) -> Snapshot | None:
        """The newer of the agent's snapshot and the notified one, None before the first."""
        ports = self._ports
        current = None if ports is None else ports.agent.snapshot
        notified = self._notified
        if current is None or notified is None:
            return current or notified
        return current if current.revision > notified.revision else notified

    @property
    def tick_age_seconds(self) -> float | None:
        """Seconds since the last turn of the agent's loop, None before `attach`."""
        ports = self._ports
        return None if ports is None else ports.agent.tick_age_seconds

    @property
    def fenced(self) -> frozenset[GpuUuid]:
        """Devices that are refused to every first preparation."""
        fences = None if self._ports is None else self._ports.fences
        return frozenset() if fences is None else fences.fenced

    @property
    def can_publish(self) -> bool:
        """Whether this instance is ready to take over publishing."""
        ports = self._ports
        if ports is None or self.snapshot is None:
            return False
        return ports.readiness is None or ports.readiness.can_publish
