"""The score's worked values, its classes, and the documentation of its policy."""

from fractions import Fraction

import pytest

from gpuvitals.health.policy import Policy, policy_with, undocumented
from gpuvitals.health.reasons import entries, is_reason
from gpuvitals.health.score import Factors, health_class, score
from gpuvitals.model.health import HealthClass

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
    ],
)
def test_one_factor_at_a_time(change: dict[str, Fraction], expected: int) -> None:
    assert score(Factors(**{**NOTHING, **change})) == expected  # type: ignore[arg-type]  # a table of fields


@pytest.mark.parametrize(
    ("value", "expected"),
    [(100, "high"), (91, "high"), (90, "medium"), (70, "medium"), (69, "low"), (1, "low"), (0, "failed")],
)
def test_classes_meet_without_a_hole(value: int, expected: str) -> None:
    assert health_class(value) is HealthClass(expected)


def test_every_policy_value_is_documented_with_its_default() -> None:
    assert undocumented() == set()


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
