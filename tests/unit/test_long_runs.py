"""A slice of a long run is a part of it, and the slices together are the whole."""

import pytest

from support.long_runs import SLICES, cases


@pytest.mark.parametrize("count", [1, 3, SLICES, 7 * SLICES + 3])
def test_the_slices_together_are_every_case(count: int) -> None:
    every = list(range(count))
    slices = [cases(every, f"{number:08x}" + "f" * 32) for number in range(SLICES)]

    assert all(slices)
    assert {case for played in slices for case in played} == set(every)
    assert max(len(played) for played in slices) <= count // SLICES + 1


def test_without_a_hash_everything_is_played() -> None:
    assert cases([1, 2, 3], "") == [1, 2, 3]
