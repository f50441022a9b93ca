"""The owner of health state: takes signals off the queue, folds them, and publishes a snapshot when one is worth it.

It alone mutates the state, on one thread. Everyone else reads the immutable snapshot that it replaces.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

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
from gpuvitals.node.changes import Change, with_change
from gpuvitals.node.driver_files import DriverFiles, as_shown
from gpuvitals.node.events import failed_event, is_new_fault, verdict_event
from gpuvitals.node.forgetting import Forgetting
from gpuvitals.node.node_health import NodeHealth
from gpuvitals.node.ports import AgentPorts
from gpuvitals.node.queue import SignalQueue
from gpuvitals.node.recall import Recall
from gpuvitals.node.state_store import GpuRecord, Memory, NodeRecord, StateStore
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics

log = logging.getLogger(__name__)

_IDLE_SECONDS = 1.0
_ASLEEP_SECONDS = 10.0
"""A wait that takes so much longer than it was to was no wait: a loop that is merely late is late by less."""
_SAVE_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """The settings of one agent, fixed at its start."""

    node: NodeName
    boot_id: BootId


Listener = Callable[[Snapshot, float | None], None]
"""Called with a new snapshot, and the boot-clock instant at which its new fault was read; None where it has none."""


class NodeAgent:
    """The loop. `queue` is where sources put signals; `listen` is how writers hear of a new snapshot."""

    def __init__(
        self,
        settings: AgentSettings,
        clock: Clock,
        store: StateStore,
        ports: AgentPorts,
        metrics: NodeMetrics,
    ) -> None:
        self.queue = SignalQueue()
        self.forgetting = Forgetting(self.queue.wake)
        self._settings = settings
        self._clock = clock
        self._store = store
        self._ports = ports
        self._metrics = metrics
        self._known = NodeHealth(ports, metrics)
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
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="agent")

    @property
    def snapshot(self) -> Snapshot | None:
        """The node as last published; None until the first inventory."""
        return self._snapshot

    @property
    def gpus(self) -> tuple[GpuRecord, ...]:
        """Every GPU that is shown, with its state after the last turn, for explanations. Any thread may read it."""
        return self._gpus

    def rule(self, uuid: GpuUuid) -> EffectivePolicy:
        """What governs a GPU of `gpus`. Any thread may ask."""
        return self._known.rules[uuid]

    @property
    def tick_age_seconds(self) -> float:
        """How long ago the loop last turned: the heartbeat that probes and the health stream look at."""
        return self._clock.now().at - self._ticked_at

    def listen(self, listener: Listener) -> None:
        """Calls `listener` on the agent's thread for every new snapshot, once that is durable. It must not block."""
        self._listeners.append(listener)

    def restore(self, memory: Memory) -> None:
        """Takes up the memory of an earlier agent. Called before `start`."""
        stored = memory.node
        self._known.recall_with(Recall(memory, self._settings.boot_id))
        if stored is None:
            return
        self._revision = stored.revision
        same_boot = stored.boot_id == self._settings.boot_id
        if same_boot:
            self._facts = stored.facts
            self._read_to = stored.kmsg_sequence
        self._known.restore(stored, self._clock.now(), same_boot=same_boot)

    def start(self) -> None:
        """Starts the loop."""
        self._thread.start()

    def stop(self, deadline_seconds: float) -> None:
        """Stops the loop and makes its memory durable."""
        self._stop.set()
        self.queue.wake()
        self._thread.join(deadline_seconds)
        self._save(self._clock.now())

    def turn(self, signals: list[Signal], read_to: int | None = None) -> None:
        """One turn of the loop: folds `signals` and publishes what is worth it. Public for those who own the time.

        `read_to` is how far the kernel log was read when its signals were taken.
        """
        now = self._clock.now()
        self._ticked_at = now.at
        self.forgetting.serve(self._known.forget)
        self._known.govern()
        for signal in signals:
            self._folded(signal)
        if read_to is not None and not self._known.is_waiting:
            self._read_to = read_to
        heard_at = min((signal.seen.at for signal in signals), default=now.at)
        # What the kernel logged before the agent began was heard when it began.
        self._judge(now, max(heard_at, self._began_at))
        known = self._known.gpus.values()
        self._suppressed = {u: v for u, v in self._suppressed.items() if u in self._known.gpus}
        self._gpus = tuple(entry for entry in known if entry.published is not None or not entry.gone)
        self.forgetting.answer()

    def step(self, patience_seconds: float) -> None:
        """Waits for signals, at most that long, and makes a turn."""
        began = self._clock.now().at
        self.queue.wait(patience_seconds)
        asleep = self._clock.now().at - began - patience_seconds
        if asleep > _ASLEEP_SECONDS:
            # The machine slept or the process was stopped; the boot clock ran on, and no source could look either.
            log.warning("asleep", extra=keys(seconds=round(asleep)))
            self._known.asleep(asleep)
        # Asked before the signals are taken: a record that is read in between is heard again after a crash, not lost.
        read_to = self._ports.kmsg_sequence()
        self.turn(self.queue.take(), read_to)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.step(self._patience())

    def _folded(self, signal: Signal) -> None:
        """Folds one signal. A defect in the fold costs that signal, told to people, and not the loop.

        The next agent would meet the same signal: ending the process here would be a crash loop.
        """
        try:
            self._known.fold(signal)
        except Exception as error:  # see above; nothing is taken to be healthy for it
            log.exception("signal not folded", extra=keys(signal=repr(signal)))
            self._known.count(signal, "failed")
            self._ports.events.emit(failed_event(signal, error))

    def _patience(self) -> float:
        now = self._clock.now().at
        changes = (
            next_change_at(entry.state, now, self._known.rules[uuid].health)
            for uuid, entry in self._known.gpus.items()
            if uuid in self._known.rules
        )
        soonest = min((at for at in changes if at is not None), default=now + _IDLE_SECONDS)
        return max(0.01, min(_IDLE_SECONDS, soonest - now))

    def _judge(self, now: Moment, heard_at: float) -> None:
        self._known.recall(now)
        self._known.hear_statements(now)
        verdicts = self._known.verdicts(now)
        awaited = self._files.update(self._known.gpus.values(), now.at, is_first=self._snapshot is None)
        wanted = self._known.wanted_out(verdicts) | self._files.lacks.keys()
        if self._snapshot is None and (awaited or not self._known.may_be_shown(now)):
            return
        judged = [
            self._change(uuid, current, uuid in wanted)
            for uuid, current in verdicts.items()
            if uuid not in awaited
        ]
        changed = [change for change in judged if self._is_worth_it(change, now)]
        for change in changed:
            self._known.gpus[change.uuid] = with_change(self._known.gpus[change.uuid], change, now)
        facts = self._files.added_to(self._known.facts(verdicts))
        # The report changes only together with a verdict, but for what the node as a whole can or can't see.
        if (
            changed
            or self._snapshot is None
            or self._is_other_inventory(self._snapshot)
            or self._files.are_news
            or self._unexplained(facts) != self._unexplained(self._facts)
        ):
            is_fault = any(is_new_fault(change.before, change.now) for change in changed)
            self._publish(facts, now, heard_at if is_fault else None)
            self._report(changed)
            for event in self._files.news():
                self._ports.events.emit(event)
        elif now.at - self._saved_at >= _SAVE_SECONDS:
            self._save(now)

    def _change(self, uuid: GpuUuid, current: Verdict, wanted_out: bool) -> Change:
        """What would be shown of a GPU now; its policy has the last word on whether it leaves service."""
        entry = self._known.gpus[uuid]
        is_out, spared = service_state(wanted_out, entry.isolated, self._known.rules[uuid])
        return Change(uuid=uuid, before=entry.published, now=current, isolated=is_out, spared=spared)

    def _is_worth_it(self, change: Change, now: Moment) -> bool:
        entry = self._known.gpus[change.uuid]
        if (entry.isolated, entry.spared) != (change.isolated, change.spared):
            return True
        since, policy = now.at - entry.published_at, self._known.rules[change.uuid].health
        if worth_publishing(entry.published, change.now, since, policy):
            return True
        if change.now not in (entry.published, self._suppressed.get(change.uuid)):
            self._suppressed[change.uuid] = change.now
            self._metrics.slice_writes_suppressed.inc()
        return False

    def _report(self, changed: list[Change]) -> None:
        for change in changed:
            gpu, current = self._known.gpus[change.uuid].gpu, change.now
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

    def _is_other_inventory(self, shown: Snapshot) -> bool:
        """Whether a device came or went, or is offered otherwise than before: whole, as instances, or not at all."""
        withheld = self._known.withheld()
        published = {
            uuid: (entry.gpu.mig_enabled, withheld.get(uuid, ""))
            for uuid, entry in self._known.gpus.items()
            if entry.published is not None
        }
        before = {
            entry.gpu.uuid: (entry.gpu.mig_enabled, entry.withheld)
            for entry in (*shown.gpus, *shown.replaced)
        }
        return before != published

    def _unexplained(self, facts: NodeFacts) -> NodeFacts:
        """The facts without missing GPUs that are out of service: their own verdict has told it already."""
        lacks = self._files.lacks
        told = {
            entry.gpu.bus_id
            for uuid, entry in self._known.gpus.items()
            if entry.isolated and uuid not in lacks
        }
        return replace(facts, missing_gpus=tuple(bus for bus in facts.missing_gpus if bus not in told))

    def _publish(self, facts: NodeFacts, now: Moment, heard_at: float | None) -> None:
        ordered = sorted(self._known.gpus.values(), key=lambda entry: device_order(entry.gpu))
        self._revision += 1
        self._facts = facts
        snapshot = Snapshot(
            revision=self._revision,
            taken=now,
            node=self._settings.node,
            gpus=as_shown(
                (entry for entry in ordered if not entry.retired), self._known.withheld(), self._files.lacks
            ),
            facts=facts,
            replaced=as_shown((entry for entry in ordered if entry.retired), {}, {}),
            boot_id=self._settings.boot_id,
        )
        self._make_durable(now)
        self._snapshot = snapshot
        for listener in self._listeners:
            listener(snapshot, heard_at)
        self._store.make_room()

    def _save(self, now: Moment) -> None:
        """Saves the whole memory, readings included."""
        self._saved_at = now.at
        self._store_by(self._store.save, now)
        self._store.make_room()

    def _make_durable(self, now: Moment) -> None:
        """Makes the lasting changes durable, and with them the position in the kernel log: neither without the other."""
        self._store_by(self._store.record, now)

    def _store_by(self, write: Callable[[NodeRecord], object], now: Moment) -> None:
        """Of two agents that overlap in a rolling update only the one that publishes writes the files."""
        if not self._ports.is_publishing():
            return
        node = NodeRecord(
            boot_id=self._settings.boot_id,
            driver_load=self._known.driver_load,
            saved=now,
            revision=self._revision,
            gpus=tuple(self._known.gpus.values()),
            kmsg_sequence=self._read_to,
            facts=self._facts,
        )
        try:
            write(node)
        except DurableFileError as error:
            self._metrics.checkpoint_recoveries.labels(cause="state-not-saved").inc()
            self._storage.failed(self._store.path, error)
        else:
            self._storage.saved(self._store.path)
