"""What the kubelet edge needs from others, as small Protocols; `wiring` passes the implementations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.kubeletplugin.allocated_claim import AllocatedClaim
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.snapshot import Snapshot

if TYPE_CHECKING:  # its import costs more than opening the sockets does
    from gpuvitals.observability.metrics import NodeMetrics


class ClaimNotFoundError(Exception):
    """The API server has no claim of that namespace and name."""


class ClaimUnavailableError(Exception):
    """The claim could not be read now (server away, busy, no permission); asking again later can help."""


class ClaimSource(Protocol):
    """Reads claims live from the API server."""

    def allocated(self, namespace: str, name: str) -> AllocatedClaim:
        """The claim as it is now, never from a cache.

        Contract: answers or raises ClaimNotFoundError or ClaimUnavailableError within 10 s; raises nothing else.
        """
        ...


class SnapshotSource(Protocol):
    """Where the node's present state is read."""

    def current(self) -> Snapshot | None:
        """The newest snapshot, None before the first. Contract: returns at once, from any thread."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginEvent:
    """Something a person should see. `reason` is CamelCase; `claim` None means that the event is about the node."""

    reason: str
    message: str
    claim: ClaimRef | None = None
    warning: bool = True


class EventSink(Protocol):
    """Takes events for the API server."""

    def emit(self, event: PluginEvent) -> None:
        """Queues the event. Contract: returns at once, never raises; equal events may be aggregated."""
        ...


def _no_fence() -> frozenset[GpuUuid]:
    return frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginPorts:
    """Everything that arrives after the sockets are open.

    `fenced` gives the devices that every first preparation is refused for. `tick_age` gives the seconds since the
    agent's loop last turned: health is vouched for only while it turns. `can_publish`: whether all that a publisher needs
    was read; until then an older instance goes on. `answer` answers the debug socket's questions
    (see `debug.Answer`); None opens no such socket.
    """

    claims: ClaimSource
    snapshots: SnapshotSource
    events: EventSink
    tick_age: Callable[[], float]
    fenced: Callable[[], frozenset[GpuUuid]] = field(default=_no_fence)
    can_publish: Callable[[], bool] = field(default=lambda: True)
    metrics: "NodeMetrics | None" = None
    answer: Callable[[Mapping[str, object]], object] | None = None
