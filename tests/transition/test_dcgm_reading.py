"""DCGM's readings: a witness beside NVML's readings, a replacement while those are missing, and never a repair."""

from dataclasses import replace

import pytest

from gpuvitals.health.fault_classes import FaultClass
from gpuvitals.health.policy import Policy
from gpuvitals.health.state import GpuState
from gpuvitals.health.witnesses import Witness, confidence, witnesses
from gpuvitals.model.health import Confidence, HealthState, Phase
from gpuvitals.model.ids import Reason
from gpuvitals.model.signal import Reading, ReadStatus, Source
from support.signals import UUID, broken, fold, good, judge, moment, xid

POLICY = Policy()
EXPECTED = replace(POLICY, dcgm_expected=1)


def dcgm(at: float, **values: object) -> Reading:
    """The exporter's reading with its usual counters and these values."""
    reading = Reading(
        source=Source.DCGM,
        seen=moment(at),
        uuid=UUID,
        status=ReadStatus.OK,
        remap_failed=False,
        ecc_uncorrected_volatile=0,
    )
    return replace(reading, **values)  # type: ignore[arg-type]  # names checked by replace()


def told(state: GpuState, reason: str) -> frozenset[Witness]:
    fault = state.fault(Reason(reason))
    assert fault is not None
    return witnesses(state, fault)


def test_dcgm_corroborates_what_only_the_log_has_said() -> None:
    state = fold(good(1000), xid(48, 1010), dcgm(1020, ecc_uncorrected_volatile=1))
    fault = state.fault(Reason("Xid48"))
    assert fault is not None

    assert told(state, "Xid48") == {Witness.XID, Witness.DCGM}
    assert confidence(state, fault) is Confidence.CORROBORATED


def test_each_kind_of_fault_has_its_value_and_no_other() -> None:
    for code, values in (
        (74, {"link_errors": True}),
        (54, {"hardware_slowdown": True}),
        (64, {"remap_failed": True}),
    ):
        state = fold(good(1000), xid(code, 1010), dcgm(1020, **values))
        assert told(state, f"Xid{code}") == {Witness.XID, Witness.DCGM}, code
    memory = fold(good(1000), xid(48, 1010), dcgm(1020, link_errors=True, hardware_slowdown=True))
    assert told(memory, "Xid48") == {Witness.XID}


def test_dcgm_is_no_third_witness_of_what_we_have_read_ourselves() -> None:
    state = fold(good(1000), good(1010, ecc_uncorrected_volatile=1), dcgm(1020, ecc_uncorrected_volatile=1))

    assert told(state, "EccUncorrected") == {Witness.ECC}


def test_a_stale_value_is_no_evidence() -> None:
    state = fold(good(1000), xid(48, 1010), dcgm(1020, ecc_uncorrected_volatile=1))
    state = fold(*(good(at) for at in range(1030, 1150, 5)), state=state)

    assert told(state, "Xid48") == {Witness.XID}


def test_where_our_own_readings_go_on_dcgm_raises_nothing() -> None:
    state = fold(good(1000), dcgm(1010, ecc_uncorrected_volatile=1, hardware_slowdown=True))

    assert state.faults == ()
    assert judge(state, 1010).state is HealthState.HEALTHY


def test_dcgm_sees_a_gpu_that_our_own_readings_have_lost_sight_of() -> None:
    state = fold(good(1000), *(broken(at, ReadStatus.FAILED) for at in range(1005, 1100, 5)))
    assert judge(state, 1100).state is HealthState.UNKNOWN
    seen = fold(dcgm(1101), state=state)
    bad = fold(*(dcgm(at, ecc_uncorrected_volatile=2) for at in (1101, 1116)), state=state)

    assert judge(seen, 1101).state is HealthState.HEALTHY
    assert judge(seen, 1101).recovery_action == "Unknown"
    assert (judge(bad, 1116).state, judge(bad, 1116).reason) == (HealthState.DEGRADED, "EccUncorrected")
    assert judge(seen, 1162).state is HealthState.UNKNOWN


def test_what_only_dcgm_has_seen_ends_by_its_own_good_readings() -> None:
    state = fold(dcgm(1001, hardware_slowdown=True), dcgm(1016, hardware_slowdown=True))
    assert judge(state, 1016).reason == "HardwareSlowdown"
    state = fold(dcgm(1031, hardware_slowdown=False), dcgm(1050, hardware_slowdown=False), state=state)

    assert judge(fold(dcgm(1092, hardware_slowdown=False), state=state), 1092).state is HealthState.HEALTHY


def test_dcgm_never_heals_a_hang_a_reset_class_fault_or_what_we_have_read() -> None:
    hung = fold(good(1000), *(broken(at, ReadStatus.HUNG) for at in range(1005, 1400, 5)))
    fatal = fold(good(1000), xid(95, 1010))
    worn = fold(good(1000), good(1010, ecc_uncorrected_volatile=1))
    for state, reason in ((hung, "NvmlHung"), (fatal, "Xid95"), (worn, "EccUncorrected")):
        after = fold(*(dcgm(at) for at in range(1400, 2000, 15)), state=state)
        assert after.fault(Reason(reason)) is not None, reason


def test_an_xid_that_dcgm_passes_on_later_is_the_same_report() -> None:
    passed_on = replace(xid(95, 1060, source=Source.DCGM))
    state = fold(good(1000), xid(95, 1010), passed_on)
    fault = state.fault(Reason("Xid95"))
    assert fault is not None

    assert (fault.sources, len(fault.episodes)) == ({Source.KMSG}, 1)
    assert fold(good(1000), passed_on).fault(Reason("Xid95")) is not None


@pytest.mark.parametrize("code", range(1, 180))
def test_an_xid_that_only_dcgm_has_told_never_isolates(code: int) -> None:
    """Finding R7"""
    reports = (xid(code, 1001 + 100 * step, source=Source.DCGM) for step in range(5))
    state = fold(good(1000), *reports, *(good(at) for at in range(1500, 1900, 5)))

    assert not any(judge(state, at).state is HealthState.UNHEALTHY for at in (1500, 1895))
    assert all(fault.rule.fault_class in (FaultClass.B0, FaultClass.C) for fault in state.faults)
    assert all(told(state, fault.rule.reason) == {Witness.DCGM} for fault in state.faults)


@pytest.mark.parametrize("code", [48, 79, 95, 119])
@pytest.mark.parametrize("source", [Source.KMSG, Source.NVML_EVENT])
@pytest.mark.parametrize("is_first", [True, False], ids=["dcgm first", "dcgm last"])
def test_an_xid_that_dcgm_tells_too_counts_as_if_dcgm_were_silent(
    code: int, source: Source, is_first: bool
) -> None:
    """Finding R7"""
    passed_on = xid(code, 1002 if is_first else 1200, source=Source.DCGM)
    real = xid(code, 1010, source=source)
    reports = (passed_on, real) if is_first else (real, passed_on)
    state = fold(good(1000), *reports, good(1205))

    assert (judge(state, 1205).state, judge(state, 1205).reason) == (HealthState.UNHEALTHY, f"Xid{code}")
    assert judge(state, 1205).confidence is Confidence.SINGLE


def test_what_dcgm_still_repeats_is_not_younger_than_the_reset_that_repaired_it() -> None:
    """Finding R7"""
    state = fold(good(1000), xid(95, 1010), good(1012, recovery_action=1))
    state = fold(xid(95, 1150, source=Source.DCGM), good(1160), state=state)

    assert judge(fold(good(1225), state=state), 1225).phase is Phase.PROBATION


@pytest.mark.parametrize(
    "values",
    [{"remap_failed": True}, {"ecc_uncorrected_volatile": 9}, {"hardware_slowdown": True}],
    ids=["remap", "memory", "slowdown"],
)
def test_a_level_that_only_dcgm_shows_degrades_and_ends_when_it_is_shown_good(
    values: dict[str, object],
) -> None:
    """Finding R7: also while our own readings have lost sight of the GPU."""
    state = fold(good(1000), *(dcgm(at, hardware_slowdown=False) for at in range(1075, 1120, 15)))
    bad = fold(
        *(dcgm(at, **{"hardware_slowdown": False, **values}) for at in range(1120, 1800, 15)), state=state
    )
    assert judge(bad, 1790).state is HealthState.DEGRADED
    well = fold(*(dcgm(at, hardware_slowdown=False) for at in range(1800, 1900, 15)), state=bad)

    assert judge(well, 1895).state is HealthState.HEALTHY


def test_a_level_that_we_read_is_what_it_is_whatever_dcgm_shows() -> None:
    """Finding R7"""
    shown = fold(good(1000), *(dcgm(at, remap_failed=True) for at in range(1075, 1120, 15)))
    read = fold(good(1121, remap_failed=True), *(dcgm(at) for at in range(1200, 1300, 15)), state=shown)

    assert judge(read, 1121).state is HealthState.UNHEALTHY
    assert judge(read, 1295).reason == "RowRemapFailed"


def test_a_missing_exporter_lowers_coverage_only_where_it_is_expected() -> None:
    state = fold(good(1000))

    assert judge(state, 1001).coverage == 100
    assert judge(state, 1001, EXPECTED).coverage < 100
    assert judge(fold(dcgm(1001), state=state), 1001, EXPECTED).coverage == 100
