"""Stage 5 of 10: folds one signal, or the passing of time, into the state of one GPU.

The fold is idempotent, and a lesser event never ends a greater one. Faults end only by the rules of `clearing` and
`advance`.
"""

from dataclasses import replace
from typing import assert_never

from gpuvitals.health.clearing import (
    after_reset,
    cleared,
    exclude_unobserved_time,
    last_instant_before_reset,
    settle_unconfirmed,
)
from gpuvitals.health.dcgm_reading import drop_stale_dcgm_reading, fold_dcgm_reading
from gpuvitals.health.fault_classes import ASKS_FOR_RESET, LEVELS, RECOVERY_ACTIONS, Clearing, recovery_action
from gpuvitals.health.faults import End, Evidence, end_faults, isolates, raise_fault
from gpuvitals.health.fold_checkup import fold_checkup, with_fatal_errors
from gpuvitals.health.fold_reading import fold_ok_reading, has_gpu_values
from gpuvitals.health.policy import Policy
from gpuvitals.health.state import (
    MAX_XIDS,
    Ending,
    GpuState,
    unit_of,
    with_identity_logged,
)
from gpuvitals.health.xid_records import is_duplicate, is_fault, updated_record
from gpuvitals.health.xid_rules import if_reset_requested, xid_rule
from gpuvitals.model.ids import Reason
from gpuvitals.model.signal import (
    Checkup,
    ClearReport,
    ConfigSpace,
    GpuSignal,
    IdentityReport,
    InitFailureReport,
    OffBusReport,
    PresenceReport,
    Reading,
    ReadStatus,
    RecoveryActionReport,
    Source,
    XidReport,
)


def evaluate(state: GpuState, signal: GpuSignal, policy: Policy) -> GpuState:
    """The state after `signal`, which concerns this GPU. Folding the same signal again, even later, changes nothing."""
    if _is_outdated(state, signal):
        return state
    folded = _fold(state, signal, policy)
    if signal.seen.at < state.started_at and folded.reading is not None:
        # Old log lines are read while the GPU is polled already, so the last reading settles them at once.
        return settle_unconfirmed(folded, folded.reading, policy)
    return folded


def advance(state: GpuState, now: float, policy: Policy) -> GpuState:
    """The state at `now` without a new signal: ends levels that stayed good, expired XIDs and probation."""
    held = tuple(
        fault
        for fault in state.faults
        if fault.rule.clearing is Clearing.LEVEL
        and fault.good_since is not None
        and now - fault.good_since >= policy.level_clear_seconds
    )
    expired = tuple(
        fault
        for fault in state.faults
        if fault.rule.clearing is Clearing.EXPIRY and now - fault.last_at >= policy.xid_count_seconds
    )
    state = end_faults(state, held, End(ending=Ending.LEVEL, at=now), policy)
    state = end_faults(state, expired, End(ending=Ending.EXPIRY, at=now), policy)
    state = drop_stale_dcgm_reading(_end_flapping(state, now, policy), now, policy)
    xids = tuple(record for record in state.xids if now - record.last_at < policy.xid_memory_seconds)
    if xids != state.xids:
        state = replace(state, xids=xids)
    if state.probation_until is not None and now >= state.probation_until:
        state = replace(state, probation_until=None)
    return state


def _end_flapping(state: GpuState, now: float, policy: Policy) -> GpuState:
    """`state` without the fault Flapping, after flap_quiet_seconds under observation without another isolating fault."""
    latches = tuple(fault for fault in state.faults if fault.rule.clearing is Clearing.QUIET)
    isolated = any(isolates(state, fault, now, policy) for fault in state.faults if fault not in latches)
    seen = state.last_ok_at is not None and now - state.last_ok_at < policy.blind_seconds
    over = tuple(fault for fault in latches if now - fault.last_at >= policy.flap_quiet_seconds)
    return (
        end_faults(state, over, End(ending=Ending.QUIET, at=now), policy) if seen and not isolated else state
    )


def _fold(state: GpuState, signal: GpuSignal, policy: Policy) -> GpuState:
    match signal:
        case XidReport():
            return _fold_xid(state, signal, policy)
        case Reading():
            return _fold_reading(state, signal, policy)
        case Checkup():
            return fold_checkup(state, signal, policy)
        case OffBusReport():
            return _raise_level(
                state, signal, "GpuLost", "the kernel logged that the GPU has fallen off the bus", policy
            )
        case InitFailureReport():
            return _fold_init_failure(state, signal, policy)
        case PresenceReport():
            return _fold_presence(state, signal, policy)
        case IdentityReport():
            return _fold_identity(state, signal.seen.at, policy)
        case RecoveryActionReport():
            return _fold_recovery_action(state, signal, policy)
        case ClearReport():
            return cleared(state, signal, policy)
        case _:
            assert_never(signal)


def _is_outdated(state: GpuState, signal: GpuSignal) -> bool:
    """Whether the signal is from before the last repair, or was settled by a reading already. Clears never are.

    Folding such a signal again would apply later evidence to an earlier fault.
    """
    if isinstance(signal, ClearReport):
        return False
    if state.settled_early is not None and signal.seen.at <= min(state.settled_early, state.started_at):
        return True
    return state.resolved_until is not None and signal.seen.at < state.resolved_until


def _fold_xid(state: GpuState, signal: XidReport, policy: Policy) -> GpuState:
    if signal.source is Source.KMSG:
        state = with_identity_logged(state, signal.seen.at)
    unit = unit_of(signal.gpu_instance)
    known = next((record for record in state.xids if (record.code, record.unit) == (signal.code, unit)), None)
    if known is not None and is_duplicate(known, signal, policy):
        return state
    rule = xid_rule(signal)
    fault = state.fault(rule.reason)
    if signal.source is Source.DCGM and fault is not None and fault.sources != {Source.DCGM}:
        # The exporter repeats its last XID without end, so its report must not renew a fault of another source.
        return state
    record = updated_record(known, signal, rule, policy)
    others = [other for other in state.xids if (other.code, other.unit) != (signal.code, unit)]
    newest = sorted((*others, record), key=lambda entry: (entry.last_at, entry.code, entry.unit))[-MAX_XIDS:]
    state = replace(state, xids=tuple(newest))
    if not is_fault(rule.fault_class, record):
        return state
    evidence = Evidence(rule=rule, seen=signal.seen, source=signal.source, detail=rule.meaning, level=False)
    return _confirm_xid109(raise_fault(state, evidence, policy))


def _confirm_xid109(state: GpuState) -> GpuState:
    """Raises XID 109 to the class of its bucket while the driver's recovery action requests a reset."""
    asking = {recovery_action(number)[1] for number in ASKS_FOR_RESET}
    if not any(fault.rule.reason in asking and fault.good_since is None for fault in state.faults):
        return state
    faults = tuple(replace(fault, rule=if_reset_requested(fault.rule)) for fault in state.faults)
    return state if faults == state.faults else replace(state, faults=faults)


def _fold_recovery_action(state: GpuState, signal: RecoveryActionReport, policy: Policy) -> GpuState:
    """Raises a fault for the recovery action that XID 154 reports. A reading of NVML's field ends it.

    The driver does not always log XID 154, so the line itself ends a fault only if the field can't be read.
    """
    name, reason = recovery_action(signal.action_to)
    newest = state.action_logged_at
    if _is_read_since(state.reading, signal) or (newest is not None and signal.seen.at < newest):
        return state
    state = replace(state, action_logged_at=signal.seen.at)
    if state.reading is None or state.reading.recovery_action is None:
        state = _clear_requests(state, signal, reason)
    if reason is None:
        return state
    detail = f"the driver's recovery action is {signal.action_to} ({name})"
    return _confirm_xid109(_raise_level(state, signal, reason, detail, policy))


def _clear_requests(state: GpuState, signal: RecoveryActionReport, reason: Reason | None) -> GpuState:
    asked = {named for _, named in RECOVERY_ACTIONS.values()} | {"RecoveryUnknown"}
    faults = tuple(
        replace(fault, good_since=signal.seen.at)
        if fault.rule.reason in asked - {reason}
        and fault.good_since is None
        and fault.last_at < signal.seen.at
        else fault
        for fault in state.faults
    )
    state = replace(state, faults=faults)
    was_reset = signal.action_from in ASKS_FOR_RESET and reason is None
    return _mark_initialised(state, signal.seen.at) if was_reset else state


def _is_read_since(reading: Reading | None, signal: RecoveryActionReport) -> bool:
    return reading is not None and reading.recovery_action is not None and reading.seen.at >= signal.seen.at


def _fold_reading(state: GpuState, signal: Reading, policy: Policy) -> GpuState:
    if signal.source is Source.DCGM:
        return fold_dcgm_reading(state, signal, policy)
    if state.reading is not None and signal.seen.at <= state.reading.seen.at:
        return state
    match signal.status:
        case ReadStatus.OK:
            return _fold_ok_reading(state, signal, policy) if has_gpu_values(signal) else state
        case ReadStatus.LOST:
            return _raise_level(state, signal, "GpuLost", "the driver reports that the GPU is lost", policy)
        case ReadStatus.RESET_REQUIRED:
            return _raise_level(state, signal, "ResetRequired", signal.detail, policy)
        case ReadStatus.HUNG:
            return _raise_level(state, signal, "NvmlHung", signal.detail, policy)
        case ReadStatus.QUIESCED:
            return _fold_quiesced(state, signal.seen.at, policy)
        case ReadStatus.FAILED:
            return state
        case _:
            assert_never(signal.status)


def _fold_quiesced(state: GpuState, at: float, policy: Policy) -> GpuState:
    """`state` of a GPU that is not polled on purpose: the pause does not make a readable GPU Unknown."""
    if state.last_ok_at is None or at - state.last_ok_at >= policy.blind_seconds:
        return state
    return replace(
        exclude_unobserved_time(state, at - state.last_ok_at, until=at), last_ok_at=max(at, state.last_ok_at)
    )


def _fold_ok_reading(state: GpuState, signal: Reading, policy: Policy) -> GpuState:
    if state.last_ok_at is not None and signal.seen.at - state.last_ok_at >= policy.blind_seconds:
        state = exclude_unobserved_time(state, signal.seen.at - state.last_ok_at, until=signal.seen.at)
    before = last_instant_before_reset(state.reading, signal, state)
    if before is not None:
        state = _mark_initialised(state, before)
    state = _confirm_xid109(fold_ok_reading(state, signal, policy))
    return after_reset(settle_unconfirmed(state, signal, policy), policy)


def _mark_initialised(state: GpuState, at: float) -> GpuState:
    return replace(
        state, initialised_at=at if state.initialised_at is None else max(state.initialised_at, at)
    )


def _fold_identity(state: GpuState, at: float, policy: Policy) -> GpuState:
    """Folds a log line with the GPU's identity. The driver logs it at each initialisation, before the first XID.

    Only a repeated identity proves a new initialisation: the first one of a driver load can come long after a fault
    that was logged without an XID.
    """
    known, state = state.identified_at, with_identity_logged(state, at)
    return state if known is None or at <= known else after_reset(_mark_initialised(state, at), policy)


def _fold_init_failure(state: GpuState, signal: InitFailureReport, policy: Policy) -> GpuState:
    """Raises InitFailed, unless the GPU was read later: the driver reads only GPUs that it has initialised."""
    if state.reading is not None and state.reading.seen.at >= signal.seen.at:
        return state
    detail = "the kernel logged that the driver could not initialise the GPU"
    return _raise_level(state, signal, "InitFailed", detail, policy)


def _fold_presence(state: GpuState, signal: PresenceReport, policy: Policy) -> GpuState:
    state = with_fatal_errors(state, signal, policy)
    if not signal.present:
        return _raise_level(state, signal, "GpuLost", "the GPU is gone from the PCI bus", policy)
    if signal.config_space is ConfigSpace.ALL_ONES:
        return _raise_level(state, signal, "GpuLost", "the GPU's PCI config space reads all ones", policy)
    return state


def _raise_level(
    state: GpuState,
    signal: Reading | PresenceReport | OffBusReport | InitFailureReport | RecoveryActionReport,
    reason: str,
    detail: str,
    policy: Policy,
) -> GpuState:
    rule = LEVELS[Reason(reason)]
    evidence = Evidence(
        rule=rule, seen=signal.seen, source=signal.source, detail=detail or rule.meaning, level=True
    )
    return raise_fault(state, evidence, policy)
