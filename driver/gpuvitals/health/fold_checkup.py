"""Folds checkups, which read wear and error counters once a minute. Every fault here only degrades the GPU.

Rates are computed between two checkups. A level shows after two bad checkups in a row.
"""

from collections.abc import Iterator
from dataclasses import replace

from gpuvitals.health.fault_classes import LEVELS, Clearing
from gpuvitals.health.faults import Evidence, raise_fault
from gpuvitals.health.policy import Policy
from gpuvitals.health.state import Fault, GpuState
from gpuvitals.model.ids import Reason
from gpuvitals.model.signal import Checkup, PresenceReport

CHECKED_LEVELS = frozenset(
    Reason(name)
    for name in (
        "NvlinkErrors",
        "PageRetirementPending",
        "PagesRetired",
        "RepairPending",
        "MemoryUnrepairable",
        "PcieDegraded",
        "PcieReplays",
    )
)
"""The levels that only a checkup reads."""

_PCIE_ERRORS = Reason("PcieErrors")
_FIRST_GENERATION = 3
"""The oldest PCIe generation with a known replay limit."""

_NEEDS: dict[str, tuple[str, ...]] = {
    "NvlinkErrors": ("link_replays", "link_recoveries", "link_recoveries_failed", "link_errors_per_petabit"),
    "PageRetirementPending": ("page_retirement_pending",),
    "PagesRetired": ("retired_pages",),
    "RepairPending": ("repair_pending",),
    "MemoryUnrepairable": ("memory_unrepairable",),
    "PcieDegraded": ("pcie_lanes", "pcie_lanes_max"),
    "PcieReplays": ("pcie_replays",),
}
"""The values that show a level as good; at least one of them has to be read to clear it."""


def fold_checkup(state: GpuState, checkup: Checkup, policy: Policy) -> GpuState:
    """The state after a checkup, newer than the one before."""
    before = state.checkup
    if before is not None and checkup.seen.at <= before.seen.at:
        return state
    bad = dict(_bad_levels(before, checkup, policy))
    for reason, detail in bad.items():
        state = raise_fault(state, _evidence(reason, checkup, detail, level=True), policy)
    if before is not None and growth(before.pcie_fatal_errors, checkup.pcie_fatal_errors):
        state = raise_fault(
            state, _evidence(_PCIE_ERRORS, checkup, LEVELS[_PCIE_ERRORS].meaning, level=False), policy
        )
    faults = tuple(_start_clearing(fault, checkup, bad) for fault in state.faults)
    return replace(state, faults=faults, checkup=checkup)


def with_fatal_errors(state: GpuState, report: PresenceReport, policy: Policy) -> GpuState:
    """The state after the kernel's count of fatal errors. The first count raises no fault, since its errors can be old."""
    counted = report.fatal_errors
    if counted is None or counted == state.pcie_fatal_errors:
        return state
    grew = growth(state.pcie_fatal_errors, counted)
    state = replace(state, pcie_fatal_errors=counted)
    if not grew:
        return state
    return raise_fault(
        state, _evidence(_PCIE_ERRORS, report, LEVELS[_PCIE_ERRORS].meaning, level=False), policy
    )


def growth(before: int | None, after: int | None) -> int:
    """The growth of a counter; 0 if it fell, which means that it was reset."""
    if before is None or after is None:
        return 0
    return max(0, after - before)


def replay_limit(lanes: int, generation: int, policy: Policy) -> int:
    """The most PCIe replays per minute of a healthy link with that width and generation."""
    doublings = max(0, generation - _FIRST_GENERATION)
    hundredths = lanes * policy.pcie_replays_per_lane_hundredths << doublings
    return -(-hundredths // 100)


def _bad_levels(before: Checkup | None, checkup: Checkup, policy: Policy) -> Iterator[tuple[Reason, str]]:
    for named, is_bad in (
        ("PageRetirementPending", checkup.page_retirement_pending),
        ("PagesRetired", (checkup.retired_pages or 0) >= policy.retired_pages_limit),
        ("RepairPending", checkup.repair_pending),
        ("MemoryUnrepairable", checkup.memory_unrepairable),
    ):
        if is_bad:
            yield Reason(named), LEVELS[Reason(named)].meaning
    if (text := _pcie_degradation(checkup)) is not None:
        yield Reason("PcieDegraded"), text
    if _links_have_errors(before, checkup, policy):
        yield Reason("NvlinkErrors"), LEVELS[Reason("NvlinkErrors")].meaning
    if before is not None and _replays_too_often(before, checkup, policy):
        yield Reason("PcieReplays"), LEVELS[Reason("PcieReplays")].meaning


def _pcie_degradation(checkup: Checkup) -> str | None:
    """A text if the PCIe link is below the slot's maximum, else None. An idle GPU lowers its generation to save power."""
    lanes, lanes_max = checkup.pcie_lanes, checkup.pcie_lanes_max
    if lanes is not None and lanes_max is not None and lanes < lanes_max:
        return f"{lanes} of {lanes_max} PCIe lanes"
    generation, generation_max = checkup.pcie_generation, checkup.pcie_generation_max
    if generation is None or generation_max is None or checkup.idle is not False:
        return None
    return f"PCIe generation {generation} of {generation_max}" if generation < generation_max else None


def _links_have_errors(before: Checkup | None, checkup: Checkup, policy: Policy) -> bool:
    """Whether the NVLinks have errors. Replays and recoveries are rare on healthy links; CRC errors have a normal rate."""
    if (checkup.link_errors_per_petabit or 0) >= policy.link_errors_per_petabit:
        return True
    if before is None:
        return False
    rare = (
        growth(before.link_replays, checkup.link_replays),
        growth(before.link_recoveries, checkup.link_recoveries),
        growth(before.link_recoveries_failed, checkup.link_recoveries_failed),
    )
    elapsed = checkup.seen.at - before.seen.at
    frequent = growth(before.link_crc_errors, checkup.link_crc_errors) >= policy.link_crc_per_second * elapsed
    return any(rare) or frequent


def _replays_too_often(before: Checkup, checkup: Checkup, policy: Policy) -> bool:
    lanes, generation = checkup.pcie_lanes_max, checkup.pcie_generation_max
    if lanes is None or generation is None:
        return False
    elapsed = checkup.seen.at - before.seen.at
    grown = growth(before.pcie_replays, checkup.pcie_replays)
    return 60 * grown > replay_limit(lanes, generation, policy) * elapsed


def _start_clearing(fault: Fault, checkup: Checkup, bad: dict[Reason, str]) -> Fault:
    reason = fault.rule.reason
    if reason not in CHECKED_LEVELS or fault.rule.clearing is not Clearing.LEVEL:
        return fault
    if reason in bad or fault.good_since is not None:
        return fault
    if all(getattr(checkup, name) is None for name in _NEEDS[reason]):
        return fault
    return replace(fault, good_since=checkup.seen.at)


def _evidence(reason: Reason, seen: Checkup | PresenceReport, detail: str, *, level: bool) -> Evidence:
    return Evidence(rule=LEVELS[reason], seen=seen.seen, source=seen.source, detail=detail, level=level)
