"""Folds the DCGM exporter's readings: a second witness, and the only readings while NVML can't be read.

They never clear a fault that NVML showed: the exporter's values are up to 30 s old, so a value from before the fault
would look like its end. They never isolate: the exporter is plain HTTP without authentication, so any process on its
port could report faults of every GPU. See docs/adr/034.
"""

from collections.abc import Collection
from dataclasses import replace

from gpuvitals.health.fault_classes import LEVELS, FaultClass, dcgm_only_rule
from gpuvitals.health.faults import Evidence, confirmed, raise_fault
from gpuvitals.health.fold_reading import bad_levels, has_gpu_values, start_clearing
from gpuvitals.health.isolation import isolation_limit
from gpuvitals.health.policy import Policy
from gpuvitals.health.state import GpuState
from gpuvitals.model.signal import Reading, ReadStatus, Source


def fold_dcgm_reading(state: GpuState, reading: Reading, policy: Policy) -> GpuState:
    """The state after a reading of DCGM. While NVML readings are recent, it is stored as a witness only."""
    known = state.dcgm_reading
    if known is not None and reading.seen.at <= known.seen.at:
        return state
    if reading.status is not ReadStatus.OK or not has_gpu_values(reading):
        return state
    state = replace(state, dcgm_reading=reading)
    own, at = state.reading, reading.seen.at
    if own is not None and at - own.seen.at < policy.blind_seconds:
        return state
    bad = dict(bad_levels(state, reading))
    for reason, detail in bad.items():
        evidence = Evidence(
            rule=dcgm_only_rule(LEVELS[reason]),
            seen=reading.seen,
            source=reading.source,
            detail=detail,
            level=True,
        )
        state = raise_fault(state, evidence, policy)
    faults = tuple(
        start_clearing(fault, reading, bad) if fault.sources == {Source.DCGM} else fault
        for fault in state.faults
    )
    return replace(state, faults=faults, last_ok_at=max(at, state.last_ok_at or at))


def drop_stale_dcgm_reading(state: GpuState, now: float, policy: Policy) -> GpuState:
    """`state` without a DCGM reading older than `dcgm_stale_seconds`."""
    known = state.dcgm_reading
    if known is None or now - known.seen.at < policy.dcgm_stale_seconds:
        return state
    return replace(state, dcgm_reading=None)


def dcgm_exceeds_isolation_cap(states: Collection[GpuState], policy: Policy) -> bool:
    """Whether the exporter alone reports faults on more GPUs than the isolation cap, which indicates a node fault."""
    count = sum(_has_dcgm_only_fault(state, policy) for state in states)
    return count > isolation_limit(len(states), policy)


def _has_dcgm_only_fault(state: GpuState, policy: Policy) -> bool:
    return any(
        fault.sources == {Source.DCGM}
        and fault.rule.fault_class is FaultClass.B0
        and confirmed(fault, policy)
        for fault in state.faults
    )
