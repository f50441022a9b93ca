"""A Kubernetes Event before it is written: one occurrence on the node, a GPU or a claim."""

from dataclasses import dataclass
from typing import Protocol

from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.model.ids import GpuUuid


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One occurrence. `reason` is CamelCase.

    With a `claim` the event is about that claim alone; otherwise it is about the Node. With a `gpu` it is repeated on
    each claim that holds the GPU. `has_next_step`: the owner of such a claim has to act, since the GPU left service.
    """

    reason: str
    message: str
    warning: bool = True
    gpu: GpuUuid | None = None
    claim: ClaimRef | None = None
    has_next_step: bool = False


class EventSink(Protocol):
    """Accepts events for the API server."""

    def emit(self, event: Event) -> None:
        """Queues the event. Contract: returns at once, never raises; equal events may be aggregated."""
        ...
