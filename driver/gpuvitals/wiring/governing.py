"""What people say to a node, composed: the cluster's policies and what is written on the Node."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gpuvitals.health.policy import Policy
from gpuvitals.kube.client import Transport
from gpuvitals.kube.node_watch import NodeMeta, NodeWatch, NodeWatchSettings
from gpuvitals.kube.policies import PolicyWatch
from gpuvitals.node.governor import Governor, GovernorPorts
from gpuvitals.observability.metrics import NodeMetrics

_FILE = "policies.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rulership:
    """Whose node, under which API group, with which values of its own, and where what is known is kept."""

    node: str
    group: str
    base: Policy
    directory: Path
    seconds: float


class Government:
    """The governor with those who tell it. `start` comes after `governor.load`."""

    def __init__(
        self,
        settings: Rulership,
        transport: Transport,
        metrics: NodeMetrics,
        ports: GovernorPorts,
    ) -> None:
        self.governor = Governor(settings.base, settings.directory / _FILE, ports)
        self._policies = PolicyWatch(settings.group, transport, metrics, self.governor)
        watch = NodeWatchSettings(node=settings.node, seconds=settings.seconds)
        self._node = NodeWatch(watch, transport, metrics, self._node_changed)
        self._listeners: list[Callable[[NodeMeta], None]] = []

    def start(self) -> None:
        """Starts to listen."""
        self._policies.start()
        self._node.start()

    def stop(self, deadline_seconds: float) -> None:
        """Stops within twice the deadline."""
        self._policies.stop(deadline_seconds)
        self._node.stop(deadline_seconds)

    def _node_changed(self, meta: NodeMeta) -> None:
        self.governor.labels(meta.labels)
        for listener in self._listeners:
            listener(meta)
