"""Folds the DCGM exporter's readings of a GPU: a witness beside our own readings, and sight where those have gone blind.

They never heal a fault that we have read ourselves: the exporter repeats what it collected up to half a minute ago, and a value
from before a fault would look like its end. Nor do they isolate: the exporter is plain HTTP without authentication, so
a process that gets its port can accuse every GPU. See docs/adr/034.
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
    """The state after a reading of DCGM's. Where our own readings go on it only bears witness."""
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
    """`state` without a reading of DCGM's that is too old to be evidence of anything."""
    known = state.dcgm_reading
    if known is None or now - known.seen.at < policy.dcgm_stale_seconds:
        return state
    return replace(state, dcgm_reading=None)


def dcgm_exceeds_isolation_cap(states: Collection[GpuState], policy: Policy) -> bool:
    """Whether the exporter alone accuses more of a node's GPUs than the isolation cap: then the fault is the node's."""
    accused = sum(_is_accused_by_dcgm_alone(state, policy) for state in states)
    return accused > isolation_limit(len(states), policy)


def _is_accused_by_dcgm_alone(state: GpuState, policy: Policy) -> bool:
    return any(
        fault.sources == {Source.DCGM}
        and fault.rule.fault_class is FaultClass.B0
        and confirmed(fault, policy)
        for fault in state.faults
    )
