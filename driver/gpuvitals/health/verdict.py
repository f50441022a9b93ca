"""Stage 6 of 10: derives the verdict of a state: one of four health states, the score, and a message."""

from dataclasses import dataclass
from typing import assert_never

from gpuvitals.health.expected_links import WITHOUT_LINKS
from gpuvitals.health.fault_classes import RECOVERY_ACTIONS, Clearing, FaultClass, recovery_action
from gpuvitals.health.faults import NVML_HUNG, confirmed, isolates, run_ends_at
from gpuvitals.health.fold_reading import unknown_links
from gpuvitals.health.policy import Policy
from gpuvitals.health.score import capped, factors, health_class, link_share, score
from gpuvitals.health.state import Fault, GpuState, XidRecord
from gpuvitals.health.witnesses import confidence
from gpuvitals.model.clock import Moment
from gpuvitals.model.health import (
    NO_REASON,
    Confidence,
    HealthClass,
    HealthState,
    NvlinkStatus,
    Phase,
    RowRemap,
    Verdict,
)
from gpuvitals.model.ids import Reason
from gpuvitals.model.signal import FabricState, Reading

NO_EVIDENCE = Reason("NoEvidence")
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
"""The values of a Reading that `coverage` counts."""

_ACTION_NAMES = {Reason(reason): name for name, reason in RECOVERY_ACTIONS.values() if reason is not None}
_ACTION_NAMES[Reason("RecoveryUnknown")] = "Unknown"


@dataclass(frozen=True, slots=True)
class _Judgement:
    state: HealthState
    phase: Phase
    cause: Fault | None
    reason: Reason


def verdict(state: GpuState, now: Moment, policy: Policy) -> Verdict:
    """The verdict at `now`, for a state that was advanced to `now`."""
    judged = _judged(state, now.at, policy)
    # A lesser fault during probation names the verdict, but does not raise the cap.
    probation = _on_probation(state, now.at)
    value = capped(score(factors(state, now.at, policy)), judged.state, probation=probation)
    counted = _counted(state, now.at, policy)
    newest = max(counted, key=lambda record: record.episode_at, default=None)
    blind = judged.state is HealthState.UNKNOWN
    # An outdated reading is not shown: no attribute may present an unreadable GPU as healthy.
    reading = None if _is_blind(state, now.at, policy) else _current_reading(state, policy)
    nvlink = _nvlink(state, reading, policy)
    return Verdict(
        uuid=state.uuid,
        state=judged.state,
        phase=judged.phase,
        score=value,
        health_class=HealthClass.UNKNOWN if blind else health_class(value),
        reason=judged.reason,
        message=_message(judged),
        definitive=judged.cause is not None and judged.cause.rule.fault_class is FaultClass.A,
        xid_errors=len(counted),
        last_xid=newest.code if newest is not None else 0,
        last_fault_time=judged.cause.last_time if judged.cause is not None else None,
        nvlink_status=nvlink,
        nvlink_bandwidth_percent=0 if nvlink is NvlinkStatus.UNKNOWN else int(100 * link_share(state) // 1),
        ecc_uncorrected=0 if state.ecc_uncorrected is None else state.ecc_uncorrected.value,
        row_remap=_row_remap(state, reading),
        recovery_action=_recovery_action(state, reading, policy),
        coverage=coverage(state, reading, policy),
        confidence=Confidence.NONE if judged.cause is None else confidence(state, judged.cause),
    )


def next_change_at(state: GpuState, now: float, policy: Policy) -> float | None:
    """The next boot-clock instant at which the verdict can change without a signal; None if there is none.

    The hourly ageing of the score is left out.
    """
    instants: list[float] = []
    if state.last_ok_at is not None:
        instants.append(state.last_ok_at + policy.blind_seconds)
    if state.probation_until is not None:
        instants.append(state.probation_until)
    if state.suspect_since is not None:
        instants.append(state.suspect_since + policy.dwell_seconds)
    counted = [record.counted_at for record in state.xids if record.counted_at is not None]
    instants += [at + policy.xid_count_seconds for at in counted]
    for fault in state.faults:
        ends = run_ends_at(fault, policy) if fault.rule.fault_class is FaultClass.B else None
        if ends is not None:
            instants.append(ends)
        if fault.rule.clearing is Clearing.EXPIRY:
            instants.append(fault.last_at + policy.xid_count_seconds)
        elif fault.rule.clearing is Clearing.LEVEL and fault.good_since is not None:
            instants.append(fault.good_since + policy.level_clear_seconds)
        elif fault.rule.clearing is Clearing.QUIET:
            instants.append(fault.last_at + policy.flap_quiet_seconds)
    return min((instant for instant in instants if instant > now), default=None)


def coverage(state: GpuState, reading: Reading | None, policy: Policy) -> int:
    """The share of the expected values that could be read, in percent; 0 without a reading.

    A value that the driver does not support counts as not read, so that a claim can select GPUs with full monitoring,
    unless NVIDIA documents that the model does not have it. The DCGM exporter counts as one more value if it is expected.
    """
    if reading is None:
        return 0
    known = {name for name in EXPECTED_VALUES if getattr(reading, name) is not None}
    if unknown_links(reading):
        known.discard("links")
    lacking = state.unsupported_values | (WITHOUT_LINKS if state.expected_links == 0 else frozenset())
    wanted = [name for name in EXPECTED_VALUES if name in known or name not in lacking]
    available = len(known)
    expected = len(wanted) + policy.dcgm_expected
    available += policy.dcgm_expected * (state.dcgm_reading is not None)
    return 100 * available // expected if expected else 0


def _judged(state: GpuState, now: float, policy: Policy) -> _Judgement:
    worst = _worst([fault for fault in state.faults if isolates(state, fault, now, policy)])
    if worst is not None:
        return _Judgement(HealthState.UNHEALTHY, Phase.STEADY, worst, worst.rule.reason)
    if _is_blind(state, now, policy):
        # A hang explains the missing readings, so it stays the reason.
        hung = state.fault(NVML_HUNG)
        return _Judgement(HealthState.UNKNOWN, Phase.STEADY, hung, NO_EVIDENCE if hung is None else NVML_HUNG)
    worst = _worst([fault for fault in state.faults if confirmed(fault, policy)])
    if worst is not None:
        phase = Phase.SUSPECT if worst.rule.fault_class is FaultClass.B else Phase.STEADY
        return _Judgement(HealthState.DEGRADED, phase, worst, worst.rule.reason)
    if _on_probation(state, now):
        return _Judgement(HealthState.DEGRADED, Phase.PROBATION, None, PROBATION)
    return _Judgement(HealthState.HEALTHY, Phase.STEADY, None, NO_REASON)


def _worst(faults: list[Fault]) -> Fault | None:
    """The fault that names the verdict: the worst, and the first of equals, so that the name is stable."""
    return min(
        faults,
        key=lambda fault: (
            -fault.rule.fault_class.rank,
            -fault.rule.severity_percent,
            fault.first_at,
            # An XID is more specific than the line that the driver logs with it.
            not fault.rule.reason.startswith("Xid"),
        ),
        default=None,
    )


def _current_reading(state: GpuState, policy: Policy) -> Reading | None:
    """NVML's reading, or DCGM's if it is newer by `blind_seconds`, so that only DCGM still reads the GPU."""
    own, second = state.reading, state.dcgm_reading
    if own is None or second is None:
        return own or second
    return second if second.seen.at - own.seen.at >= policy.blind_seconds else own


def _is_blind(state: GpuState, now: float, policy: Policy) -> bool:
    return state.last_ok_at is None or now - state.last_ok_at >= policy.blind_seconds


def _on_probation(state: GpuState, now: float) -> bool:
    return state.probation_until is not None and now < state.probation_until


def _counted(state: GpuState, now: float, policy: Policy) -> list[XidRecord]:
    return [
        record
        for record in state.xids
        if not record.resolved
        and record.counted_at is not None
        and now - record.counted_at < policy.xid_count_seconds
    ]


def _message(judged: _Judgement) -> str:
    if judged.cause is None:
        if judged.reason == NO_EVIDENCE:
            return "no reading of this GPU; its health is unknown until one succeeds"
        if judged.reason == PROBATION:
            return "repaired and on probation; allocatable, but watched"
        return ""
    cause = f"{_fault_name(judged.cause)}: {judged.cause.detail}"
    match judged.state:
        case HealthState.UNHEALTHY:
            return f"{cause}; unfit until {_clearing_condition(judged.cause)}"
        case HealthState.DEGRADED:
            outlook = (
                _isolation_condition(judged.cause)
                if judged.phase is Phase.SUSPECT
                else "degraded, still in service"
            )
            return f"{cause}; {outlook}"
        case HealthState.UNKNOWN:
            return f"{cause}; takes it out of service if it lasts"
        case HealthState.HEALTHY:
            return cause
        case _:
            assert_never(judged.state)


def _fault_name(fault: Fault) -> str:
    reason = fault.rule.reason
    return f"XID {reason.removeprefix('Xid')}" if reason.startswith("Xid") else reason


def _isolation_condition(fault: Fault) -> str:
    """The condition for isolation: a level isolates if it lasts, an event if it recurs."""
    return "isolates if it lasts" if fault.run_since is None else "isolates if it recurs"


def _clearing_condition(fault: Fault) -> str:
    match fault.rule.clearing:
        case Clearing.RESET:
            return "a reset, a reboot or an operator clears it"
        case Clearing.RETRACTED:
            return "the report is retracted or expires"
        case Clearing.LEVEL:
            return "the readings are good again"
        case Clearing.OPERATOR:
            return "an operator clears it"
        case Clearing.EXPIRY:
            return "it has not recurred for a day"
        case Clearing.QUIET:
            return "it had no fault for hours, or an operator clears it"
        case _:
            assert_never(fault.rule.clearing)


def _nvlink(state: GpuState, reading: Reading | None, policy: Policy) -> NvlinkStatus:
    """The NVLink status. It follows the faults, not single readings, so that a flapping link is one change."""
    if state.expected_links == 0:
        return NvlinkStatus.NONE
    if reading is None or reading.links is None or state.expected_links is None:
        return NvlinkStatus.UNKNOWN
    if state.fault(Reason("NvlinkDown")) is not None:
        return NvlinkStatus.DOWN
    degrading = (state.fault(Reason(reason)) for reason in ("NvlinkDegraded", "FabricDegraded"))
    is_degraded = any(fault is not None and confirmed(fault, policy) for fault in degrading)
    if is_degraded or state.fault(Reason("FabricFailed")) is not None:
        return NvlinkStatus.DEGRADED
    if unknown_links(reading):
        return NvlinkStatus.UNKNOWN
    settled = reading.fabric in (
        None,
        FabricState.NOT_SUPPORTED,
        FabricState.COMPLETED,
        FabricState.DEGRADED,
    )
    return NvlinkStatus.ACTIVE if settled else NvlinkStatus.DEGRADED


def _row_remap(state: GpuState, reading: Reading | None) -> RowRemap:
    """The row remapping status. It follows the faults, like `_nvlink`."""
    if reading is None:
        return RowRemap.UNKNOWN
    if reading.remap_failed:
        return RowRemap.FAILED
    if state.fault(Reason("RowRemapPending")) is not None:
        return RowRemap.PENDING
    return (
        RowRemap.UNKNOWN if reading.remap_pending is None and reading.remap_failed is None else RowRemap.NONE
    )


def _recovery_action(state: GpuState, reading: Reading | None, policy: Policy) -> str:
    """The driver's recovery action, read or logged as XID 154, from the start of its fault to the end."""
    if reading is None:
        return "Unknown"
    requests = [fault for fault in state.faults if fault.rule.reason in _ACTION_NAMES]
    requested = _worst([fault for fault in requests if confirmed(fault, policy)])
    if requested is not None:
        return _ACTION_NAMES[requested.rule.reason]
    return "Unknown" if reading.recovery_action is None else recovery_action(0)[0]
