"""Folds one signal, or the passing of time, into the state of one GPU.

The fold is idempotent, and a lesser event never ends a greater one. Nothing heals by being forgotten: see `advance`
and `_observed_reset` for the only ways out.
"""

from dataclasses import replace

from gpuvitals.health.fault_classes import LEVELS, Clearing, FaultClass, xid_rule
from gpuvitals.health.faults import Evidence, end_faults, raise_fault
from gpuvitals.health.levels import fold_levels, is_clean
from gpuvitals.health.policy import Policy
from gpuvitals.health.state import MAX_XIDS, Fault, GpuState, Standing, XidRecord
from gpuvitals.model.ids import Reason
from gpuvitals.model.signal import (
    ClearReport,
    ConfigSpace,
    GpuSignal,
    IdentityReport,
    OffBusReport,
    PresenceReport,
    Reading,
    ReadStatus,
    RecoveryActionReport,
    Source,
    XidReport,
)


def evaluate(state: GpuState, signal: GpuSignal, policy: Policy) -> GpuState:
    """The state after `signal`, which concerns this GPU. Folding the same signal again changes nothing."""
    match signal:
        case XidReport():
            return _xid(state, signal, policy)
        case Reading():
            return _reading(state, signal, policy)
        case OffBusReport():
            return _lost(state, signal, "the kernel logged that the GPU has fallen off the bus", policy)
        case PresenceReport():
            return _presence(state, signal, policy)
        case IdentityReport():
            at = max(state.identity_at or signal.seen.at, signal.seen.at)
            return _observed_reset(replace(state, identity_at=at), policy)
        case RecoveryActionReport():
            # The driver may leave out the line that clears: only a reading of the field decides the level.
            return state
        case ClearReport():
            cleared = end_faults(state, state.faults, signal.seen.at, policy)
            return replace(cleared, xids=tuple(replace(record, resolved=True) for record in cleared.xids))


def advance(state: GpuState, now: float, policy: Policy) -> GpuState:
    """The state after time has passed until `now`: levels that stayed good end, counts run out, probation ends."""
    held = tuple(
        fault
        for fault in state.faults
        if fault.rule.clearing is Clearing.LEVEL
        and fault.good_since is not None
        and now - fault.good_since >= policy.level_clear_seconds
    )
    state = end_faults(state, held, now, policy)
    expired = tuple(
        fault
        for fault in state.faults
        if fault.rule.clearing is Clearing.EXPIRY and now - fault.last_at >= policy.xid_count_seconds
    )
    state = end_faults(state, expired, now, policy)
    xids = tuple(record for record in state.xids if now - record.last_at < policy.xid_memory_seconds)
    if xids != state.xids:
        state = replace(state, xids=xids)
    if state.probation_until is not None and now >= state.probation_until:
        state = replace(state, probation_until=None)
    return state


def after_restart(
    state: GpuState, *, same_boot: bool, same_driver_load: bool, age_seconds: float
) -> GpuState:
    """The stored state as a new agent takes it up. `age_seconds` is the wall time since it was stored, on a new boot.

    On the same boot and driver load everything stands. After a new boot or driver load every fault stands until clean
    readings disprove it; its instants are moved onto the new boot's clock, before its zero.
    """
    if same_boot and same_driver_load:
        return state
    shift = 0.0 if same_boot else _newest(state) + age_seconds
    faults = tuple(replace(_shifted(fault, shift), standing=Standing.BEFORE_BOOT) for fault in state.faults)
    return replace(
        state,
        started_at=state.started_at - shift,
        faults=faults,
        xids=tuple(replace(record, last_at=record.last_at - shift) for record in state.xids),
        reading=None,
        last_ok_at=None,
        identity_at=None,
        margin_millicelsius=None,
        heat_step=0,
        probation_until=None if state.probation_until is None else state.probation_until - shift,
        repaired_at=None if state.repaired_at is None else state.repaired_at - shift,
    )


def _xid(state: GpuState, signal: XidReport, policy: Policy) -> GpuState:
    rule = xid_rule(signal)
    if rule.fault_class is FaultClass.NONE:
        return state
    unit = "" if signal.gpu_instance is None else f"GI{signal.gpu_instance}"
    known = next((record for record in state.xids if (record.code, record.unit) == (signal.code, unit)), None)
    if known is not None and _is_echo(known, signal, policy):
        return state
    claims = (known.claims if known is not None else frozenset()) | (
        {signal.claim} if signal.claim else set()
    )
    record = XidRecord(
        code=signal.code,
        unit=unit,
        rule=rule,
        last_at=max(signal.seen.at, known.last_at if known else signal.seen.at),
        last_time=max(signal.seen.time, known.last_time if known else signal.seen.time),
        claims=frozenset(sorted(claims)[:4]),
        resolved=False,
    )
    others = [other for other in state.xids if (other.code, other.unit) != (signal.code, unit)]
    newest = sorted((*others, record), key=lambda entry: (entry.last_at, entry.code, entry.unit))[-MAX_XIDS:]
    state = replace(state, xids=tuple(newest))
    if rule.fault_class is FaultClass.C and len(record.claims) < 2:
        return state
    evidence = Evidence(rule=rule, seen=signal.seen, source=signal.source, detail=rule.meaning, level=False)
    return raise_fault(state, evidence, policy)


def _is_echo(known: XidRecord, signal: XidReport, policy: Policy) -> bool:
    """An NVML event of an XID is the kernel's own report arriving a second way; it adds nothing."""
    near = abs(signal.seen.at - known.last_at) <= policy.same_report_seconds
    return signal.source is Source.NVML_EVENT and near


def _reading(state: GpuState, signal: Reading, policy: Policy) -> GpuState:
    if state.reading is not None and signal.seen.at <= state.reading.seen.at:
        return state
    match signal.status:
        case ReadStatus.OK:
            state = fold_levels(state, signal, policy)
            if is_clean(signal):
                state = _disproved(state, signal, policy)
            return _observed_reset(state, policy)
        case ReadStatus.LOST:
            return _lost(state, signal, "the driver says that the GPU is lost", policy)
        case ReadStatus.RESET_REQUIRED:
            return _level(state, signal, "ResetRequired", policy)
        case ReadStatus.HUNG:
            return _level(state, signal, "NvmlHung", policy)
        case ReadStatus.FAILED:
            return state


def _presence(state: GpuState, signal: PresenceReport, policy: Policy) -> GpuState:
    if not signal.present:
        return _lost(state, signal, "the GPU is gone from the PCI bus", policy)
    if signal.config_space is ConfigSpace.ALL_ONES:
        return _lost(state, signal, "the GPU's PCI config space reads all ones", policy)
    return state


def _lost(
    state: GpuState, signal: Reading | PresenceReport | OffBusReport, detail: str, policy: Policy
) -> GpuState:
    rule = LEVELS[Reason("GpuLost")]
    evidence = Evidence(rule=rule, seen=signal.seen, source=signal.source, detail=detail, level=True)
    return raise_fault(state, evidence, policy)


def _level(state: GpuState, signal: Reading, reason: str, policy: Policy) -> GpuState:
    rule = LEVELS[Reason(reason)]
    detail = signal.detail or rule.meaning
    evidence = Evidence(rule=rule, seen=signal.seen, source=signal.source, detail=detail, level=True)
    return raise_fault(state, evidence, policy)


def _disproved(state: GpuState, signal: Reading, policy: Policy) -> GpuState:
    """A clean reading ends what stood only for lack of one: faults from before the boot, and from before our start."""
    stale = tuple(fault for fault in state.faults if fault.standing is Standing.BEFORE_START)
    for fault in stale:
        others = tuple(other for other in state.faults if other is not fault)
        xids = tuple(
            replace(record, resolved=True) if record.rule.reason == fault.rule.reason else record
            for record in state.xids
        )
        state = replace(state, faults=others, xids=xids)
    rebooted = tuple(
        fault
        for fault in state.faults
        if fault.standing is Standing.BEFORE_BOOT and fault.rule.clearing is not Clearing.OPERATOR
    )
    return end_faults(state, rebooted, signal.seen.at, policy)


def _observed_reset(state: GpuState, policy: Policy) -> GpuState:
    """Ends the reset-class faults that a reset has repaired: the GPU logged its identity anew and reads clean since."""
    reading, identity = state.reading, state.identity_at
    if reading is None or identity is None or not is_clean(reading):
        return state
    repaired = tuple(
        fault
        for fault in state.faults
        if fault.rule.clearing is Clearing.RESET and fault.last_at < min(identity, reading.seen.at)
    )
    return end_faults(state, repaired, max(identity, reading.seen.at), policy)


def _newest(state: GpuState) -> float:
    instants = [state.started_at, state.last_ok_at or 0.0]
    instants += [fault.last_at for fault in state.faults]
    instants += [record.last_at for record in state.xids]
    return max(instants)


def _shifted(fault: Fault, shift: float) -> Fault:
    return replace(
        fault,
        first_at=fault.first_at - shift,
        last_at=fault.last_at - shift,
        episodes=tuple(start - shift for start in fault.episodes),
        good_since=None if fault.good_since is None else fault.good_since - shift,
    )
