"""The witnesses of each kind of fault."""

import pytest

from gpuvitals.health.fault_classes import LEVELS, FaultClass
from gpuvitals.health.state import GpuState
from gpuvitals.health.witnesses import (
    WITNESSES,
    XID_KINDS,
    FaultKind,
    Witness,
    confidence,
    fault_kind,
    may_disrupt,
    witnesses,
)
from gpuvitals.health.xid_catalog import CATALOG
from gpuvitals.health.xid_rules import xid_rule
from gpuvitals.model.health import Confidence
from gpuvitals.model.ids import Reason
from gpuvitals.model.signal import (
    ConfigSpace,
    GpuSignal,
    OffBusReport,
    PresenceReport,
    ReadStatus,
    Source,
)
from support.signals import BUS, UUID, asks, broken, fold, good, links, moment, xid

OFF_BUS = OffBusReport(source=Source.KMSG, seen=moment(1002), bus_id=BUS)
GONE = PresenceReport(
    source=Source.SYSFS,
    seen=moment(1003),
    bus_id=BUS,
    uuid=UUID,
    present=False,
    config_space=ConfigSpace.UNREADABLE,
)


def seen_by(state: GpuState, reason: str) -> set[Witness]:
    fault = state.fault(Reason(reason))
    assert fault is not None
    return set(witnesses(state, fault))


def test_every_kind_has_witnesses_and_the_driver_is_always_one() -> None:
    assert WITNESSES.keys() == set(FaultKind)
    assert all(Witness.RECOVERY_ACTION in listed for listed in WITNESSES.values())
    assert all(Witness.XID not in listed for listed in WITNESSES.values())


def test_no_line_of_the_kernel_log_is_a_second_witness_of_another() -> None:
    """Finding L4: one function of the driver prints XID 79 and the line that the GPU has fallen off the bus."""
    assert all(not listed & {Witness.XID, Witness.OFF_BUS_LINE} for listed in WITNESSES.values())
    for code in sorted(CATALOG):
        state = fold(good(1000), xid(code, 1001), OFF_BUS, xid(48, 1003), xid(120, 1004))
        for fault in state.faults:
            assert confidence(state, fault) is Confidence.SINGLE, (code, fault.rule.reason)


def test_every_reason_of_a_fault_has_a_kind_and_no_xid_has_two() -> None:
    assert {fault_kind(reason) for reason in LEVELS} == set(FaultKind)
    codes = [code for listed in XID_KINDS.values() for code in listed]
    assert len(codes) == len(set(codes))
    assert set(codes) <= CATALOG.keys()
    assert fault_kind(Reason("Xid60000")) is FaultKind.OTHER


def test_every_xid_that_isolates_by_its_number_has_a_kind_of_its_own() -> None:
    isolating = {code for code in CATALOG if xid_rule(xid(code, 0)).fault_class is FaultClass.A}

    assert {code for code in isolating if fault_kind(Reason(f"Xid{code}")) is FaultKind.OTHER} == {110}


@pytest.mark.parametrize(
    ("history", "reason", "expected"),
    [
        ([xid(79, 1001)], "Xid79", {Witness.XID}),
        ([xid(79, 1001), xid(79, 1002, source=Source.NVML_EVENT)], "Xid79", {Witness.XID}),
        ([xid(79, 1001, source=Source.NVML_EVENT), xid(79, 1002)], "Xid79", {Witness.XID}),
        ([xid(79, 1001), xid(119, 1002)], "Xid79", {Witness.XID}),
        ([xid(79, 1001), OFF_BUS], "Xid79", {Witness.XID}),
        ([OFF_BUS, xid(79, 1003)], "GpuLost", {Witness.OFF_BUS_LINE}),
        ([xid(167, 1001), OFF_BUS], "Xid167", {Witness.XID}),
        ([xid(79, 1001), GONE], "Xid79", {Witness.XID, Witness.CONFIG_SPACE}),
        ([OFF_BUS, GONE], "GpuLost", {Witness.OFF_BUS_LINE, Witness.CONFIG_SPACE}),
        ([xid(79, 1001), broken(1002, ReadStatus.LOST)], "Xid79", {Witness.XID, Witness.HANDLE}),
        ([xid(79, 1001), good(1002, ecc_uncorrected_volatile=1)], "Xid79", {Witness.XID}),
        ([xid(48, 1001), good(1002, ecc_uncorrected_volatile=1)], "Xid48", {Witness.XID, Witness.ECC}),
        ([xid(63, 1001), good(1002, remap_pending=True)], "Xid63", {Witness.XID, Witness.ROW_REMAP}),
        ([xid(48, 1001), good(1002, links=links(0))], "Xid48", {Witness.XID}),
        ([xid(74, 1001), good(1002, links=links(0))], "Xid74", {Witness.XID, Witness.LINKS}),
        ([xid(119, 1001), broken(1002, ReadStatus.HUNG)], "Xid119", {Witness.XID, Witness.HANDLE}),
        ([xid(110, 1001), asks(1, 1002)], "Xid110", {Witness.XID, Witness.RECOVERY_ACTION}),
    ],
)
def test_a_second_witness_is_something_read_that_would_show_that_fault(
    history: list[GpuSignal], reason: str, expected: set[Witness]
) -> None:
    assert seen_by(fold(good(1000), *history), reason) == expected


def test_a_witness_that_reads_good_again_testifies_no_more() -> None:
    state = fold(good(1000), xid(63, 1001), good(1002, remap_pending=True), good(1003))

    assert seen_by(state, "Xid63") == {Witness.XID}


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([xid(79, 1001)], Confidence.SINGLE),
        ([xid(79, 1001), xid(79, 1001, source=Source.NVML_EVENT)], Confidence.SINGLE),
        ([xid(79, 1001), GONE], Confidence.CORROBORATED),
        ([xid(79, 1001), asks(2, 1002)], Confidence.DRIVER),
    ],
)
def test_confidence_is_one_witness_two_or_the_driver(history: list[GpuSignal], expected: Confidence) -> None:
    state = fold(good(1000), *history)
    fault = state.fault(Reason("Xid79"))

    assert fault is not None
    assert confidence(state, fault) is expected


def test_two_witnesses_or_the_driver_permit_what_disturbs_others_and_one_never_does() -> None:
    assert {found for found in Confidence if may_disrupt(found)} == {
        Confidence.CORROBORATED,
        Confidence.DRIVER,
    }
