"""What a replay finds: happenings in their order, isolations with what became of them, and where it all ended. Pure."""

from dataclasses import dataclass, field
from enum import Enum

from gpuvitals.model.clock import Moment
from gpuvitals.model.health import HealthState, Verdict
from gpuvitals.model.ids import Reason
from gpuvitals.model.signal import Signal
from gpuvitals.replay.hints import Hint


@dataclass(frozen=True, slots=True)
class Booted:
    """The driver began anew: with the node (`boot`) or alone (`driver load`)."""

    seen: Moment
    what: str


Heard = Signal | Booted | Hint


class Outcome(Enum):
    """What the rest of the log says about an isolation, as long as it lasted. docs/guides/replay.md defines it.

    CONFIRMED: something else agreed, the same fault came back, or the GPU was reset. CONTRADICTED: nothing did, and
    applications worked on with it. UNDECIDED: the log says nothing more about it.
    """

    CONFIRMED = "confirmed"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"


@dataclass(slots=True)
class Isolation:
    """One time that a GPU would have been out of service. `ended_at` None: to the end of the log.

    `is_settled`: the node booted or the driver was loaded since, so that later lines say nothing about it.
    """

    gpu: str
    reason: Reason
    began: Moment
    number: int
    outcome: Outcome = Outcome.UNDECIDED
    because: str = "nothing more was logged about it"
    ended_at: float | None = None
    is_settled: bool = False


class Kind(Enum):
    """What happened."""

    VERDICT = "verdict"
    ISOLATED = "isolated"
    RETURNED = "returned"
    BURST = "burst"
    NODE = "node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One line of the timeline. `gpu` is empty for what concerns the node."""

    kind: Kind
    seen: Moment
    gpu: str
    text: str
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuEnd:
    """How the log leaves one GPU: its verdict, since when, what would clear it, and what a person should do."""

    gpu: str
    uuid: str
    verdict: Verdict
    is_isolated: bool
    since: Moment
    next_change_seconds: float | None
    person: str
    xids: tuple[tuple[int, int], ...]
    isolations: int
    seconds_out: float

    @property
    def is_well(self) -> bool:
        """Whether nothing has to be said about it."""
        return self.verdict.state is HealthState.HEALTHY


@dataclass(slots=True)
class Tally:
    """What became of the isolations of a policy, and what the node itself met."""

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
        """Counts an isolation whose outcome is settled."""
        match isolation.outcome:
            case Outcome.CONFIRMED:
                self.confirmed += 1
            case Outcome.CONTRADICTED:
                self.contradicted += 1
            case Outcome.UNDECIDED:
                self.undecided += 1
