"""Results of a replay: timeline entries, isolations with their outcomes, and the final state of each GPU. Pure."""

from dataclasses import dataclass, field
from enum import Enum

from gpuvitals.model.clock import Moment
from gpuvitals.model.health import HealthState, Verdict
from gpuvitals.model.ids import Reason
from gpuvitals.model.signal import Signal
from gpuvitals.replay.advisories import Advisory


@dataclass(frozen=True, slots=True)
class Restart:
    """A restart of the driver, with the node (`what` is `boot`) or alone (`driver load`)."""

    seen: Moment
    what: str


LogEvent = Signal | Restart | Advisory


class Outcome(Enum):
    """The rating of an isolation by the log lines that follow it. docs/guides/replay.md defines it.

    CONFIRMED: another witness agreed, the same fault came back, or the GPU was reset. CONTRADICTED: none of these, and
    applications kept using the GPU. UNDECIDED: the log has no further evidence.
    """

    CONFIRMED = "confirmed"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"


@dataclass(slots=True)
class Isolation:
    """One period in which a GPU would have been out of service. `ended_at` is None if it lasts to the end of the log.

    `is_settled`: the node booted or the driver was reloaded since, so later lines are no evidence about it.
    """

    gpu: str
    reason: Reason
    began: Moment
    number: int
    outcome: Outcome = Outcome.UNDECIDED
    because: str = "no further evidence in the log"
    ended_at: float | None = None
    is_settled: bool = False


class EntryKind(Enum):
    """The kind of a timeline entry; the values are part of the JSON output."""

    VERDICT = "verdict"
    ISOLATED = "isolated"
    RETURNED = "returned"
    BURST = "burst"
    NODE = "node"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """One line of the timeline. `gpu` is empty for an entry about the node."""

    kind: EntryKind
    seen: Moment
    gpu: str
    text: str
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSummary:
    """The state of one GPU at the end of the log, with advice for an operator.

    `xids` are pairs of code and number of lines. `seconds_out` is the total time out of service.
    """

    gpu: str
    uuid: str
    verdict: Verdict
    is_isolated: bool
    since: Moment
    next_change_seconds: float | None
    advice: str
    xids: tuple[tuple[int, int], ...]
    isolations: int
    seconds_out: float

    @property
    def is_well(self) -> bool:
        """Whether the GPU is healthy, so that no advice is needed."""
        return self.verdict.state is HealthState.HEALTHY


@dataclass(slots=True)
class Tally:
    """Totals of one replay: isolations by outcome, restarts, NVSwitch errors and lines that name no GPU.

    The field names, except `kept`, are keys of the JSON summary.
    """

    isolations: int = 0
    confirmed: int = 0
    contradicted: int = 0
    undecided: int = 0
    boots: int = 0
    driver_loads: int = 0
    switch_errors: int = 0
    fatal_switch_errors: int = 0
    unrated_switch_errors: int = 0
    unattributed: int = 0
    kept: list[Isolation] = field(default_factory=list)

    def close(self, isolation: Isolation) -> None:
        """Counts an isolation by its final outcome."""
        match isolation.outcome:
            case Outcome.CONFIRMED:
                self.confirmed += 1
            case Outcome.CONTRADICTED:
                self.contradicted += 1
            case Outcome.UNDECIDED:
                self.undecided += 1
