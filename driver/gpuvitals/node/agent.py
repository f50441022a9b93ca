"""The owner of health state: takes signals off the queue, folds them, and publishes a snapshot when one is worth it.

It alone mutates the state, on one thread. Everyone else reads the immutable snapshot that it replaces.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import assert_never

from gpuvitals.durable import DurableFileError
from gpuvitals.health.attribution import concerns
from gpuvitals.health.evaluate import advance, after_restart, evaluate
from gpuvitals.health.isolation import is_capped, isolated
from gpuvitals.health.policy import Policy
from gpuvitals.health.publication import worth_publishing
from gpuvitals.health.reasons import ISOLATION_CAPPED, NVSWITCH_FAULT
from gpuvitals.health.state import initial_state
from gpuvitals.health.verdict import next_change_at, verdict
from gpuvitals.model.clock import Clock, Moment
from gpuvitals.model.gpu import DeviceKind
from gpuvitals.model.health import Verdict
from gpuvitals.model.ids import BootId, GpuUuid, NodeName
from gpuvitals.model.signal import (
    ClearReport,
    GapReport,
    GpuSignal,
    IdentityReport,
    InventoryReport,
    MonitorReport,
    MonitorState,
    OffBusReport,
    PresenceReport,
    Reading,
    RecoveryActionReport,
    Signal,
    Source,
    SwitchReport,
    XidReport,
)
from gpuvitals.model.snapshot import GpuHealth, NodeFacts, Snapshot
from gpuvitals.node.queue import SignalQueue
from gpuvitals.node.store import StateStore, StoredGpu, StoredNode
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics

log = logging.getLogger(__name__)

_IDLE_SECONDS = 1.0
_SAVE_SECONDS = 30.0
_DO_NOT_POKE = frozenset({79, 119, 120})
"""After these a driver call may hang. Source: NVIDIA/DCGM DcgmKmsgReader.cpp, __DCGM_FATAL_XIDS__."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """What the agent is told at its start."""

    node: NodeName
    boot_id: BootId
    policy: Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentPorts:
    """What the agent asks of others. None of them may block.

    `holders` gives the UIDs of the claims that hold a GPU; `repoll` asks for a fresh reading of one GPU, or of all
    for None; `avoid` has a GPU left alone whose driver calls may hang; `kmsg_sequence` is how far the log was read.
    """

    holders: Callable[[GpuUuid], tuple[str, ...]]
    repoll: Callable[[GpuUuid | None], None]
    avoid: Callable[[GpuUuid], None]
    kmsg_sequence: Callable[[], int | None]


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
        self._settings = settings
        self._clock = clock
        self._store = store
        self._ports = ports
        self._metrics = metrics
        self._gpus: dict[GpuUuid, StoredGpu] = {}
        self._enumerated: frozenset[GpuUuid] = frozenset()
        self._monitors: dict[Source, MonitorState] = {}
        self._driver_load = ""
        self._switch_fault = False
        self._facts = NodeFacts()
        self._snapshot: Snapshot | None = None
        self._revision = 0
        self._saved_at = 0.0
        self._ticked_at = clock.now().at
        self._listeners: list[Callable[[Snapshot, float], None]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="agent")

    @property
    def snapshot(self) -> Snapshot | None:
        """The node as last published; None until the first inventory."""
        return self._snapshot

    @property
    def tick_age_seconds(self) -> float:
        """How long ago the loop last turned: the heartbeat that probes and the health stream look at."""
        return self._clock.now().at - self._ticked_at

    def listen(self, listener: Callable[[Snapshot, float], None]) -> None:
        """Calls `listener(snapshot, heard_at)` for every new snapshot, on the agent's thread; it must not block."""
        self._listeners.append(listener)

    def restore(self, stored: StoredNode | None) -> None:
        """Takes up the memory of an earlier agent. Called before `start`."""
        if stored is None:
            return
        self._revision = stored.revision
        self._driver_load = stored.driver_load
        same_boot = stored.boot_id == self._settings.boot_id
        age = max(0.0, (self._clock.now().time - stored.saved.time).total_seconds())
        for entry in stored.gpus:
            state = after_restart(entry.state, same_boot=same_boot, same_driver_load=True, age_seconds=age)
            kept = entry if same_boot else replace(entry, published=None)
            self._gpus[entry.gpu.uuid] = replace(kept, state=state)

    def start(self) -> None:
        """Starts the loop."""
        self._thread.start()

    def stop(self, deadline_seconds: float) -> None:
        """Stops the loop and makes its memory durable."""
        self._stop.set()
        self.queue.wake()
        self._thread.join(deadline_seconds)
        self._save(self._clock.now())

    def turn(self, signals: list[Signal]) -> None:
        """One turn of the loop: folds `signals` and publishes what is worth it. Public for tests that own the time."""
        now = self._clock.now()
        self._ticked_at = now.at
        for signal in signals:
            self._fold(signal)
        self._judge(now, min((signal.seen.at for signal in signals), default=now.at))

    def _run(self) -> None:
        while not self._stop.is_set():
            self.turn(self.queue.take(self._patience()))

    def _patience(self) -> float:
        now = self._clock.now().at
        policy = self._settings.policy
        changes = (next_change_at(entry.state, now, policy) for entry in self._gpus.values())
        soonest = min((at for at in changes if at is not None), default=now + _IDLE_SECONDS)
        return max(0.01, min(_IDLE_SECONDS, soonest - now))

    def _fold(self, signal: Signal) -> None:
        match signal:
            case InventoryReport():
                self._adopt(signal)
            case MonitorReport():
                self._monitors[signal.source] = signal.state
                log.info(
                    "monitor",
                    extra=keys(source=signal.source.value, state=signal.state.value, detail=signal.detail),
                )
            case GapReport():
                self._metrics.signal_gaps.labels(source=signal.source.value).inc(max(1, signal.lost))
                log.warning("records lost", extra=keys(source=signal.source.value, lost=signal.lost))
                self._ports.repoll(None)
            case SwitchReport():
                self._switch_fault = self._switch_fault or bool(signal.fatal)
                log.warning(
                    "nvswitch fault",
                    extra=keys(sxid=signal.code, switch=signal.switch_bus_id, link=signal.link),
                )
            case (
                XidReport()
                | OffBusReport()
                | RecoveryActionReport()
                | IdentityReport()
                | Reading()
                | PresenceReport()
                | ClearReport()
            ):
                self._fold_gpu(signal)
            case _:
                assert_never(signal)

    def _fold_gpu(self, signal: GpuSignal) -> None:
        policy = self._settings.policy
        concerned = [uuid for uuid, entry in self._gpus.items() if concerns(signal, entry.gpu)]
        if not concerned and isinstance(signal, XidReport) and signal.gpu_instance is not None:
            # No such instance is known: the fault is held against its GPU, never dropped.
            self._fold_gpu(replace(signal, gpu_instance=None, compute_instance=None))
            return
        self._count(signal, "folded" if concerned else "unattributed")
        if not concerned and not isinstance(signal, Reading):
            log.warning("signal of no known gpu", extra=keys(signal=repr(signal)))
        for uuid in concerned:
            entry = self._gpus[uuid]
            state = advance(entry.state, signal.seen.at, policy)
            self._gpus[uuid] = replace(entry, state=evaluate(state, self._with_claim(signal, uuid), policy))
        if isinstance(signal, XidReport) and signal.code in _DO_NOT_POKE:
            for uuid in concerned:
                self._ports.avoid(uuid)
        elif not isinstance(signal, Reading):
            self._ports.repoll(concerned[0] if len(concerned) == 1 else None)

    def _with_claim(self, signal: GpuSignal, uuid: GpuUuid) -> GpuSignal:
        if not isinstance(signal, XidReport) or signal.claim is not None:
            return signal
        holders = self._ports.holders(uuid)
        return replace(signal, claim=holders[0]) if len(holders) == 1 else signal

    def _adopt(self, report: InventoryReport) -> None:
        reloaded = bool(self._driver_load) and report.driver_load != self._driver_load
        for gpu in report.gpus:
            known = self._gpus.get(gpu.uuid)
            if known is None:
                state = initial_state(gpu, report.seen)
                self._gpus[gpu.uuid] = StoredGpu(
                    gpu=gpu,
                    state=state,
                    published=None,
                    published_at=0.0,
                    state_since=report.seen.time,
                    isolated=False,
                )
                log.info("gpu found", extra=keys(gpu=gpu.uuid, bus_id=gpu.bus_id, product=gpu.product_name))
                continue
            state = known.state
            if reloaded:
                state = after_restart(state, same_boot=True, same_driver_load=False, age_seconds=0.0)
            if gpu.expected_links is not None:
                state = replace(state, expected_links=gpu.expected_links)
            self._gpus[gpu.uuid] = replace(known, gpu=gpu, state=state)
        self._enumerated = frozenset(gpu.uuid for gpu in report.gpus)
        self._driver_load = report.driver_load

    def _judge(self, now: Moment, heard_at: float) -> None:
        policy = self._settings.policy
        verdicts: dict[GpuUuid, Verdict] = {}
        for uuid, entry in self._gpus.items():
            state = advance(entry.state, now.at, policy)
            self._gpus[uuid] = replace(entry, state=state)
            verdicts[uuid] = verdict(state, now, policy)
        out = isolated(list(verdicts.values()), policy)
        changed = False
        for uuid, current in verdicts.items():
            changed |= self._publishable(uuid, current, uuid in out, now)
        facts = self._node_facts(list(verdicts.values()))
        # The report changes only together with a verdict, but for what the node as a whole can or can't see.
        if changed or self._snapshot is None or facts != self._facts:
            self._publish(facts, now, heard_at)
        elif now.at - self._saved_at >= _SAVE_SECONDS:
            self._save(now)

    def _publishable(self, uuid: GpuUuid, current: Verdict, is_out: bool, now: Moment) -> bool:
        entry = self._gpus[uuid]
        turned = entry.isolated != is_out
        if not turned and not worth_publishing(
            entry.published, current, now.at - entry.published_at, self._settings.policy
        ):
            if entry.published != current:
                self._metrics.slice_writes_suppressed.inc()
            return False
        before = entry.published.state if entry.published is not None else None
        since = now.time if before is not current.state else entry.state_since
        self._gpus[uuid] = replace(
            entry, published=current, published_at=now.at, state_since=since, isolated=is_out
        )
        log.info(
            "verdict",
            extra=keys(
                gpu=uuid,
                bus_id=entry.gpu.bus_id,
                verdict=current.state.value,
                reason=current.reason,
                score=current.score,
                isolated=is_out,
                message=current.message,
            ),
        )
        return True

    def _node_facts(self, verdicts: list[Verdict]) -> NodeFacts:
        reasons = [ISOLATION_CAPPED] if is_capped(verdicts, self._settings.policy) else []
        if self._switch_fault:
            reasons.append(NVSWITCH_FAULT)
        physical = [entry.gpu for entry in self._gpus.values() if entry.gpu.kind is DeviceKind.GPU]
        missing = sorted(gpu.bus_id for gpu in physical if gpu.uuid not in self._enumerated)
        return NodeFacts(
            monitors=tuple(sorted(self._monitors.items(), key=lambda item: item[0].value)),
            reasons=tuple(reasons),
            expected_gpus=len(physical),
            missing_gpus=tuple(missing),
        )

    def _publish(self, facts: NodeFacts, now: Moment, heard_at: float) -> None:
        ordered = sorted(self._gpus.values(), key=lambda entry: (entry.gpu.bus_id, entry.gpu.uuid))
        shown = tuple(
            GpuHealth(
                gpu=entry.gpu, verdict=entry.published, isolated=entry.isolated, state_since=entry.state_since
            )
            for entry in ordered
            if entry.published is not None
        )
        self._revision += 1
        self._facts = facts
        snapshot = Snapshot(
            revision=self._revision, taken=now, node=self._settings.node, gpus=shown, facts=facts
        )
        self._save(now)
        self._snapshot = snapshot
        for listener in self._listeners:
            listener(snapshot, heard_at)

    def _save(self, now: Moment) -> None:
        """Memory first, publication second: a fault that was seen is on disk before anybody is told."""
        self._saved_at = now.at
        node = StoredNode(
            boot_id=self._settings.boot_id,
            driver_load=self._driver_load,
            saved=now,
            revision=self._revision,
            gpus=tuple(self._gpus.values()),
            kmsg_sequence=self._ports.kmsg_sequence(),
        )
        try:
            self._store.save(node)
        except DurableFileError as error:
            log.error("state not saved", extra=keys(reason=str(error)))
            self._metrics.checkpoint_recoveries.labels(cause="state-not-saved").inc()

    def _count(self, signal: GpuSignal, outcome: str) -> None:
        kind = type(signal).__name__
        self._metrics.signals.labels(source=signal.source.value, kind=kind, verdict=outcome).inc()
