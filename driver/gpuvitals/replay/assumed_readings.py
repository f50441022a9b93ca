"""NVML readings that a replay assumes if the log contains none. Pure.

A kernel log records faults and never the absence of faults; a live agent learns that from NVML. A replay therefore
assumes that a GPU is readable until it is judged failed, that its recovery action is the last one logged with XID 154,
and that it reads clean after a reset, after a boot, and after a driver load once the log shows that the GPU is in use.
See docs/adr/019-replay-room.md.
"""

from dataclasses import replace

from gpuvitals.health.clearing import after_restart
from gpuvitals.health.evaluate import evaluate
from gpuvitals.health.fault_classes import FaultClass
from gpuvitals.health.policy import Policy
from gpuvitals.health.state import GpuState
from gpuvitals.health.xid_rules import xid_rule
from gpuvitals.model.clock import Moment
from gpuvitals.model.signal import (
    GpuSignal,
    IdentityReport,
    Reading,
    ReadStatus,
    RecoveryActionReport,
    Source,
    XidReport,
)

_CLEANUPS = frozenset({43, 45})
_STEP_SECONDS = 1e-6
"""Offset between signals with equal time stamps, so that the fold keeps their order."""


def fold_signal(state: GpuState, signal: GpuSignal, policy: Policy, *, has_readings: bool) -> GpuState:
    """The state after the signal. Adds the assumed readings unless the log has readings of its own."""
    if has_readings:
        return evaluate(state, signal, policy)
    if isinstance(signal, RecoveryActionReport):
        if state.reading is None and signal.action_from != signal.action_to:
            before = replace(signal.seen, at=signal.seen.at - _STEP_SECONDS)
            state = evaluate(state, _reading(state, before, signal.action_from), policy)
        # A reading with the same time stamp would clear the request that the line reports.
        signal = replace(signal, seen=_after(state, signal.seen))
        state = evaluate(state, signal, policy)
        # Later than XIDs with the same time stamp: a reset repairs the faults before the last reading that requested it.
        after = replace(signal.seen, at=signal.seen.at + _STEP_SECONDS)
        return evaluate(state, _reading(state, after, signal.action_to), policy)
    state = evaluate(state, signal, policy)
    if isinstance(signal, IdentityReport):
        return evaluate(state, _reading(state, _after(state, signal.seen), 0), policy)
    return state


def after_node_restart(state: GpuState, seen: Moment, policy: Policy, *, assume_clean: bool) -> GpuState:
    """The state after a boot or driver load. All instants of a log are on one clock, so none is shifted."""
    state = after_restart(state, same_boot=True, same_driver_load=False, age_seconds=0.0)
    return evaluate(state, _reading(state, seen, 0), policy) if assume_clean else state


def shows_gpu_up(signal: GpuSignal) -> bool:
    """Whether the signal proves that the driver has initialised the GPU.

    An application XID names a process that uses the GPU, XID 154 with action 0 reports that no recovery is needed.
    XIDs 43 and 45 are cleanups and prove nothing.
    """
    match signal:
        case XidReport():
            is_work = signal.pid is not None and signal.code not in _CLEANUPS
            return is_work and xid_rule(signal).fault_class in (FaultClass.C, FaultClass.NONE)
        case IdentityReport():
            return True
        case RecoveryActionReport():
            return signal.action_to == 0
        case _:
            return False


def with_clean_reading(state: GpuState, seen: Moment, policy: Policy) -> GpuState:
    """The state of a GPU that the log shows in use after a driver load: it reads clean."""
    return evaluate(state, _reading(state, _after(state, seen), 0), policy)


def with_assumed_reading(state: GpuState, seen: Moment, policy: Policy) -> GpuState:
    """The state of a GPU that failed to initialise and is in use later. Its recovery action stays as last read."""
    asked = 0 if state.reading is None else state.reading.recovery_action or 0
    return evaluate(state, _reading(state, _after(state, seen), asked), policy)


def readable_at(state: GpuState, now: Moment) -> GpuState:
    """The state of a GPU that is readable at `now`. No value of the reading is assumed."""
    return replace(state, last_ok_at=now.at)


def _after(state: GpuState, seen: Moment) -> Moment:
    """An instant after the last reading: the fold ignores a second reading with the same time stamp."""
    if state.reading is None or state.reading.seen.at < seen.at:
        return seen
    return replace(seen, at=state.reading.seen.at + _STEP_SECONDS)


def _reading(state: GpuState, seen: Moment, recovery_action: int) -> Reading:
    return Reading(
        source=Source.NVML_POLL,
        seen=seen,
        uuid=state.uuid,
        status=ReadStatus.OK,
        recovery_action=recovery_action,
        ecc_uncorrected_volatile=0,
        remap_pending=False,
        remap_failed=False,
        sram_threshold_exceeded=False,
    )
