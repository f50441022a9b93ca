"""DCGM's readings: a witness where ours have not seen the fault, sight where ours are blind, and never a cure."""

from dataclasses import replace

from gpuvitals.health.policy import Policy
from gpuvitals.health.state import GpuState
from gpuvitals.health.witnesses import Witness, confidence, witnesses
from gpuvitals.model.health import Confidence, HealthState
from gpuvitals.model.ids import Reason
from gpuvitals.model.signal import Reading, ReadStatus, Source
from support.signals import UUID, broken, fold, good, judge, moment, xid

POLICY = Policy()
EXPECTED = replace(POLICY, dcgm_expected=1)


def dcgm(at: float, **values: object) -> Reading:
    """What the exporter shows with its usual counters, and these values."""
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


def test_a_missing_exporter_lowers_coverage_only_where_it_is_expected() -> None:
    state = fold(good(1000))

    assert judge(state, 1001).coverage == 100
    assert judge(state, 1001, EXPECTED).coverage < 100
    assert judge(fold(dcgm(1001), state=state), 1001, EXPECTED).coverage == 100
