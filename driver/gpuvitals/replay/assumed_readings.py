"""What is presumed of a GPU where the log has no reading of it: nothing but what a driver that works would show. Pure.

A kernel log says what went wrong, never that all is well; the agent has NVML for that. So a GPU can be read as long as
it is not judged failed, its recovery action is what XID 154 last said, and what was initialised anew (by a reset or a boot,
or by a driver load after which the log shows it at work) read clean after it. See docs/adr/019-replay-room.md.
"""

from dataclasses import replace

from gpuvitals.health.clearing import after_restart
from gpuvitals.health.evaluate import evaluate
from gpuvitals.health.fault_classes import FaultClass, xid_rule
from gpuvitals.health.policy import Policy
from gpuvitals.health.state import GpuState
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
"""Between signals of one instant that are folded in their order."""


def folded(state: GpuState, signal: GpuSignal, policy: Policy, *, is_read: bool) -> GpuState:
    """The state after the signal and, unless the log has readings of its own, those that it lets presume."""
    if is_read:
        return evaluate(state, signal, policy)
    if isinstance(signal, RecoveryActionReport):
        if state.reading is None and signal.action_from != signal.action_to:
            before = replace(signal.seen, at=signal.seen.at - _STEP_SECONDS)
            state = evaluate(state, _reading(state, before, signal.action_from), policy)
        # A reading of the same instant would settle what the line asks for.
        signal = replace(signal, seen=_after(state, signal.seen))
        state = evaluate(state, signal, policy)
        # Later than the XIDs of the same instant, since a reset repairs what came before the last reading that asked for it.
        after = replace(signal.seen, at=signal.seen.at + _STEP_SECONDS)
        return evaluate(state, _reading(state, after, signal.action_to), policy)
    state = evaluate(state, signal, policy)
    if isinstance(signal, IdentityReport):
        return evaluate(state, _reading(state, _after(state, signal.seen), 0), policy)
    return state


def begun_anew(state: GpuState, seen: Moment, policy: Policy, *, is_presumed: bool) -> GpuState:
    """The state after a boot or driver load: the instants of a log are on one clock, so that none of them moves."""
    state = after_restart(state, same_boot=True, same_driver_load=False, age_seconds=0.0)
    return evaluate(state, _reading(state, seen, 0), policy) if is_presumed else state


def shows_work(signal: GpuSignal) -> bool:
    """Whether the signal shows that the driver has brought the GPU up: it works, or the driver asks for nothing.

    An application's XID names the process that worked with the GPU. XIDs 43 and 45 are cleanups and show nothing.
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


def come_up(state: GpuState, seen: Moment, policy: Policy) -> GpuState:
    """The state of a GPU that the log shows at work after a driver load."""
    return evaluate(state, _reading(state, _after(state, seen), 0), policy)


def at_work(state: GpuState, seen: Moment, policy: Policy) -> GpuState:
    """The state of a GPU that did not come up at first and that the log shows at work: whoever works has come up."""
    asked = 0 if state.reading is None else state.reading.recovery_action or 0
    return evaluate(state, _reading(state, _after(state, seen), asked), policy)


def seen_now(state: GpuState, now: Moment) -> GpuState:
    """The state of a GPU that can be read, which says nothing of what the reading would show."""
    return replace(state, last_ok_at=now.at)


def _after(state: GpuState, seen: Moment) -> Moment:
    """The fold takes no second reading of one instant; stamps of a log are often the same."""
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
