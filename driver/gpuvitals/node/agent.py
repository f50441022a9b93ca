"""The agent's loop: takes signals off the queue, folds them, and publishes a snapshot after each relevant change.

It alone changes health state, on one thread. All other threads read the immutable snapshot, which it replaces.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from gpuvitals.durable import DurableFileError
from gpuvitals.health.publication import worth_publishing
from gpuvitals.health.verdict import next_change_at
from gpuvitals.inventory.device import device_order
from gpuvitals.inventory.policy_match import EffectivePolicy, service_state
from gpuvitals.model.clock import Clock, Moment
from gpuvitals.model.health import Verdict
from gpuvitals.model.ids import BootId, GpuUuid, NodeName
from gpuvitals.model.signal import Signal
from gpuvitals.model.snapshot import NodeFacts, Snapshot
from gpuvitals.node.changes import Change, has_other_devices, unexplained, with_change
from gpuvitals.node.driver_files import DriverFiles, published_devices
from gpuvitals.node.events import failed_event, is_new_fault, verdict_event
from gpuvitals.node.forgetting import Forgetting
from gpuvitals.node.node_health import NodeHealth
from gpuvitals.node.ports import AgentPorts
from gpuvitals.node.recall import Recall
from gpuvitals.node.state_store import GpuRecord, Memory, NodeRecord, StateStore
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals.stoppable_thread import StoppableThread

log = logging.getLogger(__name__)

_IDLE_SECONDS = 1.0
_SUSPENDED_SECONDS = 10.0
"""A wait that overruns by more means that the machine was suspended; a busy machine delays the loop by less."""
_SAVE_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """The settings of one agent, fixed at its start."""

    node: NodeName
    boot_id: BootId


Listener = Callable[[Snapshot, float | None], None]
"""Called with a new snapshot, and the boot-clock instant at which its new fault was read; None without a fault."""


class NodeAgent:
    """The loop. Sources put signals into `queue`; writers get snapshots through `listen`."""

    def __init__(
        self,
        settings: AgentSettings,
        clock: Clock,
        store: StateStore,
        ports: AgentPorts,
        metrics: NodeMetrics,
    ) -> None:
        self.queue = ports.queue
        self.forgetting = Forgetting(ports.queue)
        self._settings = settings
        self._clock = clock
        self._store = store
        self._ports = ports
        self._metrics = metrics
        self._health = NodeHealth(ports, metrics)
        self._files = DriverFiles(ports.files)
        self._suppressed: dict[GpuUuid, Verdict] = {}
        self._facts = NodeFacts()
        self._snapshot: Snapshot | None = None
        self._gpus: tuple[GpuRecord, ...] = ()
        self._revision = 0
        self._saved_at = 0.0
        self._read_to: int | None = None
        self._began_at = self._ticked_at = clock.now().at
        self._storage = ports.storage
        self._listeners: list[Listener] = []
        self._thread = StoppableThread(self._run, name="agent", daemon=False)

    @property
    def snapshot(self) -> Snapshot | None:
        """The newest published snapshot; None before the first. Any thread."""
        return self._snapshot

    @property
    def gpus(self) -> tuple[GpuRecord, ...]:
        """Every visible GPU with its state after the last turn, for explanations. Any thread."""
        return self._gpus

    def policy(self, uuid: GpuUuid) -> EffectivePolicy:
        """The policy in force for a GPU of `gpus`. Any thread."""
        return self._health.policies[uuid]

    @property
    def tick_age_seconds(self) -> float:
        """The time since the loop's last turn: the heartbeat for probes and the health stream."""
        return self._clock.now().at - self._ticked_at

    def listen(self, listener: Listener) -> None:
        """Calls `listener` on the agent's thread for every new snapshot, after that is durable. It must not block."""
        self._listeners.append(listener)

    def restore(self, memory: Memory) -> None:
        """Restores the memory of an earlier agent. Called before `start`."""
        stored = memory.node
        self._health.recall_with(Recall(memory, self._settings.boot_id))
        if stored is None:
            return
        self._revision = stored.revision
        same_boot = stored.boot_id == self._settings.boot_id
        if same_boot:
            self._facts = stored.facts
            self._read_to = stored.kmsg_sequence
        self._health.restore(stored, self._clock.now(), same_boot=same_boot)

    def start(self) -> None:
        """Starts the loop."""
        self._thread.start()

    def stop(self, deadline_seconds: float) -> None:
        """Stops the loop and saves its memory."""
        self._thread.stopping.set()
        self.queue.wake()
        self._thread.stop(deadline_seconds)
        self._save(self._clock.now())

    def turn(self, signals: list[Signal], read_to: int | None = None) -> None:
        """One turn of the loop: folds `signals` and publishes relevant changes. Public for tests with their own clock.

        `read_to` is the kernel log's sequence number up to which all signals were taken; None without a new one.
        """
        now = self._clock.now()
        self._ticked_at = now.at
        self._forget_requested()
        self._health.update_policies()
        for signal in signals:
            self._fold(signal)
        if read_to is not None and not self._health.is_waiting:
            self._read_to = read_to
        observed_at = min((signal.seen.at for signal in signals), default=now.at)
        # A line that the kernel logged before the agent's start counts from the start.
        self._evaluate(now, max(observed_at, self._began_at))
        known = self._health.gpus.values()
        self._suppressed = {
            uuid: verdict for uuid, verdict in self._suppressed.items() if uuid in self._health.gpus
        }
        self._gpus = tuple(entry for entry in known if entry.published is not None or not entry.gone)
        self.forgetting.answer()

    def step(self, patience_seconds: float) -> None:
        """Waits for signals, at most that long, and makes a turn."""
        began = self._clock.now().at
        self.queue.wait(patience_seconds)
        suspended = self._clock.now().at - began - patience_seconds
        if suspended > _SUSPENDED_SECONDS:
            # The machine or the process was stopped. The boot clock ran on, and no source could read either.
            log.warning("suspended", extra=keys(seconds=round(suspended)))
            self._health.resume(suspended)
        # Read before the signals are taken: after a crash, a record read in between is read again instead of lost.
        position = self._ports.kernel_log.position
        self.turn(self.queue.take(), position.sequence if position is not None else None)

    def _run(self) -> None:
        while not self._thread.stopping.is_set():
            self.step(self._patience())

    def _forget_requested(self) -> None:
        for request in self.forgetting.take():
            try:
                self._health.forget(request.uuid)
            except ValueError as error:
                request.refused = str(error)

    def _fold(self, signal: Signal) -> None:
        """Folds one signal. A defect in the fold loses that signal, with an event, and does not end the loop.

        The next agent would read the same signal: ending the process here would be a crash loop.
        """
        try:
            self._health.fold(signal)
        except Exception as error:  # see above; the GPU's state stays as it is
            log.exception("signal not folded", extra=keys(signal=repr(signal)))
            self._health.count(signal, "failed")
            self._ports.events.emit(failed_event(signal, error))

    def _patience(self) -> float:
        now = self._clock.now().at
        changes = (
            next_change_at(entry.state, now, self._health.policies[uuid].health)
            for uuid, entry in self._health.gpus.items()
            if uuid in self._health.policies
        )
        soonest = min((at for at in changes if at is not None), default=now + _IDLE_SECONDS)
        return max(0.01, min(_IDLE_SECONDS, soonest - now))

    def _evaluate(self, now: Moment, observed_at: float) -> None:
        """Evaluates every GPU, and publishes a snapshot if a change is relevant."""
        self._health.recall(now)
        self._health.apply_reports(now)
        verdicts = self._health.verdicts(now)
        awaited = self._files.update(self._health.gpus.values(), now.at, is_first=self._snapshot is None)
        wanted = self._health.to_isolate(verdicts) | self._files.lacks.keys()
        if self._snapshot is None and (awaited or not self._health.can_be_published(now)):
            return
        changes = [
            self._change(uuid, current, uuid in wanted)
            for uuid, current in verdicts.items()
            if uuid not in awaited
        ]
        changed = [change for change in changes if self._is_relevant(change, now)]
        for change in changed:
            self._health.gpus[change.uuid] = with_change(self._health.gpus[change.uuid], change, now)
        facts = self._files.added_to(self._health.facts(verdicts))
        if changed or self._is_other_node(facts):
            is_fault = any(is_new_fault(change.before, change.now) for change in changed)
            self._publish(facts, now, observed_at if is_fault else None)
            self._report(changed)
            for event in self._files.events():
                self._ports.events.emit(event)
        elif now.at - self._saved_at >= _SAVE_SECONDS:
            self._save(now)

    def _change(self, uuid: GpuUuid, current: Verdict, wanted_out: bool) -> Change:
        """The state to publish of a GPU now. Its policy decides whether it may leave service."""
        entry = self._health.gpus[uuid]
        is_out, spared = service_state(wanted_out, entry.isolated, self._health.policies[uuid])
        return Change(uuid=uuid, before=entry.published, now=current, isolated=is_out, spared=spared)

    def _is_relevant(self, change: Change, now: Moment) -> bool:
        entry = self._health.gpus[change.uuid]
        if (entry.isolated, entry.spared) != (change.isolated, change.spared):
            return True
        since, policy = now.at - entry.published_at, self._health.policies[change.uuid].health
        if worth_publishing(entry.published, change.now, since, policy):
            return True
        if change.now not in (entry.published, self._suppressed.get(change.uuid)):
            self._suppressed[change.uuid] = change.now
            self._metrics.slice_writes_suppressed.inc()
        return False

    def _report(self, changed: list[Change]) -> None:
        for change in changed:
            gpu, current = self._health.gpus[change.uuid].gpu, change.now
            log.info(
                "verdict",
                extra=keys(
                    gpu=gpu.uuid,
                    bus_id=gpu.bus_id,
                    verdict=current.state.value,
                    reason=current.reason,
                    score=current.score,
                    isolated=change.isolated,
                    spared=change.spared,
                    message=current.message,
                ),
            )
            event = verdict_event(gpu, change.before, current, isolated=change.isolated)
            if event is not None:
                self._ports.events.emit(event)

    def _is_other_node(self, facts: NodeFacts) -> bool:
        """Whether the snapshot differs apart from verdicts: other devices, lacking files, or facts about the node."""
        gpus, lacking = self._health.gpus, self._files.lacks
        return (
            self._snapshot is None
            or has_other_devices(self._snapshot, gpus, self._health.withheld())
            or self._files.has_changed
            or unexplained(facts, gpus, lacking) != unexplained(self._facts, gpus, lacking)
        )

    def _publish(self, facts: NodeFacts, now: Moment, observed_at: float | None) -> None:
        ordered = sorted(self._health.gpus.values(), key=lambda entry: device_order(entry.gpu))
        self._revision += 1
        self._facts = facts
        snapshot = Snapshot(
            revision=self._revision,
            taken=now,
            node=self._settings.node,
            gpus=published_devices(
                (entry for entry in ordered if not entry.retired), self._health.withheld(), self._files.lacks
            ),
            facts=facts,
            replaced=published_devices((entry for entry in ordered if entry.retired), {}, {}),
            boot_id=self._settings.boot_id,
        )
        self._write(now, whole=False)
        self._snapshot = snapshot
        for listener in self._listeners:
            listener(snapshot, observed_at)
        self._store.make_room()

    def _save(self, now: Moment) -> None:
        """Saves the whole memory, readings included."""
        self._saved_at = now.at
        self._write(now, whole=True)
        self._store.make_room()

    def _write(self, now: Moment, *, whole: bool) -> None:
        """Makes the memory durable, or its lasting changes alone, together with the position in the kernel log.

        Of two agents that overlap in a rolling update, only the one that publishes writes the files.
        """
        if not self._ports.role.publishing():
            return
        record = NodeRecord(
            boot_id=self._settings.boot_id,
            driver_load=self._health.driver_load,
            saved=now,
            revision=self._revision,
            gpus=tuple(self._health.gpus.values()),
            kmsg_sequence=self._read_to,
            facts=self._facts,
        )
        try:
            if whole:
                self._store.save(record)
            else:
                self._store.record(record)
        except DurableFileError as error:
            self._metrics.checkpoint_recoveries.labels(cause="state-not-saved").inc()
            self._storage.failed(self._store.path, error)
        else:
            self._storage.saved(self._store.path)
