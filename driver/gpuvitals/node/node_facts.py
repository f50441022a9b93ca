"""Facts about the node as a whole: monitors, NVSwitch faults, and GPUs that are expected but not enumerated."""

import logging
from collections.abc import Collection
from typing import assert_never

from gpuvitals.health.dcgm_reading import dcgm_exceeds_isolation_cap
from gpuvitals.health.policy import Policy
from gpuvitals.health.reasons import DCGM_UNCONFIRMED, GPU_NOT_UP, ISOLATION_CAPPED, NVSWITCH_FAULT
from gpuvitals.model.gpu import DeviceKind
from gpuvitals.model.ids import GpuUuid, PciBusId
from gpuvitals.model.signal import InventoryReport, MonitorReport, MonitorState, Source, SwitchReport
from gpuvitals.model.snapshot import NodeFacts
from gpuvitals.node.state_store import GpuRecord
from gpuvitals.observability.logs import keys

log = logging.getLogger(__name__)


class NodeState:
    """The state from which the node's facts are derived. Owned by the agent's thread."""

    def __init__(self) -> None:
        self.enumerated: frozenset[GpuUuid] = frozenset()
        self._monitors: dict[Source, MonitorState] = {}
        self._not_up: frozenset[PciBusId] = frozenset()
        self._switch_fault = False

    def monitor(self, source: Source) -> MonitorState | None:
        """The state of a source; None until it has reported."""
        return self._monitors.get(source)

    def restore(self, facts: NodeFacts, records: Collection[GpuRecord]) -> None:
        """Restores the state of an earlier agent on the same boot. It is valid until a source reports again."""
        self._monitors = dict(facts.monitors)
        self._switch_fault = NVSWITCH_FAULT in facts.reasons
        self.enumerated = frozenset(
            record.gpu.uuid
            for record in records
            if record.gpu.kind is DeviceKind.GPU and record.gpu.bus_id not in facts.missing_gpus
        )
        if GPU_NOT_UP in facts.reasons:
            known = {record.gpu.bus_id for record in records}
            self._not_up = frozenset(PciBusId(bus) for bus in facts.missing_gpus if bus not in known)

    def fold(self, signal: InventoryReport | MonitorReport | SwitchReport) -> None:
        """Folds a signal about the node as a whole."""
        match signal:
            case InventoryReport():
                self.enumerated = frozenset(gpu.uuid for gpu in signal.gpus if gpu.kind is DeviceKind.GPU)
                self._not_up = frozenset(signal.not_up)
            case MonitorReport():
                self._monitors[signal.source] = signal.state
                log.info(
                    "monitor",
                    extra=keys(source=signal.source.value, state=signal.state.value, detail=signal.detail),
                )
            case SwitchReport():
                self._switch_fault = self._switch_fault or bool(signal.fatal)
                log.warning(
                    "nvswitch fault",
                    extra=keys(
                        sxid=signal.code, switch=signal.switch_bus_id, link=signal.link, fatal=signal.fatal
                    ),
                )
            case _:
                assert_never(signal)

    def facts(
        self, records: Collection[GpuRecord], policy: Policy, reports: tuple[str, ...], *, capped: bool
    ) -> NodeFacts:
        """The facts, given the node's GPUs and its `policy`. `capped`: the isolation cap keeps a GPU in service."""
        reasons = [ISOLATION_CAPPED] if capped else []
        if self._switch_fault:
            reasons.append(NVSWITCH_FAULT)
        whole = [record for record in records if record.gpu.kind is DeviceKind.GPU]
        physical = [record for record in whole if not record.retired]
        if dcgm_exceeds_isolation_cap([record.state for record in physical], policy):
            reasons.append(DCGM_UNCONFIRMED)
        missing = {record.gpu.bus_id for record in physical if record.gpu.uuid not in self.enumerated}
        # A GPU that came up earlier has a device, and that device's verdict reports the failure.
        never_up = self._not_up - {record.gpu.bus_id for record in physical}
        if never_up:
            reasons.append(GPU_NOT_UP)
        return NodeFacts(
            monitors=tuple(sorted(self._monitors.items(), key=lambda item: item[0].value)),
            reasons=tuple(reasons),
            expected_gpus=len(physical) + len(never_up),
            missing_gpus=tuple(sorted(missing | never_up)),
            reports=reports,
            retired=tuple(record.gpu.uuid for record in whole if record.retired),
        )
