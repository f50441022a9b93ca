"""Stage 4 of 10: attributes each signal to the GPUs concerned, and holds the health state of every GPU of the node."""

import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import assert_never

from gpuvitals.health.attribution import without_mig_links
from gpuvitals.health.clearing import after_restart
from gpuvitals.health.dcgm_reading import dcgm_exceeds_isolation_cap
from gpuvitals.health.evaluate import advance, evaluate
from gpuvitals.health.fold_reports import fold_reports
from gpuvitals.health.isolation import is_capped, isolated
from gpuvitals.health.reasons import DCGM_UNCONFIRMED, GPU_NOT_UP, ISOLATION_CAPPED, NVSWITCH_FAULT
from gpuvitals.inventory.event import Event
from gpuvitals.inventory.policy_match import EffectivePolicy
from gpuvitals.model.clock import Moment
from gpuvitals.model.driver_load import is_reload, known_load
from gpuvitals.model.gpu import DeviceKind
from gpuvitals.model.health import Verdict
from gpuvitals.model.ids import BootId, GpuUuid, PciBusId
from gpuvitals.model.signal import (
    Checkup,
    ClearReport,
    GapReport,
    GpuSignal,
    IdentityReport,
    InitFailureReport,
    InventoryReport,
    MonitorReport,
    MonitorState,
    OffBusReport,
    PresenceReport,
    Reading,
    RecoveryActionReport,
    Signal,
    Source,
    StatementsReport,
    SwitchReport,
    XidReport,
)
from gpuvitals.model.snapshot import NodeFacts
from gpuvitals.node.events import (
    gap_event,
    monitor_event,
    replaced_event,
    statement_unattributed,
    unattributed_event,
)
from gpuvitals.node.mig_instances import hidden, seen_as, withheld
from gpuvitals.node.ports import AgentPorts
from gpuvitals.node.recall import Recall
from gpuvitals.node.reports import StandingStatements, names
from gpuvitals.node.slots import Takeover, adopted, concerned_in, remembered_owners, seated, without
from gpuvitals.node.state_store import GpuRecord, NodeRecord
from gpuvitals.node.verdict_cache import VerdictCache, node_policy
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics

log = logging.getLogger(__name__)

_DO_NOT_POKE = frozenset({79, 119, 120})
"""After these a driver call may hang. Source: NVIDIA/DCGM DcgmKmsgReader.cpp, __DCGM_FATAL_XIDS__."""
_MAX_EARLY = 4096
"""How many signals wait for the first inventory at most; one more is unattributed, as it would be after it."""
_MAX_RECENT = 512
"""How many signals that name a slot and no UUID are kept, for a GPU that turns out to have taken the slot before them."""
_FIRST_LOOK_SECONDS = 5.0
"""How long a node is not shown, from its first inventory on, for every GPU to have been looked at."""


class NodeHealth:
    """Owned by the agent's thread alone. `gpus` may be replaced entry by entry by whoever publishes them."""

    def __init__(self, ports: AgentPorts, metrics: NodeMetrics) -> None:
        self.gpus: dict[GpuUuid, GpuRecord] = {}
        self.rules: Mapping[GpuUuid, EffectivePolicy] = {}
        self.driver_load = ""
        self._ports = ports
        self._metrics = metrics
        self._enumerated: frozenset[GpuUuid] = frozenset()
        self._not_up: frozenset[PciBusId] = frozenset()
        self._monitors: dict[Source, MonitorState] = {}
        self._switch_fault = False
        self._early: list[GpuSignal] = []
        self._recent: deque[XidReport | OffBusReport | RecoveryActionReport] = deque(maxlen=_MAX_RECENT)
        self._statements = StandingStatements()
        self._looked_at: set[GpuUuid] = set()
        self._judge = VerdictCache()
        self._first_look_until: float | None = None
        self._settled_by: float | None = None
        self._recall = Recall(None, BootId(""))

    @property
    def is_waiting(self) -> bool:
        """Whether signals were heard that nobody is known for yet."""
        return bool(self._early)

    @property
    def parents(self) -> Mapping[GpuUuid, GpuUuid]:
        """The GPU of each MIG instance."""
        return {uuid: entry.gpu.mig.parent for uuid, entry in self.gpus.items() if entry.gpu.mig is not None}

    def restore(self, stored: NodeRecord, now: Moment, *, same_boot: bool) -> None:
        """Takes up the memory of an earlier agent."""
        self.driver_load = stored.driver_load
        if same_boot:
            self._take_up(stored.facts, stored.gpus)
        # The boot clock does not jump, but it means nothing on another boot.
        age = now.at - stored.saved.at if same_boot else (now.time - stored.saved.time).total_seconds()
        for entry in stored.gpus:
            state = after_restart(
                entry.state, same_boot=same_boot, same_driver_load=True, age_seconds=max(0.0, age)
            )
            kept = entry if same_boot else replace(entry, published=None)
            self.gpus[entry.gpu.uuid] = replace(kept, state=state)
        self.gpus = seated(self.gpus, remembered_owners(self.gpus), (), now.time)

    def recall_with(self, recall: Recall) -> None:
        """Takes up published verdicts in place of the memory that could not be read."""
        self._recall = recall

    def recall(self, now: Moment) -> None:
        """Restores the faults that were published of GPUs whose memory could not be read."""
        self._recall.take(self._ports.recalled())
        for uuid in self._recall.waiting & self.gpus.keys():
            self.gpus[uuid] = self._recall.restored(self.gpus[uuid], now, self.rules[uuid].health)

    def govern(self) -> None:
        """Asks anew what governs each GPU."""
        self.rules = self._ports.rules([entry.gpu for entry in self.gpus.values()])

    def withheld(self) -> Mapping[GpuUuid, str]:
        """Devices that are not offered since a claim holds their silicon in another form, each with the reason."""
        return withheld(self.gpus, self._ports.claimed)

    def wanted_out(self, verdicts: Mapping[GpuUuid, Verdict]) -> frozenset[GpuUuid]:
        """The devices that their verdicts take out of service, whatever their policies make of it."""
        already = frozenset(uuid for uuid, entry in self.gpus.items() if entry.isolated)
        return isolated(self._in_a_slot(verdicts), node_policy(self.rules.values()), already, self.parents)

    def forget(self, uuid: GpuUuid) -> None:
        """Removes a GPU that a person wants forgotten. Raises ValueError with the reason where it has to stay."""
        self.gpus = without(self.gpus, uuid, self._enumerated, self._ports.holders)
        log.warning("gpu forgotten", extra=keys(gpu=uuid))

    def hear_statements(self, now: Moment) -> None:
        """Holds what people and programs say now against whom they name. What is said of no GPU here is told once."""
        for source, standing in self._statements.due(now, self.gpus.keys()):
            for uuid, entry in self.gpus.items():
                about = tuple(each for each in standing if names(each.gpu, entry))
                policy = self.rules[uuid].health
                state = fold_reports(advance(entry.state, now.at, policy), source, about, now, policy)
                self.gpus[uuid] = replace(entry, state=state)
            self._metrics.statements.labels(source=source.value).set(len(standing))
            for each in standing:
                if not any(names(each.gpu, entry) for entry in self.gpus.values()):
                    self._emit(statement_unattributed(each))

    def asleep(self, seconds: float) -> None:
        """Takes no GPU for unseen because nobody could look for so long, just now."""
        for uuid, entry in self.gpus.items():
            state = after_restart(entry.state, same_boot=True, same_driver_load=True, age_seconds=seconds)
            self.gpus[uuid] = replace(entry, state=state)

    def verdicts(self, now: Moment) -> dict[GpuUuid, Verdict]:
        """Every GPU that is shown, judged, as time has passed until `now`."""
        found: dict[GpuUuid, Verdict] = {}
        out_of_sight = self._hidden()
        for uuid, entry in self.gpus.items():
            judged = self._judge.judged(entry.state, now, self.rules[uuid].health)
            if judged.state is not entry.state:
                self.gpus[uuid] = replace(entry, state=judged.state)
            if uuid not in out_of_sight:
                found[uuid] = seen_as(entry, judged.verdict)
        self._judge.keep(self.gpus)
        return found

    def may_be_shown(self, now: Moment) -> bool:
        """Whether a first snapshot can be made: a node whose GPUs nobody has asked yet has nothing to show.

        An agent that remembers this boot begins with what it remembers. Otherwise the driver has to say which GPUs
        there are, or that it can't, and each of them is looked at, as long as that does not take too long. Nor is it
        shown before the cluster's policies are known: a GPU that they keep in service must not leave it at a start.
        Where the memory is incomplete, the stored slices are read first: a failed GPU must not be shown as healthy.
        """
        if not self._recall.is_complete:
            return False
        if self._settled_by is None:
            self._settled_by = now.at + _FIRST_LOOK_SECONDS
        if not self._ports.is_settled() and now.at < self._settled_by:
            return False
        if any(entry.published is not None for entry in self.gpus.values()):
            return True
        if self._first_look_until is None:
            return self._monitors.get(Source.NVML_POLL) not in (None, MonitorState.WATCHING)
        return self._enumerated <= self._looked_at or now.at >= self._first_look_until

    def facts(self, verdicts: Mapping[GpuUuid, Verdict]) -> NodeFacts:
        """What is true of the node as a whole."""
        policy = node_policy(self.rules.values())
        capped = is_capped(self._in_a_slot(verdicts), policy, self.parents)
        reasons = [ISOLATION_CAPPED] if capped else []
        if self._switch_fault:
            reasons.append(NVSWITCH_FAULT)
        whole = [entry for entry in self.gpus.values() if entry.gpu.kind is DeviceKind.GPU]
        physical = [entry.gpu for entry in whole if not entry.retired]
        if dcgm_exceeds_isolation_cap([self.gpus[gpu.uuid].state for gpu in physical], policy):
            reasons.append(DCGM_UNCONFIRMED)
        missing = {gpu.bus_id for gpu in physical if gpu.uuid not in self._enumerated}
        # Those of GPUs that were known have a device and a verdict, which tell of it.
        never = self._not_up - {gpu.bus_id for gpu in physical}
        if never:
            reasons.append(GPU_NOT_UP)
        return NodeFacts(
            monitors=tuple(sorted(self._monitors.items(), key=lambda item: item[0].value)),
            reasons=tuple(reasons),
            expected_gpus=len(physical) + len(never),
            missing_gpus=tuple(sorted(missing | never)),
            statements=self._statements.lines,
            retired=tuple(entry.gpu.uuid for entry in whole if entry.retired),
        )

    def fold(self, signal: Signal) -> None:
        """Takes a signal in: one about the node as a whole, or one that is held against whom it concerns."""
        match signal:
            case InventoryReport():
                self._adopt(signal)
            case MonitorReport():
                self._emit(monitor_event(signal, self._monitors.get(signal.source)))
                self._monitors[signal.source] = signal.state
                log.info(
                    "monitor",
                    extra=keys(source=signal.source.value, state=signal.state.value, detail=signal.detail),
                )
            case GapReport():
                self._metrics.signal_gaps.labels(source=signal.source.value).inc(max(1, signal.lost))
                log.warning("records lost", extra=keys(source=signal.source.value, lost=signal.lost))
                self._emit(gap_event(signal))
                self._ports.repoll(None)
            case StatementsReport():
                self._statements.take(signal)
            case SwitchReport():
                self._switch_fault = self._switch_fault or bool(signal.fatal)
                log.warning(
                    "nvswitch fault",
                    extra=keys(
                        sxid=signal.code, switch=signal.switch_bus_id, link=signal.link, fatal=signal.fatal
                    ),
                )
            case (
                XidReport()
                | OffBusReport()
                | InitFailureReport()
                | RecoveryActionReport()
                | IdentityReport()
                | Reading()
                | Checkup()
                | PresenceReport()
                | ClearReport()
            ):
                if (
                    isinstance(signal, XidReport | OffBusReport | RecoveryActionReport)
                    and signal.uuid is None
                ):
                    self._recent.append(signal)
                self._fold_gpu(signal)
            case _:
                assert_never(signal)

    def _fold_gpu(self, signal: GpuSignal) -> None:
        whom = concerned_in(signal, self.gpus)
        if not whom and not self.gpus and len(self._early) < _MAX_EARLY:
            # The log is read before the driver has said which GPUs there are.
            self._early.append(signal)
            return
        self.count(signal, "folded" if whom else "unattributed")
        if not whom and not isinstance(signal, Reading | Checkup):
            log.warning("signal of no known gpu", extra=keys(signal=repr(signal)))
            self._emit(unattributed_event(signal))
        if isinstance(signal, Reading) and signal.source is not Source.DCGM:
            self._looked_at.add(signal.uuid)
        for uuid in whom:
            entry, policy = self.gpus[uuid], self.rules[uuid].health
            state = advance(entry.state, signal.seen.at, policy)
            said = self._with_claim(without_mig_links(signal, entry.gpu), uuid)
            self.gpus[uuid] = replace(entry, state=evaluate(state, said, policy))
        if isinstance(signal, XidReport) and signal.code in _DO_NOT_POKE:
            for uuid in self._polled(whom):
                self._ports.avoid(uuid)
        elif not isinstance(signal, Reading | Checkup):
            polled = self._polled(whom)
            self._ports.repoll(polled[0] if len(polled) == 1 else None)

    def _polled(self, whom: tuple[GpuUuid, ...]) -> tuple[GpuUuid, ...]:
        """The GPUs that these devices are or are instances of: only those are looked at."""
        return tuple(dict.fromkeys(self.gpus[uuid].gpu.gpu_uuid for uuid in whom))

    def _hidden(self) -> frozenset[GpuUuid]:
        """Destroyed instances that no claim holds. They are published anew should they come back."""
        out_of_sight, forgotten = hidden(self.gpus, self._is_held)
        for uuid in forgotten:
            log.info("mig instance forgotten", extra=keys(gpu=uuid, bus_id=self.gpus[uuid].gpu.bus_id))
            del self.gpus[uuid]
        for uuid in out_of_sight - forgotten:
            if self.gpus[uuid].published is not None:
                self.gpus[uuid] = replace(self.gpus[uuid], published=None, isolated=False)
        return out_of_sight

    def _with_claim(self, signal: GpuSignal, uuid: GpuUuid) -> GpuSignal:
        if not isinstance(signal, XidReport) or signal.claim is not None or signal.source is Source.DCGM:
            # DCGM tells of an XID later: who holds the GPU now need not be who met it.
            return signal
        holders = self._ports.holders(uuid)
        return replace(signal, claim=holders[0]) if len(holders) == 1 else signal

    def _adopt(self, report: InventoryReport) -> None:
        reloaded = is_reload(self.driver_load, report.driver_load)
        before = self.gpus
        self.gpus, taken = adopted(before, report, self._is_held, reloaded=reloaded)
        for uuid in self.gpus.keys() - before.keys():
            gpu = self.gpus[uuid].gpu
            log.info("gpu found", extra=keys(gpu=uuid, bus_id=gpu.bus_id, product=gpu.product_name))
        self._enumerated = frozenset(gpu.uuid for gpu in report.gpus if gpu.kind is DeviceKind.GPU)
        self._looked_at &= self.gpus.keys()
        self._not_up = frozenset(report.not_up)
        self.driver_load = known_load(self.driver_load, report.driver_load)
        self.govern()
        if self._first_look_until is None:
            self._first_look_until = report.seen.at + _FIRST_LOOK_SECONDS
        early, self._early = self._early, []
        for signal in early:
            self._fold_gpu(signal)
        for takeover in taken:
            self._taken_over(takeover)

    def _taken_over(self, takeover: Takeover) -> None:
        """Gives the new owner of a slot what was heard of the slot since its old owner last read well."""
        before = self.gpus.get(takeover.before)
        is_here = before is not None and not before.retired
        log.warning("gpu replaced", extra=keys(bus_id=takeover.slot, gpu=takeover.now, was=takeover.before))
        self._emit(replaced_event(takeover.slot, takeover.before, takeover.now, is_here=is_here))
        last_good = None if before is None else before.state.last_ok_at
        for signal in self._recent:
            is_later = last_good is None or signal.seen.at > last_good
            if signal.bus_id == takeover.slot and is_later:
                self._fold_gpu(signal)

    def _take_up(self, facts: NodeFacts, gpus: tuple[GpuRecord, ...]) -> None:
        """What the node could and could not see stands until a source says otherwise."""
        self._monitors = dict(facts.monitors)
        self._switch_fault = NVSWITCH_FAULT in facts.reasons
        self._enumerated = frozenset(
            entry.gpu.uuid
            for entry in gpus
            if entry.gpu.kind is DeviceKind.GPU and entry.gpu.bus_id not in facts.missing_gpus
        )
        if GPU_NOT_UP in facts.reasons:
            known = {entry.gpu.bus_id for entry in gpus}
            self._not_up = frozenset(PciBusId(bus) for bus in facts.missing_gpus if bus not in known)

    def _is_held(self, uuid: GpuUuid) -> bool:
        return bool(self._ports.holders(uuid))

    def _in_a_slot(self, verdicts: Mapping[GpuUuid, Verdict]) -> list[Verdict]:
        """The verdicts that count for the node: a GPU that was replaced is none of its GPUs any more."""
        return [verdict for uuid, verdict in verdicts.items() if not self.gpus[uuid].retired]

    def _emit(self, event: Event | None) -> None:
        if event is not None:
            self._ports.events.emit(event)

    def count(self, signal: Signal, outcome: str) -> None:
        """Counts what became of a signal."""
        kind = type(signal).__name__
        self._metrics.signals.labels(source=signal.source.value, kind=kind, verdict=outcome).inc()
