"""How much of a long run is played: all of it (`make long`), or the slice that a commit's hash chooses (CI).

A long test is marked `long` and takes its counts and cases from here, so that a slice holds a part of every test and
successive commits play different slices. Hypothesis takes the hash as its seed (see the Makefile).
"""

import os
from collections.abc import Sequence
from typing import TypeVar

SLICES = 20
"""A slice is one part of so many."""
SLICE = os.environ.get("GPUVITALS_SLICE", "")
"""The hash of a commit; empty plays everything."""

Case = TypeVar("Case")


def share(total: int) -> int:
    """`total`, or a slice's share of it, at least 1."""
    return max(1, total // SLICES) if SLICE else total


def cases(every: Sequence[Case], chosen_by: str = SLICE) -> list[Case]:
    """All cases of an enumeration, or every `SLICES`th from the one on that the hash chooses; never none."""
    if not chosen_by:
        return list(every)
    return list(every[int(chosen_by[:8], 16) % min(SLICES, len(every)) :: SLICES])
