"""The only ways out: an observed reset, a new boot with clean readings, an operator. Then probation."""

import msgspec

from gpuvitals.health.clearing import after_restart
from gpuvitals.health.state import GpuState
from gpuvitals.model.health import HealthState, Phase
from gpuvitals.model.signal import ClearReport, Source
from support.signals import POLICY, UUID, fold, good, identity, judge, moment, xid

FAILED = (good(1000), xid(79, 1001), good(1002, recovery_action=1))


def reset_at(at: float) -> tuple[object, ...]:
    return (identity(at), good(at + 1), good(at + 31), good(at + 62))


def test_time_and_good_readings_alone_never_heal_a_reset_class_fault() -> None:
    state = fold(good(1000), xid(79, 1001), *(good(1001 + 30 * step) for step in range(1, 3000)))

    assert judge(state, 91_000).state is HealthState.UNHEALTHY


def test_an_observed_reset_heals_through_probation() -> None:
    state = fold(*FAILED, *reset_at(2000))  # type: ignore[arg-type]  # signals, built above

    verdict = judge(state, 2063)
    assert (verdict.state, verdict.phase, verdict.reason) == (
        HealthState.DEGRADED,
        Phase.PROBATION,
        "Probation",
    )
    later = fold(good(2700), state=state)
    assert judge(later, 2701).state is HealthState.HEALTHY
    assert judge(later, 2701).xid_errors == 0


def test_a_relapse_doubles_the_probation() -> None:
    once = fold(*FAILED, *reset_at(2000))  # type: ignore[arg-type]  # signals, built above
    twice = fold(xid(79, 2800), *reset_at(2900), state=once)  # type: ignore[arg-type]  # signals, built above

    assert once.probation_until is not None
    assert twice.probation_until is not None
    assert twice.repaired_at is not None
    assert twice.probation_until - twice.repaired_at == 2 * POLICY.probation_seconds


def test_identity_lines_without_a_clean_reading_heal_nothing() -> None:
    state = fold(*FAILED, identity(2000), good(2001, ecc_uncorrected_volatile=3))

    assert judge(state, 2002).state is HealthState.UNHEALTHY


def test_an_operator_clears_everything() -> None:
    clear = ClearReport(source=Source.OPERATOR, seen=moment(2000), uuid=UUID, operator_reason="ticket 123")
    state = fold(*FAILED, good(1999), clear, good(2001))

    assert judge(state, 2001).phase is Phase.PROBATION


def test_a_restart_of_the_agent_keeps_the_fault() -> None:
    state = fold(*FAILED)
    read_back = msgspec.json.decode(msgspec.json.encode(state), type=GpuState)

    assert read_back == state
    resumed = after_restart(read_back, same_boot=True, same_driver_load=True, age_seconds=500)
    assert judge(resumed, 1503) == judge(state, 1003)


def test_a_new_boot_disproves_a_fault_with_a_clean_reading_only() -> None:
    state = after_restart(fold(*FAILED), same_boot=False, same_driver_load=False, age_seconds=120)

    assert judge(state, 10).state is HealthState.UNHEALTHY
    assert judge(fold(good(20, recovery_action=1), state=state), 20).state is HealthState.UNHEALTHY
    assert judge(fold(good(20), state=state), 20).phase is Phase.PROBATION


def test_a_lesser_fault_on_probation_does_not_lift_the_cap() -> None:
    state = fold(*FAILED, *reset_at(2000), xid(94, 2070))  # type: ignore[arg-type]  # signals, built above

    verdict = judge(state, 2070)
    assert (verdict.reason, verdict.score) == ("Xid94", 69)
