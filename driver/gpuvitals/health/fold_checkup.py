"""Folds the thorough look: what wears a GPU down without taking it out of service. Every cause here degrades at most.

Rates are counted between two looks, a minute apart; a level shows once two of them in a row were bad.
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
"""The oldest generation that the limit of replays is known for."""

_NEEDS: dict[str, tuple[str, ...]] = {
    "NvlinkErrors": ("link_replays", "link_recoveries", "link_recoveries_failed", "link_errors_per_petabit"),
    "PageRetirementPending": ("page_retirement_pending",),
    "PagesRetired": ("retired_pages",),
    "RepairPending": ("repair_pending",),
    "MemoryUnrepairable": ("memory_unrepairable",),
    "PcieDegraded": ("pcie_lanes", "pcie_lanes_max"),
    "PcieReplays": ("pcie_replays",),
}
"""Which values tell that a level is good again: one of them has to be read."""


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
    """The state after the kernel's count of fatal errors; how old those of the first report are, nobody knows."""
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
    """By how much a counter has grown. One that has fallen has begun anew, so nothing is known of the time between."""
    if before is None or after is None:
        return 0
    return max(0, after - before)


def replay_limit(lanes: int, generation: int, policy: Policy) -> int:
    """PCIe replays per minute that a link of that width and generation may have."""
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
    """How the PCIe link is worse than it can be in that slot. An idle GPU lowers its generation to save power."""
    lanes, lanes_max = checkup.pcie_lanes, checkup.pcie_lanes_max
    if lanes is not None and lanes_max is not None and lanes < lanes_max:
        return f"{lanes} of {lanes_max} PCIe lanes"
    generation, generation_max = checkup.pcie_generation, checkup.pcie_generation_max
    if generation is None or generation_max is None or checkup.idle is not False:
        return None
    return f"PCIe generation {generation} of {generation_max}" if generation < generation_max else None


def _links_have_errors(before: Checkup | None, checkup: Checkup, policy: Policy) -> bool:
    """Whether the links lose bits. Replays and recoveries are seldom at all; CRC errors have a rate that is normal."""
    if (checkup.link_errors_per_petabit or 0) >= policy.link_errors_per_petabit:
        return True
    if before is None:
        return False
    seldom = (
        growth(before.link_replays, checkup.link_replays),
        growth(before.link_recoveries, checkup.link_recoveries),
        growth(before.link_recoveries_failed, checkup.link_recoveries_failed),
    )
    elapsed = checkup.seen.at - before.seen.at
    often = growth(before.link_crc_errors, checkup.link_crc_errors) >= policy.link_crc_per_second * elapsed
    return any(seldom) or often


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
