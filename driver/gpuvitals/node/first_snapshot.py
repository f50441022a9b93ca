"""Decides when a starting agent may publish its first snapshot."""

from collections.abc import Collection

from gpuvitals.model.clock import Moment
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.signal import MonitorState, Source
from gpuvitals.node.node_facts import NodeState
from gpuvitals.node.state_store import GpuRecord

_FIRST_READING_SECONDS = 5.0
"""The longest wait, from the first inventory on, for a reading of every GPU."""
_POLICIES_SECONDS = 5.0
"""The longest wait for the cluster's policies."""


class FirstSnapshotGate:
    """Delays the first snapshot until there is something to show. Owned by the agent's thread."""

    def __init__(self) -> None:
        self._read: set[GpuUuid] = set()
        self._readings_until: float | None = None
        self._policies_until: float | None = None

    @property
    def read(self) -> frozenset[GpuUuid]:
        """The GPUs of which there is a reading."""
        return frozenset(self._read)

    def has_read(self, uuid: GpuUuid) -> None:
        """Records a reading of a GPU."""
        self._read.add(uuid)

    def has_listed(self, uuids: Collection[GpuUuid], at: float) -> None:
        """Records an inventory of the driver at the boot-clock instant `at`."""
        self._read &= set(uuids)
        if self._readings_until is None:
            self._readings_until = at + _FIRST_READING_SECONDS

    def is_open(
        self, now: Moment, node: NodeState, records: Collection[GpuRecord], *, policies_settled: bool
    ) -> bool:
        """Whether the first snapshot can be published.

        An agent with a memory of this boot begins with that. Otherwise the driver has to list its GPUs, or report that
        it can't, and each GPU needs a reading, within a time limit. The policies have to be known too, within a limit
        of their own: a GPU that a policy keeps in service must not leave it at a restart of the agent.
        """
        if self._policies_until is None:
            self._policies_until = now.at + _POLICIES_SECONDS
        if not policies_settled and now.at < self._policies_until:
            return False
        if any(record.published is not None for record in records):
            return True
        if self._readings_until is None:
            return node.monitor(Source.NVML_POLL) not in (None, MonitorState.WATCHING)
        return node.enumerated <= self._read or now.at >= self._readings_until
