"""The arithmetic of a comparison. Pure."""

import statistics
from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that a `share` (0..1) of the values does not exceed. Raises ValueError for no values."""
    if not values:
        raise ValueError("no values: a percentile needs one at least")
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, -(-round(share * len(ordered) * 1000) // 1000) - 1))]


def median(values: Sequence[float]) -> float:
    """The median. Raises statistics.StatisticsError for no values."""
    return statistics.median(values)


def paired_ratio(ours: Sequence[float], peer: Sequence[float]) -> float | None:
    """The median over rounds of ours / peer, paired by round. None without pairs, or with a peer of 0."""
    pairs = list(zip(ours, peer, strict=False))
    if not pairs or any(theirs == 0 for _, theirs in pairs):
        return None
    return median([mine / theirs for mine, theirs in pairs])


def spread(values: Sequence[float]) -> float:
    """The range of the rounds as a share of their median: the noise of the machine. 0 for one round."""
    middle = median(values)
    return (max(values) - min(values)) / middle if middle else 0.0
