"""The interface of the publisher: its settings, the pool that it gets, and the listener that it reports to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from gpuvitals.inventory.pool import Pool
from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.kube.slices.codec import TaintKey
from gpuvitals.kube.write_priority import SliceWritePriority


class PoolSource(Protocol):
    """A desired pool, computed for the mode in which devices leave service: `inventory.pool.PoolSpec`."""

    def pool(self, mode: ServiceMode) -> Pool:
        """The pool in that mode."""
        ...


class SliceListener(Protocol):
    """Receives the progress of the publisher, on its thread. Methods must not block."""

    def stored(self, revision: int) -> None:
        """The API server stores the slices of this revision."""
        ...

    def slices_refused(self, reason: str) -> None:
        """The API server refuses a write: a missing right, an invalid body, a dead webhook. Once for each cause."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherSettings:
    """The own slices and the timing of their writes.

    `mode` None: a dry run finds out before the first write whether the server keeps device taints. `taint_times` is the
    result of `SlicePublisher.taint_times` in an earlier process. `owner_seconds` is how long a Node that was read serves
    as owner; it is read again since its UID changes with its re-creation.
    `spacing_seconds` is the least time between two writes of new pools; the first one never waits.
    `priority` is held from a new pool until it is stored.
    """

    driver: str
    node: str
    annotation: str
    mode: ServiceMode | None
    taint_times: Mapping[TaintKey, str] = field(default_factory=dict)
    owner_seconds: float = 3600.0
    spacing_seconds: float = 0.2
    priority: SliceWritePriority = field(default_factory=SliceWritePriority)
