"""Folds the values of one good reading: which levels are bad now, and which are good again."""

from collections.abc import Iterator
from dataclasses import replace

from gpuvitals.health.fault_classes import LEVELS, RECOVERY_ACTIONS, Clearing
from gpuvitals.health.faults import Evidence, raise_fault
from gpuvitals.health.policy import Policy
from gpuvitals.health.state import Fault, GpuState
from gpuvitals.model.ids import Reason
from gpuvitals.model.signal import FabricState, LinkState, Reading

_HYSTERESIS_MILLICELSIUS = 2000


def fold_levels(state: GpuState, reading: Reading, policy: Policy) -> GpuState:
    """The state after a reading with status OK, newer than the one before."""
    state = _learned(state, reading)
    bad = dict(_bad_levels(state, reading))
    for reason, detail in bad.items():
        evidence = Evidence(
            rule=LEVELS[reason], seen=reading.seen, source=reading.source, detail=detail, level=True
        )
        state = raise_fault(state, evidence, policy)
    faults = tuple(_eased(fault, reading, bad) for fault in state.faults)
    margin, step = _heat(state, reading, policy)
    return replace(
        state,
        faults=faults,
        reading=reading,
        last_ok_at=reading.seen.at,
        margin_millicelsius=margin,
        heat_step=step,
    )


def is_clean(reading: Reading) -> bool:
    """Whether nothing in the reading asks for a reset: no recovery action, no volatile uncorrected error, no remap."""
    return (
        reading.recovery_action in (0, None)
        and reading.ecc_uncorrected_volatile in (0, None)
        and not reading.remap_pending
        and not reading.remap_failed
        and not reading.sram_threshold_exceeded
    )


def active_links(reading: Reading) -> int:
    """Links that work; sleep is a healthy power state."""
    return sum(link is not LinkState.INACTIVE for link in reading.links or ())


def _bad_levels(state: GpuState, reading: Reading) -> Iterator[tuple[Reason, str]]:
    action = reading.recovery_action
    if action is not None:
        name, reason = RECOVERY_ACTIONS.get(action, (f"number {action}", "RecoveryUnknown"))
        if reason is not None:
            yield Reason(reason), f"the driver's recovery action is {name}"
    if reading.remap_failed:
        yield Reason("RowRemapFailed"), LEVELS[Reason("RowRemapFailed")].meaning
    if reading.sram_threshold_exceeded:
        yield Reason("SramThreshold"), LEVELS[Reason("SramThreshold")].meaning
    if reading.remap_pending:
        yield Reason("RowRemapPending"), LEVELS[Reason("RowRemapPending")].meaning
    if reading.ecc_uncorrected_volatile:
        # The count stays out of the text: a rising counter must not look like a change of the verdict.
        yield Reason("EccUncorrected"), LEVELS[Reason("EccUncorrected")].meaning
    if reading.hardware_slowdown:
        yield Reason("HardwareSlowdown"), LEVELS[Reason("HardwareSlowdown")].meaning
    if reading.fabric is FabricState.FAILED:
        yield Reason("FabricFailed"), LEVELS[Reason("FabricFailed")].meaning
    yield from _bad_links(state, reading)


def _bad_links(state: GpuState, reading: Reading) -> Iterator[tuple[Reason, str]]:
    if reading.links is None or not state.expected_links:
        return
    down = state.expected_links - active_links(reading)
    if down <= 0:
        return
    reason = "NvlinkDown" if 2 * down > state.expected_links else "NvlinkDegraded"
    yield Reason(reason), f"{down} of {state.expected_links} NVLinks down"


def _eased(fault: Fault, reading: Reading, bad: dict[Reason, str]) -> Fault:
    """A level that reads good starts its hold-down; a level that could not be read stays as it is."""
    if fault.rule.clearing is not Clearing.LEVEL or fault.rule.reason in bad or fault.good_since is not None:
        return fault
    if not _readable(fault.rule.reason, reading):
        return fault
    return replace(fault, good_since=reading.seen.at)


def _readable(reason: Reason, reading: Reading) -> bool:
    values: dict[str, object | None] = {
        "NvlinkDown": reading.links,
        "NvlinkDegraded": reading.links,
        "FabricFailed": reading.fabric,
        "RowRemapPending": reading.remap_pending,
        "EccUncorrected": reading.ecc_uncorrected_volatile,
        "HardwareSlowdown": reading.hardware_slowdown,
        "NvmlHung": True,
    }
    return values.get(reason, reading.recovery_action) is not None


def _learned(state: GpuState, reading: Reading) -> GpuState:
    """Without a table entry, the most links ever seen active are what the model has."""
    if state.expected_links is not None or reading.links is None:
        return state
    return replace(state, expected_links=active_links(reading))


def _heat(state: GpuState, reading: Reading, policy: Policy) -> tuple[int | None, int]:
    """The smoothed margin in thousandths of a degree, and its step: 0 cool, 1 warm, 2 at the slowdown point."""
    if reading.thermal_margin_celsius is None:
        return state.margin_millicelsius, state.heat_step
    sample = reading.thermal_margin_celsius * 1000
    before = state.margin_millicelsius
    if before is None or state.reading is None:
        margin = sample
    else:
        elapsed = min(reading.seen.at - state.reading.seen.at, policy.thermal_window_seconds)
        margin = before + round((sample - before) * elapsed / policy.thermal_window_seconds)
    warm = policy.thermal_start_celsius * 1000
    step = 0 if margin >= warm else 1 if margin > 0 else 2
    if step < state.heat_step:
        eased = margin - _HYSTERESIS_MILLICELSIUS
        step = min(state.heat_step, 0 if eased >= warm else 1 if eased > 0 else 2)
    return margin, step
