"""Strategies for the history of one GPU, with every source, every fault class and every value of a reading."""

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from gpuvitals.health.xid_catalog import CATALOG
from gpuvitals.model.signal import (
    ClearReport,
    ConfigSpace,
    FabricState,
    GpuSignal,
    InitFailureReport,
    Nvlink5Detail,
    OffBusReport,
    PresenceReport,
    ReadStatus,
    Source,
    XidReport,
)
from support.signals import BUS, START, UUID, asks, broken, checkup, good, identity, links, moment, xid

STEPS = st.sampled_from([0.0, 0.5, 4.0, 20.0, 61.0, 200.0, 400.0, 4000.0, 90_000.0])
"""Seconds from one signal to the next: about every window of the policy there is one below and one above it."""
CODES = st.one_of(
    st.sampled_from([13, 43, 45, 48, 63, 74, 79, 94, 95, 109, 119, 144, 149, 154]),
    st.sampled_from(sorted(CATALOG)),
    st.sampled_from([174, 999, 60_000]),
)
_RESETS = st.sampled_from([48, 79, 95])
_CLAIMS = st.sampled_from([None, "a", "b"])
_WORDS = st.sampled_from([(), (1 << 4, 0, 0), (1 << 21, 0, 0), (1 << 1, 0, 0), (1 << 0, 0, 0)])
"""Of XID 74: not printed, hardware, signal, secondary, ignorable."""
_DETAILS = st.sampled_from(
    [
        None,
        Nvlink5Detail(unit="NETIR_LINK_EVT", intr_info=0x004505C6, error_status=0x0),
        Nvlink5Detail(unit="RLW_REMAP", intr_info=0x00000082, error_status=0x1),
        Nvlink5Detail(unit="SAW_MVB", intr_info=0x00000021, error_status=0x4),
        Nvlink5Detail(unit="MSE_WATCHDOG", intr_info=0x0, error_status=0x0),
    ]
)
_SILENT = [status for status in ReadStatus if status is not ReadStatus.OK]
_VALUES: dict[str, st.SearchStrategy[object]] = {
    "recovery_action": st.sampled_from([0, 0, 0, None, 1, 2, 3, 4, 5, 6, 7, 99]),
    "ecc_uncorrected_volatile": st.sampled_from([0, 0, 0, None, 1, 5]),
    "sram_threshold_exceeded": st.sampled_from([False] * 5 + [True]),
    "remap_pending": st.sampled_from([False, False, None, True]),
    "remap_failed": st.sampled_from([False] * 9 + [True]),
    "banks_without_spare": st.sampled_from([0, 0, 1, None]),
    "links": st.sampled_from([links(18), links(18), links(17), links(8), links(0), None]),
    "fabric": st.sampled_from([FabricState.COMPLETED, FabricState.FAILED, *FabricState, None]),
    "hardware_slowdown": st.sampled_from([False, False, None, True]),
    "thermal_margin_celsius": st.sampled_from([30, 4, -3, None]),
    "remapped_uncorrectable": st.sampled_from([0, 0, 1, 2, None]),
}


_CHECKED: dict[str, st.SearchStrategy[object]] = {
    "link_replays": st.sampled_from([0, 0, 7, 9, None]),
    "link_errors_per_petabit": st.sampled_from([0, 999, 1000, None]),
    "pcie_replays": st.sampled_from([0, 1, 10**6, None]),
    "pcie_fatal_errors": st.sampled_from([0, 0, 1, None]),
    "pcie_lanes": st.sampled_from([16, 8, None]),
    "retired_pages": st.sampled_from([0, 62, 63, None]),
    "page_retirement_pending": st.sampled_from([False, True, None]),
    "repair_pending": st.sampled_from([False, True, None]),
    "memory_unrepairable": st.sampled_from([False, True, None]),
}
_COUNTERS = frozenset({"link_replays", "pcie_replays", "pcie_fatal_errors"})
_FATAL_ERRORS = st.sampled_from([None, 0, 0, 1])
_LESSER: st.SearchStrategy[tuple[dict[str, Any], dict[str, Any]]] = st.sampled_from(
    [
        ({"recovery_action": 3}, {}),
        ({"recovery_action": 5}, {}),
        ({"recovery_action": 99}, {}),
        ({"links": links(17)}, {}),
        ({"remap_pending": True}, {}),
        ({"hardware_slowdown": True}, {}),
        ({"ecc_uncorrected_volatile": 1}, {}),
        ({}, {"link_errors_per_petabit": 1000}),
        ({}, {"pcie_replays": 10**6}),
        ({}, {"pcie_fatal_errors": 1}),
        ({}, {"page_retirement_pending": True}),
        ({}, {"repair_pending": True}),
        ({}, {"memory_unrepairable": True}),
        ({}, {"pcie_lanes": 8, "pcie_lanes_max": 16}),
        ({"fabric": FabricState.DEGRADED}, {}),
        ({}, {"retired_pages": 63}),
    ]
)
"""The readings of polls and checkups; for a counter its increase between two of them."""


@st.composite
def xids(draw: st.DrawFn, at: float, codes: st.SearchStrategy[int] = CODES) -> XidReport:
    """An XID, as the kernel logs it or as NVML reports it, without its decode."""
    code = draw(codes)
    source = draw(st.sampled_from([Source.KMSG, Source.KMSG, Source.NVML_EVENT]))
    report = replace(
        xid(code, at, source=source, claim=draw(_CLAIMS)), gpu_instance=draw(st.sampled_from([None, None, 1]))
    )
    if source is Source.NVML_EVENT:
        return report
    if code == 74:
        return replace(report, words=draw(_WORDS))
    if 144 <= code <= 150:
        return replace(report, nvlink5=draw(_DETAILS), fatal=draw(st.sampled_from([None, True, False])))
    return report


@st.composite
def checkups(draw: st.DrawFn, at: float) -> GpuSignal:
    """A checkup with arbitrary values."""
    chosen = draw(st.sets(st.sampled_from(sorted(_CHECKED)), max_size=3))
    return checkup(at, **{name: draw(_CHECKED[name]) for name in sorted(chosen)})


@st.composite
def accusations(draw: st.DrawFn, at: float) -> GpuSignal:
    """A signal that reports something bad, or nothing, and is no proof of anything good."""
    match draw(st.integers(0, 7)):
        case 0 | 1 | 2:
            return draw(xids(at))
        case 6:
            return InitFailureReport(source=Source.KMSG, seen=moment(at), bus_id=BUS)
        case 3:
            return asks(draw(st.integers(0, 9)), at)
        case 4:
            return OffBusReport(source=Source.KMSG, seen=moment(at), bus_id=BUS)
        case 5:
            return broken(at, draw(st.sampled_from(_SILENT)))
        case _:
            return PresenceReport(
                source=Source.SYSFS,
                seen=moment(at),
                bus_id=BUS,
                uuid=UUID,
                present=draw(st.booleans()),
                config_space=draw(st.sampled_from(ConfigSpace)),
                fatal_errors=draw(_FATAL_ERRORS),
            )


@st.composite
def readings(draw: st.DrawFn, at: float) -> GpuSignal:
    """A poll that succeeded, with anything in it, read or not."""
    chosen = draw(st.sets(st.sampled_from(sorted(_VALUES)), max_size=3))
    return good(at, **{name: draw(_VALUES[name]) for name in sorted(chosen)})


@st.composite
def signals(draw: st.DrawFn, at: float) -> GpuSignal:
    """Any signal about the one GPU; some events are from before it was met."""
    kind = draw(st.integers(0, 9))
    if kind < 4:
        return draw(accusations(at))
    if kind < 8:
        return draw(st.one_of(readings(at), readings(at), checkups(at)))
    if kind == 8:
        return identity(at)
    if draw(st.booleans()):
        return ClearReport(source=Source.OPERATOR, seen=moment(at), uuid=UUID, operator_reason="ticket")
    return draw(accusations(draw(st.floats(1.0, START - 1.0))))


@st.composite
def spells(draw: st.DrawFn, at: float) -> list[GpuSignal]:
    """Lasting conditions: a level that is read unchanged for a while, or a fault that returns after each reset."""
    if draw(st.booleans()):
        looks = [at + 20.0 * step for step in range(draw(st.integers(2, 6)))]
        if draw(st.integers(0, 2)):
            name = draw(st.sampled_from(sorted(_VALUES)))
            value = draw(_VALUES[name])
            return [good(each, **{name: value}) for each in looks]
        name = draw(st.sampled_from(sorted(_CHECKED)))
        value = draw(_CHECKED[name])
        grows = name in _COUNTERS and isinstance(value, int)
        return [checkup(each, **{name: value * step if grows else value}) for step, each in enumerate(looks)]
    found: list[GpuSignal] = []
    for each in range(draw(st.integers(1, 3))):
        start = at + 30.0 * each
        found += [xid(draw(_RESETS), start), identity(start + 10), good(start + 20)]
    return found


@st.composite
def lesser_levels(draw: st.DrawFn, at: float) -> list[GpuSignal]:
    """A level that any graver fault would hide, read for a while on a GPU that has nothing else."""
    read, checked = draw(_LESSER)
    found: list[GpuSignal] = []
    for step in range(draw(st.integers(4, 6))):
        each = at + 20.0 * step
        grown = {name: value * step if name in _COUNTERS else value for name, value in checked.items()}
        found += [good(each, **read), checkup(each, **grown)]
    return found


@st.composite
def histories(draw: st.DrawFn) -> list[GpuSignal]:
    """Signals of one GPU in the agent's batches, mostly one by one; some begin with a lesser fault."""
    at, history = START, list[GpuSignal]()
    if not draw(st.integers(0, 4)):
        history += draw(lesser_levels(at))
        at = history[-1].seen.at
    for step in draw(st.lists(STEPS, max_size=16)):
        at += step
        if draw(st.integers(0, 4)):
            history.append(draw(signals(at)))
        else:
            history += draw(spells(at))
            at = history[-1].seen.at
    return history


@st.composite
def moments_of_many(draw: st.DrawFn, at: float) -> list[GpuSignal]:
    """Events and levels that are all seen at one instant, while one claim or none holds the GPU.

    At most one of each level is among them, since the queue keeps one.
    """
    claim = draw(_CLAIMS)
    together: list[GpuSignal] = draw(st.lists(accusations(at), min_size=2, max_size=5))
    together = [
        replace(signal, claim=claim) if isinstance(signal, XidReport) else signal
        for signal in together
        if not _is_level(signal)
    ]
    if draw(st.booleans()):
        together.append(draw(readings(at)))
    if draw(st.booleans()):
        together.append(draw(checkups(at)))
    if draw(st.booleans()):
        together.append(identity(at))
    return together


def end_of(history: list[GpuSignal]) -> float:
    """When the newest signal was seen."""
    return max((signal.seen.at for signal in history), default=START)


def _is_level(signal: GpuSignal) -> bool:
    return isinstance(signal, PresenceReport) or signal.source is Source.NVML_POLL
