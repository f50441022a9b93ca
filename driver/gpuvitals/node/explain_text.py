"""Texts for a person about single items of an explanation: a reading, a checkup, an XID, a past fault, a class. Pure."""

from collections.abc import Iterator
from typing import assert_never

from gpuvitals.health.fault_classes import Clearing, FaultClass, recovery_action
from gpuvitals.health.fold_reading import active_links, unknown_links
from gpuvitals.health.state import PastFault, XidRecord
from gpuvitals.model.signal import Checkup, Reading


def xid_text(record: XidRecord, now: float) -> str:
    """The record of one XID."""
    unit = f" on {record.unit}" if record.unit else ""
    claims = len(record.meetings)
    met = f", met {claims} claim" + ("s" if claims != 1 else "") if claims else ""
    ended = ", resolved" if record.resolved else ""
    return f"{record.code}{unit}, last {ago(now, record.last_at)}, counts as {record.rule.reason}{met}{ended}"


def past_text(past: PastFault, now: float) -> str:
    """One fault that has ended."""
    times = f", {past.times} times, the first {ago(now, past.first_at)}" if past.times > 1 else ""
    effect = "it had taken the GPU out of service" if past.isolated else "the GPU had stayed in service"
    note = f": {past.note}" if past.note else ""
    return f"{past.reason}, ended {ago(now, past.ended_at)} by {past.ending.value}{note}{times}; {effect}"


def checkup_text(checkup: Checkup, now: float) -> str:
    """Wear, power and processes, as far as they could be read."""
    power = None if checkup.power_milliwatts is None else checkup.power_milliwatts // 1000
    known = (
        (checkup.pcie_lanes, f"of {checkup.pcie_lanes_max} PCIe lanes"),
        (checkup.pcie_generation, f"of {checkup.pcie_generation_max} as PCIe generation"),
        (checkup.pcie_replays, "PCIe replays"),
        (checkup.link_replays, "NVLink replays"),
        (checkup.link_crc_errors, "NVLink CRC errors"),
        (checkup.retired_pages, "retired pages"),
        (checkup.processes, "processes"),
        (power, "W"),
    )
    values = ", ".join(f"{value} {words}" for value, words in known if value is not None)
    return f"{ago(now, checkup.seen.at)}: {values or 'nothing could be read'}"


def reading_values(reading: Reading) -> Iterator[str]:
    """The values of a reading, one text each."""
    if reading.recovery_action is not None:
        yield f"recovery action {recovery_action(reading.recovery_action)[0]}"
    if reading.links:
        unknown = unknown_links(reading)
        yield f"{active_links(reading)} of {len(reading.links)} links up"
        if unknown:
            yield f"{unknown} in an unknown state"
    if reading.ecc_uncorrected_volatile is not None:
        yield f"{reading.ecc_uncorrected_volatile} uncorrected errors"
    if reading.thermal_margin_celsius is not None:
        yield f"{reading.thermal_margin_celsius} C below slowdown"
    if reading.unsupported:
        yield f"not supported: {' '.join(sorted(reading.unsupported))}"


def ago(now: float, at: float) -> str:
    """`12 s ago`; never negative."""
    return f"{max(0.0, now - at):.0f} s ago"


def class_text(fault_class: FaultClass) -> str:
    """The effect of a fault of the class."""
    match fault_class:
        case FaultClass.A:
            return "A: definitive, isolates at once"
        case FaultClass.B:
            return (
                "B: isolates after its dwell, at a second episode in that time, or at the third time in a day"
            )
        case FaultClass.B0:
            return "B0: degrades, never isolates alone"
        case FaultClass.C:
            return "C: an application's; counts when a second claim meets it"
        case FaultClass.NONE:
            return "none: recorded only"
        case _:
            assert_never(fault_class)


def way_out_text(clearing: Clearing) -> str:
    """The ways in which a fault with this clearing ends."""
    match clearing:
        case Clearing.RESET:
            return "an observed reset, a new boot or driver load with clean readings, or an operator"
        case Clearing.LEVEL:
            return "the readings are good again"
        case Clearing.EXPIRY:
            return "a day without it, an observed reset, or an operator"
        case Clearing.OPERATOR:
            return "an operator, once the hardware is repaired"
        case Clearing.RETRACTED:
            return "the report is withdrawn or expires"
        case Clearing.QUIET:
            return "hours under watch without a fault that isolates, or an operator"
        case _:
            assert_never(clearing)
