"""Stage 7 of 10: passes each new snapshot to the writers, ResourceSlices first, then the kubelet and claims.

A snapshot comes here after the agent's memory of it is on disk. Nothing here blocks.
"""

import threading
from dataclasses import dataclass

from gpuvitals.inventory.claims import claim_entries
from gpuvitals.inventory.event import Event
from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.other_drivers import driver_conflict
from gpuvitals.inventory.pool import PoolSpec
from gpuvitals.kube.claim_writer import ClaimStatusWriter
from gpuvitals.kube.other_drivers import OtherDriverWatch
from gpuvitals.kube.slices.publisher import SlicePublisher
from gpuvitals.kubeletplugin.plugin import KubeletPlugin
from gpuvitals.kubeletplugin.ports import SnapshotSource
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.snapshot import Snapshot
from gpuvitals.node.edge_adapters import EventAdapter
from gpuvitals.node.events import conflict_event
from gpuvitals.node.taint_times import TaintTimes
from gpuvitals.observability.publish_latency import PendingFaults


@dataclass(frozen=True, slots=True, kw_only=True)
class Writers:
    """The writers of one node and their stored taint times. Each writer reconciles on a thread of its own."""

    slices: SlicePublisher
    taint_times: TaintTimes
    claims: ClaimStatusWriter
    other_drivers: OtherDriverWatch


class Outputs:
    """Passes each snapshot to the writers. Thread safe; `attach` comes before the agent starts."""

    def __init__(
        self, naming: Naming, plugin: KubeletPlugin, events: EventAdapter, pending: PendingFaults
    ) -> None:
        self._naming = naming
        self._plugin = plugin
        self._events = events
        self._pending = pending
        self._lock = threading.Lock()
        self._agent: SnapshotSource | None = None
        self._writers: Writers | None = None
        self._conflict = ""
        self._stored_revision: int | None = None
        self._was_publishing = False
        self._held: list[Event] = []

    @property
    def has_stored(self) -> bool:
        """Whether this process has seen its slices stored."""
        return self._stored_revision is not None

    @property
    def can_publish(self) -> bool:
        """Whether all input of a publisher was read: the GPUs, the stored slices and other drivers' slices."""
        writers = self._writers
        if writers is None or self._snapshot() is None:
            return False
        return writers.slices.is_synced and writers.other_drivers.current is not None

    @property
    def conflict(self) -> str:
        """The other driver that publishes this node's GPUs; empty if there is none."""
        return self._conflict

    def attach(self, agent: SnapshotSource, writers: Writers) -> None:
        """Connects the agent, whose newest snapshot is published, and the writers."""
        self._agent = agent
        self._writers = writers

    def publish(self, snapshot: Snapshot, observed_at: float | None) -> None:
        """Passes a new snapshot to every writer. `observed_at` is the boot-clock time of the new fault in it."""
        if observed_at is not None:
            self._pending.add(snapshot.revision, observed_at)
        self.show_slices()
        self._plugin.notify(snapshot)
        self.show_claims(urgent=True)

    def stored(self, revision: int) -> None:
        """Records that the slices of this snapshot are on the API server."""
        self._stored_revision = revision
        self._pending.stored(revision)
        if self._writers is not None:
            self._writers.taint_times.keep(self._writers.slices.taint_times())

    def show_slices(self) -> None:
        """Publishes the newest snapshot, after the first read of the slices of other drivers."""
        if self._writers is None:
            return
        with self._lock:
            snapshot, others = self._snapshot(), self._writers.other_drivers.current
            if snapshot is None or others is None:
                return
            conflict = driver_conflict((entry.gpu for entry in snapshot.gpus), others)
            spec = PoolSpec(snapshot=snapshot, naming=self._naming, conflict=conflict)
            self._writers.slices.publish(spec, snapshot.revision)
            before, self._conflict = self._conflict, conflict
        if conflict != before:
            self.emit(conflict_event(conflict))

    def show_claims(self, *, urgent: bool) -> None:
        """Writes the newest snapshot into the claims that are prepared here."""
        # Called on several threads: without the lock an older view could replace a newer one.
        with self._lock:
            snapshot = self._snapshot()
            if snapshot is None or self._writers is None or not self._plugin.publishing():
                return
            shown = claim_entries(snapshot, self._plugin.prepared(), self._naming)
            self._writers.claims.show(shown, urgent=urgent)

    def emit(self, event: Event) -> None:
        """Queues an event on the Node and on the claims that hold its GPU, if this instance publishes."""
        if not self._plugin.publishing():
            return
        holders = {device.claim for device in self._plugin.prepared() if device.uuid == event.gpu}
        self._events.emit(event, sorted(holders, key=lambda claim: claim.uid))

    def emit_once_publishing(self, event: Event) -> None:
        """Queues an event that no other instance can report: in a rolling update as soon as this one publishes."""
        if self._plugin.publishing():
            self.emit(event)
        else:
            self._held.append(event)

    def slices_refused(self, reason: str) -> None:
        """Reports that the API server refuses the node's slices."""
        self.emit(Event(reason="SliceRefused", message=reason))

    def claim_status_refused(self, reason: str) -> None:
        """Reports that the API server refuses the status of a claim."""
        self.emit(Event(reason="ClaimStatusRefused", message=reason))

    def prepared_changed(self) -> None:
        """Writes the newest snapshot into the claims after a change of the prepared ones."""
        self.show_claims(urgent=False)

    def kubelet_changed(self) -> None:
        """Follows the kubelet's connection and this instance's right to publish."""
        if self._writers is None:
            return
        publishing = self._plugin.publishing()
        self._writers.slices.set_active(publishing)
        self._writers.claims.set_active(publishing)
        self._writers.slices.set_kubelet_connected(self._plugin.kubelet_connected() and publishing)
        if publishing and not self._was_publishing:
            self.show_claims(urgent=True)
            held, self._held = self._held, []
            for event in held:
                self.emit(event)
        self._was_publishing = publishing

    def claimed(self) -> frozenset[GpuUuid]:
        """The devices that a claim holds without admin access, so that nobody else may use their silicon."""
        return frozenset(device.uuid for device in self._plugin.prepared() if not device.admin)

    def holders(self, uuid: GpuUuid) -> tuple[str, ...]:
        """The UIDs of the claims that hold a GPU."""
        return tuple({device.claim.uid for device in self._plugin.prepared() if device.uuid == uuid})

    def _snapshot(self) -> Snapshot | None:
        return None if self._agent is None else self._agent.snapshot
