"""Figures, their targets and outcomes. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from benchmarks.harness.stats import median, paired_ratio, spread


class Outcome(Enum):
    """Outcome of a target. UNCLEAR: missed by less than the spread of the peer's own rounds."""

    HELD = "held"
    UNCLEAR = "unclear"
    MISSED = "missed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """At most `ratio` times the peer, or at most `limit` in the figure's own unit."""

    ratio: float | None = None
    limit: float | None = None

    def __str__(self) -> str:
        return f"<= {self.ratio:g}x" if self.ratio is not None else f"<= {self.limit:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure of one benchmark: a value per round on each side. `peer` is empty if the peer has no such figure."""

    benchmark: str
    name: str
    unit: str
    ours: Sequence[float]
    peer: Sequence[float] = ()
    targets: Sequence[Target] = field(default=())

    @property
    def ratio(self) -> float | None:
        """Ours over the peer's, the median of the rounds."""
        return paired_ratio(self.ours, self.peer)

    @property
    def noise(self) -> float | None:
        """The spread of the peer's rounds; None without a peer."""
        return spread(self.peer) if self.peer else None

    def outcome(self, target: Target) -> Outcome:
        """The outcome of a target; a limit is never UNCLEAR."""
        if target.ratio is None:
            assert target.limit is not None
            return Outcome.HELD if median(self.ours) <= target.limit else Outcome.MISSED
        ratio = self.ratio
        if ratio is None or ratio <= target.ratio:
            return Outcome.HELD
        return Outcome.UNCLEAR if ratio <= target.ratio * (1 + (self.noise or 0.0)) else Outcome.MISSED


def is_failure(figures: Sequence[Figure]) -> bool:
    """Whether a ratio was missed beyond the noise. A missed limit is no failure: it depends on the machine."""
    return any(
        target.ratio is not None and figure.outcome(target) is Outcome.MISSED
        for figure in figures
        for target in figure.targets
    )
