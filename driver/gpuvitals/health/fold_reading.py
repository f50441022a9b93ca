"""Folds the values of one good reading: raises the levels that are bad and starts to clear those that are good."""

from collections.abc import Iterator
from dataclasses import replace

from gpuvitals.health.fault_classes import LEVELS, Clearing, recovery_action
from gpuvitals.health.faults import Evidence, raise_fault
from gpuvitals.health.fold_checkup import CHECKED_LEVELS
from gpuvitals.health.policy import Policy
from gpuvitals.health.state import Fault, GpuState, Worst
from gpuvitals.model.ids import Reason
from gpuvitals.model.signal import FabricState, LinkState, Reading


def fold_ok_reading(state: GpuState, reading: Reading, policy: Policy) -> GpuState:
    """The state after a reading with status OK, newer than the one before."""
    state = _with_remaps(_with_learned_links(state, reading), reading)
    bad = dict(bad_levels(state, reading))
    for reason, detail in bad.items():
        evidence = Evidence(
            rule=LEVELS[reason], seen=reading.seen, source=reading.source, detail=detail, level=True
        )
        state = raise_fault(state, evidence, policy)
    faults = tuple(start_clearing(fault, reading, bad) for fault in state.faults)
    margin, step = _heat(state, reading, policy)
    at = reading.seen.at
    return replace(
        state,
        faults=faults,
        reading=reading,
        last_ok_at=at,
        links_down=_worst_recent(state.links_down, _known_links_down(state, reading), at, policy),
        memory_percent=_worst_recent(state.memory_percent, _memory_percent(reading), at, policy),
        ecc_uncorrected=_worst_recent(state.ecc_uncorrected, reading.ecc_uncorrected_volatile, at, policy),
        margin_millicelsius=margin,
        heat_step=step,
    )


def has_gpu_values(reading: Reading) -> bool:
    """Whether the reading has at least one value of the GPU itself; without one it is no evidence."""
    values = (
        reading.recovery_action,
        reading.ecc_uncorrected_volatile,
        reading.remap_pending,
        reading.remap_failed,
        reading.sram_threshold_exceeded,
        reading.thermal_margin_celsius,
        reading.hardware_slowdown,
    )
    return any(value is not None for value in values)


def shows_reset_need(reading: Reading) -> bool:
    """Whether the reading shows if a reset is needed: at least one of the two values that a reset zeroes was read.

    The other value may be missing only if the model does not support it.
    """
    reset_values = {
        "recovery_action": reading.recovery_action,
        "ecc_uncorrected_volatile": reading.ecc_uncorrected_volatile,
    }
    unread = {name for name, value in reset_values.items() if value is None}
    return len(unread) < len(reset_values) and unread <= reading.unsupported


def is_clean(reading: Reading) -> bool:
    """Whether the reading shows no reason for a reset: no recovery action, no uncorrected error, no remap."""
    bad = (
        reading.recovery_action,
        reading.ecc_uncorrected_volatile,
        reading.remap_pending,
        reading.remap_failed,
        reading.sram_threshold_exceeded,
    )
    return shows_reset_need(reading) and not any(bad)


def active_links(reading: Reading) -> int:
    """The number of working links. Sleep is a healthy power state."""
    return sum(link in (LinkState.ACTIVE, LinkState.SLEEP) for link in reading.links or ())


def unknown_links(reading: Reading) -> int:
    """The number of links in a state unknown to this version: neither up nor down."""
    return sum(link is LinkState.UNKNOWN for link in reading.links or ())


def bad_levels(state: GpuState, reading: Reading) -> Iterator[tuple[Reason, str]]:
    """The reasons of the levels that the reading shows bad, each with a text for operators."""
    if reading.recovery_action is not None:
        name, reason = recovery_action(reading.recovery_action)
        if reason is not None:
            yield reason, f"the driver's recovery action is {reading.recovery_action} ({name})"
    for named, is_bad in (
        ("RowRemapFailed", reading.remap_failed),
        ("SramThreshold", reading.sram_threshold_exceeded),
        ("RowRemapPending", reading.remap_pending),
        # The text has no count: a rising counter must not change the verdict's message.
        ("EccUncorrected", reading.ecc_uncorrected_volatile),
        ("HardwareSlowdown", reading.hardware_slowdown),
        ("FabricFailed", reading.fabric is FabricState.FAILED),
        ("FabricDegraded", reading.fabric is FabricState.DEGRADED),
    ):
        if is_bad:
            yield Reason(named), LEVELS[Reason(named)].meaning
    yield from _bad_links(state, reading)


def _bad_links(state: GpuState, reading: Reading) -> Iterator[tuple[Reason, str]]:
    down = _links_down(state, reading)
    if not down or not state.expected_links:
        return
    text = f"{down} of {state.expected_links} NVLinks down"
    # Also the lesser level, so that it keeps its start time when half of the links come back.
    yield Reason("NvlinkDegraded"), text
    if 2 * down > state.expected_links:
        yield Reason("NvlinkDown"), text


def start_clearing(fault: Fault, reading: Reading, bad: dict[Reason, str]) -> Fault:
    """Starts the clearing time of a level that reads good. A level that could not be read is unchanged."""
    if fault.rule.clearing is not Clearing.LEVEL or fault.rule.reason in bad or fault.good_since is not None:
        return fault
    if not _readable(fault.rule.reason, reading):
        return fault
    return replace(fault, good_since=reading.seen.at)


def _readable(reason: Reason, reading: Reading) -> bool:
    links = None if unknown_links(reading) else reading.links
    values: dict[str, object | None] = {
        "NvlinkDown": links,
        "NvlinkDegraded": links,
        "FabricFailed": reading.fabric,
        "FabricDegraded": reading.fabric,
        "RowRemapPending": reading.remap_pending,
        "RowRemapFailed": reading.remap_failed,
        "EccUncorrected": reading.ecc_uncorrected_volatile,
        "HardwareSlowdown": reading.hardware_slowdown,
        "NvmlHung": True,
        # The driver returns readings only for GPUs that it has initialised.
        "InitFailed": True,
        # Only checkups read these.
        **dict.fromkeys(CHECKED_LEVELS),
    }
    return values.get(reason, reading.recovery_action) is not None


def _with_learned_links(state: GpuState, reading: Reading) -> GpuState:
    """Raises the expected links to the most active links ever read, which the driver itself does not report."""
    if reading.links is None:
        return state
    return replace(state, expected_links=max(state.expected_links or 0, active_links(reading)))


def _links_down(state: GpuState, reading: Reading) -> int | None:
    """The least number of links that are down, None if no link could be read."""
    if reading.links is None or not state.expected_links:
        return None
    return max(0, state.expected_links - active_links(reading) - unknown_links(reading))


def _known_links_down(state: GpuState, reading: Reading) -> int | None:
    """The links down for the score. A reading with unknown links can raise the number, but not lower it."""
    down, before = _links_down(state, reading), state.links_down
    if down is None or not unknown_links(reading):
        return down
    return down if down > (0 if before is None else before.value) else None


def _memory_percent(reading: Reading) -> int | None:
    """The weight of the memory in the score, in percent: the worst of the values read, None if none was."""
    weights = (
        (reading.remap_failed, 100),
        (reading.banks_without_spare, 75),
        (reading.ecc_uncorrected_volatile, 60),
        (reading.remap_pending, 50),
    )
    read = [weight if value else 0 for value, weight in weights if value is not None]
    return max(read, default=None)


def _worst_recent(before: Worst | None, value: int | None, at: float, policy: Policy) -> Worst | None:
    """The worst recent value. It improves only after better readings for `level_clear_seconds`, like a level's fault."""
    if before is None or value is None:
        return before if value is None else Worst(value=value, since=at, at=at)
    if value < before.value:
        if before.better_since is None:
            return replace(before, better_since=at)
        if at - before.better_since < policy.level_clear_seconds:
            return before
    since = before.since if before.value > 0 and value > 0 else at
    return Worst(value=value, since=since, at=at)


def _with_remaps(state: GpuState, reading: Reading) -> GpuState:
    """Records when the count of remapped rows grew. The first reading gives no time, since the age of its rows is unknown."""
    rows = reading.remapped_uncorrectable
    if rows is None or rows == state.remapped_rows:
        return state
    grew = state.remapped_rows is not None and rows > state.remapped_rows
    return replace(state, remapped_rows=rows, remapped_at=reading.seen.at if grew else state.remapped_at)


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
    step = _heat_step(margin, policy)
    if step < state.heat_step:
        # Hysteresis: a margin close to a threshold must not change the score repeatedly.
        step = min(state.heat_step, _heat_step(margin - policy.thermal_hysteresis_celsius * 1000, policy))
    return margin, step


def _heat_step(margin_millicelsius: int, policy: Policy) -> int:
    if margin_millicelsius <= 0:
        return 2
    return 0 if margin_millicelsius >= policy.thermal_start_celsius * 1000 else 1
