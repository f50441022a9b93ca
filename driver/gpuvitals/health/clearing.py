"""Ends faults by an observed reset, a new boot or driver load, or an operator's clear. Time alone ends none of them.

Probation follows if the fault had isolated the GPU.
"""

from dataclasses import replace

from gpuvitals.health.fault_classes import ASKS_FOR_RESET, Clearing
from gpuvitals.health.faults import End, end_faults
from gpuvitals.health.fold_reading import is_clean, shows_reset_need
from gpuvitals.health.policy import Policy
from gpuvitals.health.state import Ending, Fault, GpuState, Standing, XidRecord
from gpuvitals.health.witnesses import is_corroborated
from gpuvitals.model.ids import Reason
from gpuvitals.model.signal import ClearReport, Reading

_RESET_REQUIRED = Reason("ResetRequired")


def after_reset(state: GpuState, policy: Policy) -> GpuState:
    """`state` without the faults that an observed reset repaired: the GPU was initialised again and reads clean since.

    A reset repairs every earlier XID, including those that only degrade. Levels end by good readings.
    """
    reading, initialised = state.reading, state.initialised_at
    if reading is None or initialised is None or not is_clean(reading):
        return state
    until = min(initialised, reading.seen.at)
    repaired = tuple(
        fault
        for fault in state.faults
        if fault.rule.clearing in (Clearing.RESET, Clearing.EXPIRY) and fault.last_at < until
    )
    end = End(ending=Ending.RESET, at=max(initialised, reading.seen.at))
    state = end_faults(state, repaired, end, policy)
    return _resolved(state, until)


def last_instant_before_reset(before: Reading | None, after: Reading, state: GpuState) -> float | None:
    """The latest instant known to be before a reset that the two readings show; None if they show no reset.

    A reset shows when the driver requested one, or rejected the GPU until one, and does so no longer. Signals between the
    two readings may be from after the reset, so they are not repaired by it.

    A falling volatile error count is no sign of a reset: `nvidia-smi -p 0` and NVML's clear call zero it without a
    repair. Neither are falling link counters and a pending remap that disappears. See docs/adr/012.
    Source: NVIDIA/open-gpu-kernel-modules, kernel_rc.c and gpu.c; nvml.h, nvmlDeviceClearEccErrorCounts.
    """
    required = state.fault(_RESET_REQUIRED)
    if required is not None and required.good_since is None:
        return required.last_at
    if before is None or before.recovery_action not in ASKS_FOR_RESET or after.recovery_action != 0:
        return None
    return before.seen.at


def settle_unconfirmed(state: GpuState, reading: Reading, policy: Policy) -> GpuState:
    """Settles unconfirmed faults by a reading: XIDs from before the agent's start, and faults from before the boot.

    An early XID becomes CURRENT if the reading agrees with it, else it is dropped without history, since it may have been
    repaired before. A fault from before the boot ends by a clean reading, followed by probation.
    """
    if not shows_reset_need(reading):
        return state
    early = tuple(fault for fault in state.faults if fault.standing is Standing.BEFORE_START)
    state = _without_expired_early(_confirmed_or_dropped(state, early) if early else state)
    if not is_clean(reading):
        return state
    rebooted = tuple(fault for fault in state.faults if _ends_with_a_boot(fault))
    return end_faults(state, rebooted, End(ending=Ending.BOOT, at=reading.seen.at), policy)


def cleared(state: GpuState, order: ClearReport, policy: Policy) -> GpuState:
    """`state` after an operator's clear: every fault last seen before it ends, except reports that still stand.

    A level that is still bad is raised again by the next reading.
    """
    ended = tuple(
        fault
        for fault in state.faults
        if fault.last_at < order.seen.at and fault.rule.clearing is not Clearing.RETRACTED
    )
    end = End(ending=Ending.OPERATOR, at=order.seen.at, note=order.operator_reason)
    return _resolved(end_faults(state, ended, end, policy), order.seen.at)


def exclude_unobserved_time(state: GpuState, seconds: float, *, until: float) -> GpuState:
    """`state` after `seconds` without observation, up to `until`: they do not count towards flap_quiet_seconds."""
    if not any(fault.rule.clearing is Clearing.QUIET for fault in state.faults):
        return state
    faults = tuple(
        replace(fault, last_at=max(fault.last_at, min(fault.last_at + seconds, until)))
        if fault.rule.clearing is Clearing.QUIET
        else fault
        for fault in state.faults
    )
    return replace(state, faults=faults)


def after_restart(
    state: GpuState, *, same_boot: bool, same_driver_load: bool, age_seconds: float
) -> GpuState:
    """The stored state at the start of a new agent, `age_seconds` after it was stored.

    On the same boot and driver load the state is kept, and the time without an agent does not make the GPU Unknown. After
    a new boot or driver load every fault is BEFORE_BOOT until a clean reading. Instants of an earlier boot are shifted
    onto the new boot's clock and become negative.
    """
    if same_boot and same_driver_load:
        seen_at = None if state.last_ok_at is None else state.last_ok_at + age_seconds
        return exclude_unobserved_time(
            replace(state, last_ok_at=seen_at), age_seconds, until=_newest(state) + age_seconds
        )
    now = _newest(state) + age_seconds
    state = exclude_unobserved_time(state, age_seconds, until=now)
    state = state if same_boot else _shifted(state, now)
    return replace(
        state,
        faults=tuple(replace(fault, standing=Standing.BEFORE_BOOT) for fault in state.faults),
        reading=None,
        dcgm_reading=None,
        checkup=None,
        pcie_fatal_errors=None,
        last_ok_at=None,
        initialised_at=state.initialised_at if same_boot else 0.0,
        identified_at=None,
        action_logged_at=None,
        links_down=None,
        memory_percent=None,
        margin_millicelsius=None,
        heat_step=0,
    )


def _confirmed_or_dropped(state: GpuState, early: tuple[Fault, ...]) -> GpuState:
    corroborated = {fault.rule.reason for fault in early if is_corroborated(state, fault)}
    dropped = {fault.rule.reason for fault in early} - corroborated
    settled = max(fault.last_at for fault in early)
    return replace(
        state,
        settled_early=settled if state.settled_early is None else max(settled, state.settled_early),
        faults=tuple(
            replace(fault, standing=Standing.CURRENT) if fault.rule.reason in corroborated else fault
            for fault in state.faults
            if fault.rule.reason not in dropped
        ),
        xids=tuple(
            replace(record, resolved=record.resolved or record.rule.reason in dropped)
            for record in state.xids
        ),
    )


def _without_expired_early(state: GpuState) -> GpuState:
    """Resolves early XIDs whose fault expired before the first reading."""
    xids = tuple(
        replace(record, resolved=True)
        if record.counted_at is not None
        and record.last_at < state.started_at
        and state.fault(record.rule.reason) is None
        else record
        for record in state.xids
    )
    return state if xids == state.xids else replace(state, xids=xids)


def _ends_with_a_boot(fault: Fault) -> bool:
    return fault.standing is Standing.BEFORE_BOOT and fault.rule.clearing not in (
        Clearing.OPERATOR,
        Clearing.QUIET,
        Clearing.RETRACTED,
    )


def _resolved(state: GpuState, until: float) -> GpuState:
    """Resolves every XID from before `until`, and ignores earlier signals that arrive later."""
    if state.resolved_until is not None and until <= state.resolved_until:
        return state
    xids = tuple(replace(record, resolved=record.resolved or record.last_at < until) for record in state.xids)
    return replace(state, resolved_until=until, xids=xids)


def _newest(state: GpuState) -> float:
    """The latest instant in the state: after a shift to the next boot none may be in the future."""
    known = (
        state.started_at,
        state.last_ok_at,
        state.initialised_at,
        state.resolved_until,
        state.repaired_at,
    )
    instants = [at for at in known if at is not None]
    instants += [fault.last_at for fault in state.faults]
    instants += [record.last_at for record in state.xids]
    instants += [entry.ended_at for entry in state.past]
    return max(instants)


def _shifted(state: GpuState, shift: float) -> GpuState:
    """`state` with every instant moved back by `shift` seconds."""
    return replace(
        state,
        started_at=state.started_at - shift,
        faults=tuple(_shifted_fault(fault, shift) for fault in state.faults),
        xids=tuple(_shifted_xid(record, shift) for record in state.xids),
        resolved_until=_moved(state.resolved_until, shift),
        settled_early=_moved(state.settled_early, shift),
        suspect_since=_moved(state.suspect_since, shift),
        suspect_runs=tuple(start - shift for start in state.suspect_runs),
        remapped_at=_moved(state.remapped_at, shift),
        probation_until=_moved(state.probation_until, shift),
        repaired_at=_moved(state.repaired_at, shift),
        repairs=tuple(at - shift for at in state.repairs),
        past=tuple(
            replace(entry, first_at=entry.first_at - shift, ended_at=entry.ended_at - shift)
            for entry in state.past
        ),
    )


def _shifted_fault(fault: Fault, shift: float) -> Fault:
    return replace(
        fault,
        first_at=fault.first_at - shift,
        last_at=fault.last_at - shift,
        episodes=tuple(start - shift for start in fault.episodes),
        reports=tuple(start - shift for start in fault.reports),
        run_since=_moved(fault.run_since, shift),
        good_since=_moved(fault.good_since, shift),
    )


def _shifted_xid(record: XidRecord, shift: float) -> XidRecord:
    return replace(
        record,
        episode_at=record.episode_at - shift,
        last_at=record.last_at - shift,
        counted_at=_moved(record.counted_at, shift),
        meetings=tuple(replace(meeting, at=meeting.at - shift) for meeting in record.meetings),
    )


def _moved(at: float | None, shift: float) -> float | None:
    return None if at is None else at - shift
