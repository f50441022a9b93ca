"""Repairs of slices that somebody else keeps changing."""

import pytest

from gpuvitals.kube.slices.repair_budget import QuarrelBudget


def repairs(budget: QuarrelBudget, start: int, seconds: int) -> int:
    """The number of repairs for a writer that needs one every tenth of a second."""
    steps = range(start * 10, (start + seconds) * 10)
    return sum(budget.take(step / 10, is_new=False) == 0 for step in steps)


def test_a_quarrel_that_lasts_is_six_writes_a_minute() -> None:
    """Finding K5, for a controller in place of a webhook."""
    budget = QuarrelBudget()
    first = repairs(budget, 0, 60)

    assert 30 <= first <= 37
    assert 5 <= repairs(budget, 60, 60) <= 7
    assert 355 <= repairs(budget, 120, 3600) <= 365


@pytest.mark.parametrize("spacing", [10, 60])
def test_a_change_now_and_then_is_repaired_at_once(spacing: int) -> None:
    budget = QuarrelBudget()

    assert [budget.take(float(at), is_new=False) for at in range(0, 100 * spacing, spacing)] == [0.0] * 100


def test_a_fault_that_was_never_stored_waits_a_second_at_most() -> None:
    """Finding K5: it does not wait for the quarrel of before."""
    budget = QuarrelBudget()
    repairs(budget, 0, 122)

    assert budget.take(122.0, is_new=False) > 2
    assert budget.take(122.0, is_new=True) <= 1
