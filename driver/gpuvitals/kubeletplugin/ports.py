"""Protocols through which the kubelet edge uses other parts of the agent. `wiring` passes the implementations."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gpuvitals.inventory.event import EventSink
from gpuvitals.kubeletplugin.allocated_claim import AllocatedClaim
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.snapshot import Snapshot

if TYPE_CHECKING:  # importing it takes longer than opening the sockets
    from gpuvitals.observability.metrics import NodeMetrics


class ClaimNotFoundError(Exception):
    """The API server has no claim with this namespace and name."""


class ClaimUnavailableError(Exception):
    """The claim can't be read at present (server away, busy, no permission); a later read may succeed."""


class ClaimSource(Protocol):
    """Reads claims from the API server."""

    def allocated(self, namespace: str, name: str) -> AllocatedClaim:
        """The claim as stored now, never from a cache.

        Contract: returns or raises ClaimNotFoundError or ClaimUnavailableError within 10 s; raises nothing else.
        """
        ...


class SnapshotSource(Protocol):
    """Provides the node's newest snapshot."""

    @property
    def snapshot(self) -> Snapshot | None:
        """The newest snapshot, None before the first. Contract: returns at once, on any thread."""
        ...


class AgentState(SnapshotSource, Protocol):
    """The node's agent: its snapshot, and whether its loop runs."""

    @property
    def tick_age_seconds(self) -> float:
        """Seconds since the last turn of the agent's loop. Contract: returns at once, on any thread."""
        ...


class Fences(Protocol):
    """Devices that are fenced for a remediation."""

    @property
    def fenced(self) -> frozenset[GpuUuid]:
        """Devices refused to every first preparation. Contract: returns at once, on any thread."""
        ...


class Readiness(Protocol):
    """Whether this instance can take over publishing."""

    @property
    def can_publish(self) -> bool:
        """True once everything that a publisher needs was read; until then an older instance keeps publishing."""
        ...


class DebugResponder(Protocol):
    """Answers requests on the debug socket."""

    def answer(self, request: Mapping[str, object]) -> object:
        """A value that json.dumps can encode. Raises ValueError for an invalid request."""
        ...


class PluginListener(Protocol):
    """Is called, on any thread, after changes in the plugin. Contract: both methods return at once and raise nothing."""

    def prepared_changed(self) -> None:
        """The prepared devices may have changed."""
        ...

    def kubelet_changed(self) -> None:
        """The kubelet's connection or this instance's right to publish may have changed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginPorts:
    """Everything that is attached after the sockets are open.

    Without `fences` no device is fenced; without `readiness` the first snapshot makes the instance ready to publish;
    without `debug` there is no debug socket.
    """

    claims: ClaimSource
    agent: AgentState
    events: EventSink
    fences: Fences | None = None
    readiness: Readiness | None = None
    metrics: "NodeMetrics | None" = None
    debug: DebugResponder | None = None
