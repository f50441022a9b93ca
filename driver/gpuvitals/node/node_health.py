"""Stage 4 of 10: attributes each signal to the GPUs concerned, and holds the health state of every GPU of the node."""

import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import assert_never

from gpuvitals.health.attribution import without_mig_links
from gpuvitals.health.clearing import after_restart
from gpuvitals.health.evaluate import advance, evaluate
from gpuvitals.health.fold_reports import fold_reports
from gpuvitals.health.isolation import is_capped, isolated
from gpuvitals.inventory.event import Event
from gpuvitals.inventory.policy_match import EffectivePolicy
from gpuvitals.model.clock import Moment
from gpuvitals.model.driver_load import is_reload, known_load
from gpuvitals.model.health import Verdict
from gpuvitals.model.ids import BootId, GpuUuid
from gpuvitals.model.signal import (
    Checkup,
    ClearReport,
    ExternalReports,
    GapReport,
    GpuSignal,
    IdentityReport,
    InitFailureReport,
    InventoryReport,
    MonitorReport,
    OffBusReport,
    PresenceReport,
    Reading,
    RecoveryActionReport,
    Signal,
    Source,
    SwitchReport,
    XidReport,
)
from gpuvitals.model.snapshot import NodeFacts
from gpuvitals.model.xids import HANDS_OFF_XIDS
from gpuvitals.node.events import (
    gap_event,
    monitor_event,
    replaced_event,
    unattributed_event,
    unattributed_report,
)
from gpuvitals.node.first_snapshot import FirstSnapshotGate
from gpuvitals.node.mig_instances import hidden, visible_verdict, withheld
from gpuvitals.node.node_facts import NodeState
from gpuvitals.node.ports import AgentPorts
from gpuvitals.node.recall import Recall
from gpuvitals.node.reports import StandingReports, names
from gpuvitals.node.slots import (
    Takeover,
    affected_devices,
    after_inventory,
    remembered_owners,
    with_slots,
    without_gpu,
)
from gpuvitals.node.state_store import GpuRecord, NodeRecord
from gpuvitals.node.verdict_cache import VerdictCache, node_policy
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics

log = logging.getLogger(__name__)

_MAX_EARLY = 4096
"""The most signals that wait for the first inventory. Further ones count as unattributed."""
_MAX_RECENT = 512
"""The most signals kept that name a slot and no UUID, for a GPU that turns out to have taken the slot before them."""


class NodeHealth:
    """Health state of the node's GPUs. Owned by the agent's thread, which may replace entries of `gpus`."""

    def __init__(self, ports: AgentPorts, metrics: NodeMetrics) -> None:
        self.gpus: dict[GpuUuid, GpuRecord] = {}
        self.policies: Mapping[GpuUuid, EffectivePolicy] = {}
        self.driver_load = ""
        self._ports = ports
        self._metrics = metrics
        self._node = NodeState()
        self._gate = FirstSnapshotGate()
        self._early: list[GpuSignal] = []
        self._recent: deque[XidReport | OffBusReport | RecoveryActionReport] = deque(maxlen=_MAX_RECENT)
        self._reports = StandingReports()
        self._verdicts = VerdictCache()
        self._recall = Recall(None, BootId(""))

    @property
    def is_waiting(self) -> bool:
        """Whether signals wait for the first inventory."""
        return bool(self._early)

    @property
    def parents(self) -> Mapping[GpuUuid, GpuUuid]:
        """The GPU of each MIG instance."""
        return {uuid: entry.gpu.mig.parent for uuid, entry in self.gpus.items() if entry.gpu.mig is not None}

    def restore(self, stored: NodeRecord, now: Moment, *, same_boot: bool) -> None:
        """Restores the state of an earlier agent."""
        self.driver_load = stored.driver_load
        if same_boot:
            self._node.restore(stored.facts, stored.gpus)
        # The boot clock never jumps, but its values of another boot mean nothing.
        age = now.at - stored.saved.at if same_boot else (now.time - stored.saved.time).total_seconds()
        for entry in stored.gpus:
            state = after_restart(
                entry.state, same_boot=same_boot, same_driver_load=True, age_seconds=max(0.0, age)
            )
            kept = entry if same_boot else replace(entry, published=None)
            self.gpus[entry.gpu.uuid] = replace(kept, state=state)
        self.gpus = with_slots(self.gpus, remembered_owners(self.gpus), (), now.time)

    def recall_with(self, recall: Recall) -> None:
        """Uses published verdicts for the GPUs whose memory could not be read."""
        self._recall = recall

    def recall(self, now: Moment) -> None:
        """Restores the published faults of GPUs whose memory could not be read."""
        self._recall.take(self._ports.published.verdicts)
        for uuid in self._recall.waiting & self.gpus.keys():
            self.gpus[uuid] = self._recall.restored(self.gpus[uuid], now, self.policies[uuid].health)

    def update_policies(self) -> None:
        """Reads the policy of each GPU again."""
        self.policies = self._ports.policies.effective([entry.gpu for entry in self.gpus.values()])

    def withheld(self) -> Mapping[GpuUuid, str]:
        """Devices that are not offered because a claim holds their silicon in another form, with the reason."""
        return withheld(self.gpus, self._ports.devices)

    def to_isolate(self, verdicts: Mapping[GpuUuid, Verdict]) -> frozenset[GpuUuid]:
        """The devices whose verdicts take them out of service, before their policies apply."""
        already = frozenset(uuid for uuid, entry in self.gpus.items() if entry.isolated)
        return isolated(self._in_a_slot(verdicts), node_policy(self.policies.values()), already, self.parents)

    def forget(self, uuid: GpuUuid) -> None:
        """Removes a GPU at an operator's request. Raises ValueError with the reason if it has to stay."""
        self.gpus = without_gpu(self.gpus, uuid, self._node.enumerated, self._ports.devices)
        log.warning("gpu forgotten", extra=keys(gpu=uuid))

    def apply_reports(self, now: Moment) -> None:
        """Applies current operator and program reports to the GPUs they name; one event for each unknown name."""
        for source, standing in self._reports.due(now, self.gpus.keys()):
            for uuid, entry in self.gpus.items():
                own = tuple(each for each in standing if names(each.gpu, entry))
                policy = self.policies[uuid].health
                state = fold_reports(advance(entry.state, now.at, policy), source, own, now, policy)
                self.gpus[uuid] = replace(entry, state=state)
            self._metrics.standing_reports.labels(source=source.value).set(len(standing))
            for each in standing:
                if not any(names(each.gpu, entry) for entry in self.gpus.values()):
                    self._emit(unattributed_report(each))

    def resume(self, seconds: float) -> None:
        """Extends every GPU's last reading by the time for which the machine was suspended."""
        for uuid, entry in self.gpus.items():
            state = after_restart(entry.state, same_boot=True, same_driver_load=True, age_seconds=seconds)
            self.gpus[uuid] = replace(entry, state=state)

    def verdicts(self, now: Moment) -> dict[GpuUuid, Verdict]:
        """The verdict of every visible device at `now`."""
        found: dict[GpuUuid, Verdict] = {}
        invisible = self._hidden()
        for uuid, entry in self.gpus.items():
            current = self._verdicts.verdict_of(entry.state, now, self.policies[uuid].health)
            if current.state is not entry.state:
                self.gpus[uuid] = replace(entry, state=current.state)
            if uuid not in invisible:
                found[uuid] = visible_verdict(entry, current.verdict)
        self._verdicts.keep(self.gpus)
        return found

    def can_be_published(self, now: Moment) -> bool:
        """Whether a first snapshot can be made.

        If the memory is incomplete, the stored slices are read first: a failed GPU must not be published as healthy.
        """
        return self._recall.is_complete and self._gate.is_open(
            now, self._node, self.gpus.values(), policies_settled=self._ports.policies.is_settled
        )

    def facts(self, verdicts: Mapping[GpuUuid, Verdict]) -> NodeFacts:
        """The facts about the node as a whole."""
        policy = node_policy(self.policies.values())
        capped = is_capped(self._in_a_slot(verdicts), policy, self.parents)
        return self._node.facts(self.gpus.values(), policy, self._reports.lines, capped=capped)

    def fold(self, signal: Signal) -> None:
        """Folds one signal into the state of the node or of the GPUs concerned."""
        match signal:
            case InventoryReport():
                self._adopt(signal)
            case MonitorReport():
                self._emit(monitor_event(signal, self._node.monitor(signal.source)))
                self._node.fold(signal)
            case SwitchReport():
                self._node.fold(signal)
            case GapReport():
                self._metrics.signal_gaps.labels(source=signal.source.value).inc(max(1, signal.lost))
                log.warning("records lost", extra=keys(source=signal.source.value, lost=signal.lost))
                self._emit(gap_event(signal))
                self._ports.monitor.request_poll(None)
            case ExternalReports():
                self._reports.replace(signal)
            case XidReport() | OffBusReport() | RecoveryActionReport():
                if signal.uuid is None:
                    self._recent.append(signal)
                self._fold_gpu(signal)
            case (
                InitFailureReport()
                | IdentityReport()
                | Reading()
                | Checkup()
                | PresenceReport()
                | ClearReport()
            ):
                self._fold_gpu(signal)
            case _:
                assert_never(signal)

    def _fold_gpu(self, signal: GpuSignal) -> None:
        concerned = affected_devices(signal, self.gpus)
        if not concerned and not self.gpus and len(self._early) < _MAX_EARLY:
            # The kernel log is read before the driver has listed its GPUs.
            self._early.append(signal)
            return
        self.count(signal, "folded" if concerned else "unattributed")
        if not concerned and not isinstance(signal, Reading | Checkup):
            log.warning("signal without a known gpu", extra=keys(signal=repr(signal)))
            self._emit(unattributed_event(signal))
        if isinstance(signal, Reading) and signal.source is not Source.DCGM:
            self._gate.has_read(signal.uuid)
        for uuid in concerned:
            entry, policy = self.gpus[uuid], self.policies[uuid].health
            state = advance(entry.state, signal.seen.at, policy)
            own = self._with_claim(without_mig_links(signal, entry.gpu), uuid)
            self.gpus[uuid] = replace(entry, state=evaluate(state, own, policy))
        self._follow_up(signal, concerned)

    def _follow_up(self, signal: GpuSignal, concerned: tuple[GpuUuid, ...]) -> None:
        """Requests a reading after an event; stops polling a GPU whose driver calls may hang."""
        # An instance is read with its GPU.
        gpus = tuple(dict.fromkeys(self.gpus[uuid].gpu.gpu_uuid for uuid in concerned))
        if isinstance(signal, XidReport) and signal.code in HANDS_OFF_XIDS:
            for uuid in gpus:
                self._ports.monitor.avoid(uuid)
        elif not isinstance(signal, Reading | Checkup):
            self._ports.monitor.request_poll(gpus[0] if len(gpus) == 1 else None)

    def _hidden(self) -> frozenset[GpuUuid]:
        """Destroyed instances that no claim holds. They are published again if they come back."""
        invisible, forgotten = hidden(self.gpus, self._ports.devices)
        for uuid in forgotten:
            log.info("mig instance forgotten", extra=keys(gpu=uuid, bus_id=self.gpus[uuid].gpu.bus_id))
            del self.gpus[uuid]
        for uuid in invisible - forgotten:
            if self.gpus[uuid].published is not None:
                self.gpus[uuid] = replace(self.gpus[uuid], published=None, isolated=False)
        return invisible

    def _with_claim(self, signal: GpuSignal, uuid: GpuUuid) -> GpuSignal:
        if not isinstance(signal, XidReport) or signal.claim is not None or signal.source is Source.DCGM:
            # DCGM reports an XID late: the present holder of the GPU need not be the one that met it.
            return signal
        holders = self._ports.devices.holders(uuid)
        return replace(signal, claim=holders[0]) if len(holders) == 1 else signal

    def _adopt(self, report: InventoryReport) -> None:
        reloaded = is_reload(self.driver_load, report.driver_load)
        before = self.gpus
        self.gpus, taken = after_inventory(before, report, self._ports.devices, reloaded=reloaded)
        for uuid in self.gpus.keys() - before.keys():
            gpu = self.gpus[uuid].gpu
            log.info("gpu found", extra=keys(gpu=uuid, bus_id=gpu.bus_id, product=gpu.product_name))
        self._node.fold(report)
        self._gate.has_listed(self.gpus.keys(), report.seen.at)
        self.driver_load = known_load(self.driver_load, report.driver_load)
        self.update_policies()
        early, self._early = self._early, []
        for signal in early:
            self._fold_gpu(signal)
        for takeover in taken:
            self._replaced(takeover)

    def _replaced(self, takeover: Takeover) -> None:
        """Folds into the new owner of a slot the signals of the slot since the last good reading of its old owner."""
        before = self.gpus.get(takeover.before)
        is_here = before is not None and not before.retired
        log.warning("gpu replaced", extra=keys(bus_id=takeover.slot, gpu=takeover.now, was=takeover.before))
        self._emit(replaced_event(takeover.slot, takeover.before, takeover.now, is_here=is_here))
        last_good = None if before is None else before.state.last_ok_at
        for signal in self._recent:
            is_later = last_good is None or signal.seen.at > last_good
            if signal.bus_id == takeover.slot and is_later:
                self._fold_gpu(signal)

    def _in_a_slot(self, verdicts: Mapping[GpuUuid, Verdict]) -> list[Verdict]:
        """The verdicts that count for the node: those of replaced GPUs do not."""
        return [verdict for uuid, verdict in verdicts.items() if not self.gpus[uuid].retired]

    def _emit(self, event: Event | None) -> None:
        if event is not None:
            self._ports.events.emit(event)

    def count(self, signal: Signal, outcome: str) -> None:
        """Counts a signal under its outcome."""
        kind = type(signal).__name__
        self._metrics.signals.labels(source=signal.source.value, kind=kind, verdict=outcome).inc()
