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
"""The values of a Reading that coverage counts."""

_ACTION_NAMES = {Reason(reason): name for name, reason in RECOVERY_ACTIONS.values() if reason is not None}
_ACTION_NAMES[Reason("RecoveryUnknown")] = "Unknown"


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
    newest = max(counted, key=lambda record: record.episode_at, default=None)
    blind = judged.state is HealthState.UNKNOWN
    # What was read too long ago is shown as not read: no attribute may say that a GPU nobody sees is well.
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
    """The next boot-clock instant at which the verdict can turn without a signal; None where it can't.

    The ageing of the score is not among them: it moves by the hour, and nobody waits for it.
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
    """Percent of what is expected of a GPU that could be read; 0 without a reading.

    A value that the driver does not support counts as not read, unless NVIDIA documents that the model lacks it: a claim
    that wants every signal watched must be able to say so. The DCGM exporter is one more signal, where it is expected.
    """
    if reading is None:
        return 0
    known = {name for name in EXPECTED_VALUES if getattr(reading, name) is not None}
    if unknown_links(reading):
        known.discard("links")
    lacking = state.unsupported_values | (WITHOUT_LINKS if state.expected_links == 0 else frozenset())
    wanted = [name for name in EXPECTED_VALUES if name in known or name not in lacking]
    carried = len(known)
    expected = len(wanted) + policy.dcgm_expected
    carried += policy.dcgm_expected * (state.dcgm_reading is not None)
    return 100 * carried // expected if expected else 0


def _judged(state: GpuState, now: float, policy: Policy) -> _Judgement:
    worst = _worst([fault for fault in state.faults if isolates(state, fault, now, policy)])
    if worst is not None:
        return _Judgement(HealthState.UNHEALTHY, Phase.STEADY, worst, worst.rule.reason)
    if _is_blind(state, now, policy):
        # A hang is why nobody sees this GPU, so it stays the reason.
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
    """The fault that names the verdict: the worst, and of equals the first, so that the name does not flicker."""
    return min(
        faults,
        key=lambda fault: (
            -fault.rule.fault_class.rank,
            -fault.rule.severity_percent,
            fault.first_at,
            # An XID says more than the line that the driver logs with it.
            not fault.rule.reason.startswith("Xid"),
        ),
        default=None,
    )


def _current_reading(state: GpuState, policy: Policy) -> Reading | None:
    """Our own reading; DCGM's where ours is so much older that only DCGM still sees the GPU."""
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
            return "no reading of this GPU; it is neither healthy nor failed until one succeeds"
        if judged.reason == PROBATION:
            return "repaired and on probation; allocatable, but watched"
        return ""
    what = f"{_fault_name(judged.cause)}: {judged.cause.detail}"
    match judged.state:
        case HealthState.UNHEALTHY:
            return f"{what}; unfit until {_clearing_condition(judged.cause)}"
        case HealthState.DEGRADED:
            then = (
                _isolation_condition(judged.cause)
                if judged.phase is Phase.SUSPECT
                else "degraded, still in service"
            )
            return f"{what}; {then}"
        case HealthState.UNKNOWN:
            return f"{what}; takes it out of service if it lasts"
        case HealthState.HEALTHY:
            return what
        case _:
            assert_never(judged.state)


def _fault_name(fault: Fault) -> str:
    reason = fault.rule.reason
    return f"XID {reason.removeprefix('Xid')}" if reason.startswith("Xid") else reason


def _isolation_condition(fault: Fault) -> str:
    """A level isolates by lasting, an event by coming back."""
    return "isolates if it lasts" if fault.run_since is None else "isolates if it comes back"


def _clearing_condition(fault: Fault) -> str:
    match fault.rule.clearing:
        case Clearing.RESET:
            return "a reset, a reboot or an operator clears it"
        case Clearing.RETRACTED:
            return "the report is withdrawn or expires"
        case Clearing.LEVEL:
            return "the readings are good again"
        case Clearing.OPERATOR:
            return "an operator clears it"
        case Clearing.EXPIRY:
            return "it has not recurred for a day"
        case Clearing.QUIET:
            return "it has held for hours, or an operator clears it"
        case _:
            assert_never(fault.rule.clearing)


def _nvlink(state: GpuState, reading: Reading | None, policy: Policy) -> NvlinkStatus:
    """The links in a word. It follows the faults and not each reading, so that a flapping link is one change."""
    if state.expected_links == 0:
        return NvlinkStatus.NONE
    if reading is None or reading.links is None or state.expected_links is None:
        return NvlinkStatus.UNKNOWN
    if state.fault(Reason("NvlinkDown")) is not None:
        return NvlinkStatus.DOWN
    worn = (state.fault(Reason(reason)) for reason in ("NvlinkDegraded", "FabricDegraded"))
    is_worn = any(fault is not None and confirmed(fault, policy) for fault in worn)
    if is_worn or state.fault(Reason("FabricFailed")) is not None:
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
    """Follows the faults too, like `_nvlink`."""
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
    """What the driver asks for, by a reading or by XID 154, from when it is a fault until that has ended."""
    if reading is None:
        return "Unknown"
    asks = [fault for fault in state.faults if fault.rule.reason in _ACTION_NAMES]
    asked = _worst([fault for fault in asks if confirmed(fault, policy)])
    if asked is not None:
        return _ACTION_NAMES[asked.rule.reason]
    return "Unknown" if reading.recovery_action is None else recovery_action(0)[0]
