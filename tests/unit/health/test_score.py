"""The score's worked values, its classes, and the documentation of its policy."""

from dataclasses import fields, replace
from fractions import Fraction

import pytest

from gpuvitals.health.evaluate import advance
from gpuvitals.health.policy import Policy, policy_with, undocumented
from gpuvitals.health.policy_values import VALUES
from gpuvitals.health.reasons import entries, is_reason
from gpuvitals.health.score import Factors, capped, factors, health_class, product, score
from gpuvitals.model.health import HealthClass, HealthState
from support.signals import POLICY, fold, good, identity, judge, xid

NOTHING = {"xid": Fraction(0), "links": Fraction(1), "memory": Fraction(0), "heat_step": 0}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, 100),
        ({"xid": Fraction(1, 4)}, 90),
        ({"xid": Fraction(1, 2)}, 80),
        ({"xid": Fraction(3, 4)}, 70),
        ({"xid": Fraction(1)}, 60),
        ({"links": Fraction(17, 18)}, 98),
        ({"links": Fraction(0)}, 70),
        ({"memory": Fraction(1, 10)}, 98),
        ({"memory": Fraction(3, 10)}, 94),
        ({"memory": Fraction(1, 2)}, 90),
        ({"memory": Fraction(3, 5)}, 88),
        ({"memory": Fraction(3, 4)}, 85),
        ({"memory": Fraction(1)}, 80),
        ({"heat_step": 2}, 90),
        ({"xid": Fraction(1), "links": Fraction(0), "memory": Fraction(1)}, 33),
    ],
)
def test_one_factor_at_a_time(change: dict[str, Fraction], expected: int) -> None:
    """The worked values of the formula, before gates and caps. Several land exactly on 90 or 70."""
    assert product(Factors(**{**NOTHING, **change})) // 1 == expected  # type: ignore[arg-type]  # a table of fields


@pytest.mark.parametrize("heat_step", [0, 1, 2])
@pytest.mark.parametrize("percent", range(0, 101, 5))
def test_heat_alone_changes_no_class_and_below_slowdown_causes_no_write(heat_step: int, percent: int) -> None:
    cool = Factors(xid=Fraction(0), links=Fraction(percent, 100), memory=Fraction(0), heat_step=0)
    hot = replace(cool, heat_step=heat_step)

    assert health_class(score(hot)) is health_class(score(cool))
    assert score(hot) <= score(cool)
    if heat_step < 2:
        assert score(cool) - score(hot) < POLICY.publish_step


@pytest.mark.parametrize(
    ("state", "probation", "expected"),
    [
        (HealthState.HEALTHY, False, 100),
        (HealthState.DEGRADED, False, 90),
        (HealthState.DEGRADED, True, 69),
        (HealthState.UNHEALTHY, False, 0),
        (HealthState.UNHEALTHY, True, 0),
        (HealthState.UNKNOWN, False, 0),
    ],
)
def test_a_state_caps_the_score(state: HealthState, probation: bool, expected: int) -> None:
    assert capped(100, state, probation=probation) == expected
    assert capped(1, state, probation=probation) == min(1, expected)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 0),
        ({"remap_pending": True}, Fraction(1, 2)),
        ({"ecc_uncorrected_volatile": 1}, Fraction(3, 5)),
        ({"ecc_uncorrected_volatile": 1, "remap_pending": True}, Fraction(3, 5)),
        ({"banks_without_spare": 1}, Fraction(3, 4)),
        ({"remap_failed": True}, Fraction(1)),
        ({"remapped_uncorrectable": 7}, 0),
        ({"ecc_corrected_volatile": 10**9}, 0),
        ({"remap_pending": None, "remap_failed": None, "ecc_uncorrected_volatile": None}, 0),
    ],
)
def test_the_worst_of_the_memory_counts_and_what_is_missing_does_not(
    changes: dict[str, object], expected: Fraction
) -> None:
    once = fold(good(1000, **changes))
    state = fold(good(1000 + POLICY.level_confirm_seconds, **changes), state=once)

    assert factors(once, 1000, POLICY).memory == 0
    assert factors(state, 1015, POLICY).memory == expected


def test_a_row_that_is_remapped_before_our_eyes_counts_for_a_week() -> None:
    state = fold(good(1000, remapped_uncorrectable=7), good(2000, remapped_uncorrectable=8))
    week = POLICY.row_remap_memory_seconds

    assert judge(state, 2000).score == 94
    assert factors(state, 1999 + week, POLICY).memory == Fraction(3, 10)
    assert factors(state, 2000 + week, POLICY).memory == 0


@pytest.mark.parametrize(
    ("hours", "weight"),
    [(0, Fraction(1, 4)), (12, Fraction(3, 16)), (24, Fraction(1, 8)), (48, Fraction(1, 16)), (72, 0)],
)
def test_an_unresolved_xid_weighs_less_by_the_day_and_nothing_after_three(
    hours: int, weight: Fraction
) -> None:
    """The policy keeps the fault open here, so that only the age of the record counts."""
    lasting = replace(POLICY, xid_count_seconds=10 * 86_400)
    state = fold(good(1000), xid(94, 1000), policy=lasting)
    at = 1000 + hours * 3600

    assert factors(advance(state, at, lasting), at, lasting).xid == weight


@pytest.mark.parametrize(("hours", "shown"), [(0, 90), (24, 95), (48, 97), (71, 98), (72, 100)])
def test_an_xid_weighs_on_for_three_days_after_its_day_as_a_fault(hours: int, shown: int) -> None:
    """Quiet is not repair: a reset makes it 100 at once."""
    at = 1001 + hours * 3600
    state = fold(good(1000), xid(94, 1001), good(at), good(at + 1))
    verdict = judge(state, at + 1)

    assert (verdict.score, verdict.state) == (shown, HealthState.HEALTHY if hours else HealthState.DEGRADED)
    assert verdict.xid_errors == (0 if hours else 1)
    if 0 < hours < 72:
        assert judge(fold(identity(at + 2), good(at + 3), state=state), at + 3).score == 100


def test_a_claim_that_meets_an_old_fault_of_two_others_does_not_renew_its_weight() -> None:
    pair = [xid(13, 1001, claim="a"), xid(13, 1002, claim="b")]
    later = 1002 + 30 * 3600
    state = fold(good(1000), *pair, good(later - 1), xid(13, later, claim="c"), good(later + 1))

    verdict = judge(state, later + 1)
    assert (verdict.state, verdict.xid_errors) == (HealthState.HEALTHY, 0)
    assert verdict.score == judge(fold(good(1000), *pair, good(later + 1)), later + 1).score == 95


def test_bursts_do_not_stack() -> None:
    once = factors(fold(good(1000), xid(94, 1001)), 1001, POLICY)
    many = factors(fold(good(1000), *(xid(94, 1001) for _ in range(50)), xid(63, 1001)), 1001, POLICY)

    assert many == once


def test_heat_is_smoothed_over_the_window_so_that_one_hot_reading_is_nothing() -> None:
    spike = fold(good(1000, thermal_margin_celsius=30), good(1005, thermal_margin_celsius=-20))
    hot = fold(*(good(1000 + 5 * step, thermal_margin_celsius=-5) for step in range(200)))

    assert (spike.heat_step, hot.heat_step) == (0, 2)


@pytest.mark.parametrize(
    ("margin", "step"),
    [(2, 1), (5, 1), (6, 1), (7, 0), (30, 0)],
    ids=["warm", "at it", "within", "past", "cool"],
)
def test_heat_counts_less_again_only_once_it_is_cooler_by_the_hysteresis(margin: int, step: int) -> None:
    warm = [good(1000 + 300 * each, thermal_margin_celsius=4) for each in range(3)]
    cooler = [good(2000 + 300 * each, thermal_margin_celsius=margin) for each in range(3)]

    assert fold(*warm).heat_step == 1
    assert fold(*warm, *cooler).heat_step == step


@pytest.mark.parametrize(
    ("value", "expected"),
    [(100, "high"), (91, "high"), (90, "medium"), (70, "medium"), (69, "low"), (1, "low"), (0, "failed")],
)
def test_classes_meet_without_a_hole(value: int, expected: str) -> None:
    assert health_class(value) is HealthClass(expected)


def test_every_policy_value_is_documented_with_its_default() -> None:
    assert undocumented() == set()
    assert all(value.unit and value.why and value.source for value in VALUES)
    assert [value.name for value in VALUES] == [field.name for field in fields(Policy)]
    assert all(value.minimum <= value.default for value in VALUES)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"dwel_seconds": 1}, "dwel_seconds"),
        ({"dwell_seconds": -1}, "dwell_seconds"),
        ({"blind_seconds": True}, "blind_seconds"),
    ],
)
def test_a_bad_policy_value_is_refused_by_name(values: dict[str, int], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        policy_with(values)


def test_policy_values_can_be_changed() -> None:
    assert policy_with({"dwell_seconds": 1}) == Policy(dwell_seconds=1)


def test_the_list_of_reasons_is_closed_and_fits_a_taint_value() -> None:
    listed = [entry.reason for entry in entries()]

    assert len(listed) == len(set(listed))
    assert all(len(reason) <= 63 and reason.isalnum() for reason in listed)
    assert is_reason("Xid79")
    assert not is_reason("Xid0")
    assert not is_reason("Broken")
