"""Judges a state: the four states, the score, and the sentence that a person reads."""

from dataclasses import dataclass
from typing import assert_never

from gpuvitals.health.fault_classes import RECOVERY_ACTIONS, Clearing, FaultClass
from gpuvitals.health.faults import confirmed, isolating
from gpuvitals.health.policy import Policy
from gpuvitals.health.score import capped, counts, factors, health_class, link_share, score
from gpuvitals.health.state import Fault, GpuState, XidRecord
from gpuvitals.model.clock import Moment
from gpuvitals.model.health import NO_REASON, HealthClass, HealthState, NvlinkStatus, Phase, RowRemap, Verdict
from gpuvitals.model.ids import Reason
from gpuvitals.model.signal import FabricState, Reading

BLIND = Reason("NoEvidence")
PROBATION = Reason("Probation")

EXPECTED_VALUES = (
    "recovery_action",
    "ecc_uncorrected_volatile",
    "ecc_uncorrected_aggregate",
    "sram_threshold_exceeded",
    "remap_pending",
    "remap_failed",
    "links",
    "fabric",
    "thermal_margin_celsius",
    "hardware_slowdown",
)
"""The values of a Reading that coverage counts. `links` and `fabric` are left out for a model without NVLink."""


@dataclass(frozen=True, slots=True)
class _Judgement:
    state: HealthState
    phase: Phase
    cause: Fault | None
    reason: Reason


def verdict(state: GpuState, now: Moment, policy: Policy) -> Verdict:
    """The verdict at `now`, on a state that `advance` has brought there. A pure function of its arguments."""
    judged = _judged(state, now.at, policy)
    # A lesser fault met on probation names the verdict, but does not lift the cap.
    probation = _on_probation(state, now.at)
    value = capped(score(factors(state, now.at, policy)), judged.state, probation=probation)
    counted = _counted(state, now.at, policy)
    newest = max(counted, key=lambda record: record.last_at, default=None)
    blind = judged.state is HealthState.UNKNOWN
    return Verdict(
        uuid=state.uuid,
        state=judged.state,
        phase=judged.phase,
        score=value,
        health_class=HealthClass.UNKNOWN if blind else health_class(value),
        reason=judged.reason,
        message=_message(state, judged),
        definitive=judged.cause is not None and judged.cause.rule.fault_class is FaultClass.A,
        xid_errors=len(counted),
        last_xid=newest.code if newest is not None else 0,
        last_fault_time=judged.cause.last_time if judged.cause is not None else None,
        nvlink_status=_nvlink(state),
        nvlink_bandwidth_percent=int(100 * link_share(state) // 1),
        ecc_uncorrected=(state.reading.ecc_uncorrected_volatile or 0) if state.reading is not None else 0,
        row_remap=_row_remap(state.reading),
        recovery_action=_recovery_action(state.reading),
        coverage=coverage(state),
    )


def next_change_at(state: GpuState, now: float, policy: Policy) -> float | None:
    """The next boot-clock instant at which the verdict can change without a signal; None where none can."""
    instants: list[float] = []
    if state.last_ok_at is not None:
        instants.append(state.last_ok_at + policy.blind_seconds)
    if state.probation_until is not None:
        instants.append(state.probation_until)
    for fault in state.faults:
        match fault.rule.clearing:
            case Clearing.LEVEL:
                instants.append(fault.first_at + policy.dwell_seconds)
                instants.append(fault.first_at + policy.level_confirm_seconds)
                if fault.good_since is not None:
                    instants.append(fault.good_since + policy.level_clear_seconds)
            case Clearing.EXPIRY:
                instants.append(fault.last_at + policy.xid_count_seconds)
            case Clearing.RESET | Clearing.OPERATOR:
                pass
    return min((instant for instant in instants if instant > now), default=None)


def coverage(state: GpuState) -> int:
    """Percent of the expected values that the last good reading carried; 0 without one."""
    if state.reading is None:
        return 0
    linkless = state.expected_links == 0
    wanted = [name for name in EXPECTED_VALUES if not (linkless and name in ("links", "fabric"))]
    carried = sum(getattr(state.reading, name) is not None for name in wanted)
    return 100 * carried // len(wanted)


def _judged(state: GpuState, now: float, policy: Policy) -> _Judgement:
    out = [fault for fault in state.faults if isolating(fault, now, policy)]
    if out:
        worst = min(
            out,
            key=lambda fault: (-fault.rule.fault_class.rank, -fault.rule.severity_percent, fault.first_at),
        )
        return _Judgement(HealthState.UNHEALTHY, Phase.STEADY, worst, worst.rule.reason)
    if state.last_ok_at is None or now - state.last_ok_at >= policy.blind_seconds:
        return _Judgement(HealthState.UNKNOWN, Phase.STEADY, None, BLIND)
    shown = [fault for fault in state.faults if confirmed(fault, now, policy)]
    if shown:
        worst = min(
            shown,
            key=lambda fault: (-fault.rule.fault_class.rank, -fault.rule.severity_percent, fault.first_at),
        )
        suspect = worst.rule.fault_class is FaultClass.B
        return _Judgement(
            HealthState.DEGRADED, Phase.SUSPECT if suspect else Phase.STEADY, worst, worst.rule.reason
        )
    if _on_probation(state, now):
        return _Judgement(HealthState.DEGRADED, Phase.PROBATION, None, PROBATION)
    return _Judgement(HealthState.HEALTHY, Phase.STEADY, None, NO_REASON)


def _on_probation(state: GpuState, now: float) -> bool:
    return state.probation_until is not None and now < state.probation_until


def _counted(state: GpuState, now: float, policy: Policy) -> list[XidRecord]:
    return [
        record
        for record in state.xids
        if not record.resolved
        and now - record.last_at < policy.xid_count_seconds
        and counts(state, record.rule.reason)
    ]


def _message(state: GpuState, judged: _Judgement) -> str:
    if judged.cause is None:
        if judged.reason == BLIND:
            return "no reading of this GPU; it is neither healthy nor failed until one succeeds"
        if judged.reason == PROBATION:
            return "repaired and on probation; allocatable, but watched"
        return ""
    what = f"{_named(judged.cause)}: {judged.cause.detail}"
    match judged.state:
        case HealthState.UNHEALTHY:
            return f"{what}; out of service until {_way_out(judged.cause)}"
        case HealthState.DEGRADED:
            then = "isolates if it lasts" if judged.phase is Phase.SUSPECT else "degraded, still in service"
            return f"{what}; {then}"
        case HealthState.HEALTHY | HealthState.UNKNOWN:
            return what


def _named(fault: Fault) -> str:
    reason = fault.rule.reason
    return f"XID {reason.removeprefix('Xid')}" if reason.startswith("Xid") else reason


def _way_out(fault: Fault) -> str:
    match fault.rule.clearing:
        case Clearing.RESET:
            return "a reset, a reboot or an operator clears it"
        case Clearing.LEVEL:
            return "it reads good again"
        case Clearing.OPERATOR:
            return "an operator clears it"
        case Clearing.EXPIRY:
            return "it has not recurred for a day"
        case _:
            assert_never(fault.rule.clearing)


def _nvlink(state: GpuState) -> NvlinkStatus:
    if state.expected_links == 0:
        return NvlinkStatus.NONE
    reading = state.reading
    if reading is None or reading.links is None or state.expected_links is None:
        return NvlinkStatus.UNKNOWN
    share = link_share(state)
    if 2 * share < 1:
        return NvlinkStatus.DOWN
    settled = reading.fabric in (None, FabricState.NOT_SUPPORTED, FabricState.COMPLETED)
    return NvlinkStatus.ACTIVE if share == 1 and settled else NvlinkStatus.DEGRADED


def _row_remap(reading: Reading | None) -> RowRemap:
    if reading is None or (reading.remap_pending is None and reading.remap_failed is None):
        return RowRemap.UNKNOWN
    if reading.remap_failed:
        return RowRemap.FAILED
    return RowRemap.PENDING if reading.remap_pending else RowRemap.NONE


def _recovery_action(reading: Reading | None) -> str:
    if reading is None or reading.recovery_action is None:
        return "Unknown"
    return RECOVERY_ACTIONS.get(reading.recovery_action, ("Unknown", None))[0]
