"""Each reason on the list can come up, and each that comes up is on the list with all that a person needs."""

from dataclasses import replace

import pytest

from gpuvitals.health.fault_classes import EARLIER_FAULT, LEVELS, RECOVERY_ACTIONS, Clearing, FaultClass
from gpuvitals.health.reasons import UNLISTED_XID, entries, entry_of
from gpuvitals.health.xid_catalog import CATALOG
from gpuvitals.health.xid_rules import xid_rule
from gpuvitals.model.signal import (
    FabricState,
    GpuSignal,
    InitFailureReport,
    Nvlink5Detail,
    OffBusReport,
    Reading,
    ReadStatus,
    Source,
)
from support.signals import BUS, broken, checkup, fold, good, identity, judge, links, moment, xid


def lasting(**changes: object) -> list[GpuSignal]:
    return [good(1010 + 10 * step, **changes) for step in range(4)]


def looks(*values: dict[str, object]) -> list[GpuSignal]:
    """Checkups half a minute apart; the last is repeated, since a level needs two."""
    return [checkup(1010 + 30 * step, **each) for step, each in enumerate((*values, values[-1]))]


RESET = [xid(79, 1001), identity(1002), good(1003)]
BY_REASON: dict[str, list[GpuSignal]] = {
    "GpuLost": [OffBusReport(source=Source.KMSG, seen=moment(1001), bus_id=BUS)],
    "InitFailed": [InitFailureReport(source=Source.KMSG, seen=moment(1001), bus_id=BUS)],
    "ResetRequired": [broken(1001, ReadStatus.RESET_REQUIRED)],
    "RowRemapFailed": lasting(remap_failed=True),
    "RowRemapPending": lasting(remap_pending=True),
    "SramThreshold": lasting(sram_threshold_exceeded=True),
    "EccUncorrected": lasting(ecc_uncorrected_volatile=1),
    "NvlinkDown": lasting(links=links(1)),
    "NvlinkDegraded": lasting(links=links(17)),
    "FabricFailed": lasting(fabric=FabricState.FAILED),
    "FabricDegraded": lasting(fabric=FabricState.DEGRADED),
    "NvlinkErrors": looks({"link_errors_per_petabit": 1000}),
    "PageRetirementPending": looks({"page_retirement_pending": True}),
    "PagesRetired": looks({"retired_pages": 63}),
    "RepairPending": looks({"repair_pending": True}),
    "MemoryUnrepairable": looks({"memory_unrepairable": True}),
    "PcieDegraded": looks({"pcie_lanes": 8}),
    "PcieReplays": [checkup(1010 + 20 * step, pcie_replays=1000 * step) for step in range(3)],
    "PcieErrors": [checkup(1010), checkup(1040, pcie_fatal_errors=1)],
    "HardwareSlowdown": lasting(hardware_slowdown=True),
    "NvmlHung": [broken(1001, ReadStatus.HUNG)],
    "RecoveryUnknown": lasting(recovery_action=99),
    "Flapping": [
        replace(signal, seen=moment(signal.seen.at + 10 * each)) for each in range(3) for signal in RESET
    ],
    "Probation": RESET,
    "None": [],
    **{reason: lasting(recovery_action=number) for number, (_, reason) in RECOVERY_ACTIONS.items() if reason},
}


@pytest.mark.parametrize("reason", BY_REASON)
def test_each_reason_of_a_gpu_comes_up(reason: str) -> None:
    history = BY_REASON[reason]
    at = max((signal.seen.at for signal in history), default=1000)

    assert judge(fold(good(1000), *history), at).reason == reason


def test_the_table_above_has_every_level_but_what_people_and_programs_say() -> None:
    """Nor has it the reason that stands in for an unreadable memory: no signal gives that one."""
    levels = {reason for reason, rule in LEVELS.items() if rule.clearing is not Clearing.RETRACTED}

    assert {*levels, "None", "Probation"} == {*BY_REASON, EARLIER_FAULT.reason}
    assert judge(fold(), 1000).reason == "NoEvidence"


@pytest.mark.parametrize("code", [*CATALOG, 174, 999, 65_535])
def test_an_xid_comes_up_under_its_own_name_or_not_at_all(code: int) -> None:
    """Two claims meet it, so that an application's counts too."""
    pair = [xid(code, 1001, claim="a"), xid(code, 1002, claim="b")]
    verdict = judge(fold(good(1000), *pair), 1002)
    counts = xid_rule(pair[0]).fault_class is not FaultClass.NONE

    assert verdict.reason == (f"Xid{code}" if counts else "None")
    entry = entry_of(verdict.reason)
    assert entry is not None
    assert all((entry.meaning, entry.source, entry.agent_action, entry.operator_action))
    assert (entry is UNLISTED_XID) is (code not in CATALOG or (counts and CATALOG[code].unused))


def test_every_xid_on_the_list_comes_up() -> None:
    listed = {entry.reason for entry in entries() if entry.reason.startswith("Xid")}
    decoded = Nvlink5Detail(unit="MSE_WATCHDOG", intr_info=0, error_status=0)
    found = {
        judge(
            fold(good(1000), *(replace(xid(code, 1001, claim=who), nvlink5=decoded) for who in "ab")), 1001
        ).reason
        for code in CATALOG
    }

    assert listed - found <= {f"Xid{code}" for code in range(144, 150)}
    assert "Xid150" in found


def test_what_is_no_reason_has_no_entry() -> None:
    assert [entry_of(text) for text in ("", "Xid", "Xid0", "Xid65536", "Xid7 9", "xid79", "Broken")] == [
        None
    ] * 7


def test_a_reading_names_nothing_while_it_is_one_bad_poll() -> None:
    for reason in ("RowRemapPending", "NvlinkDegraded", "HardwareSlowdown", "EccUncorrected"):
        once = BY_REASON[reason][0]
        assert isinstance(once, Reading)
        assert judge(fold(good(1000), once), once.seen.at).reason == "None"
