"""Time as a value: nothing below the edges reads a clock, it is given a Moment."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One instant on two clocks.

    `at` is seconds since boot on a clock that never jumps and runs on during suspend (CLOCK_BOOTTIME), so windows and
    dwells are measured with it, also across a restart of the agent. `time` is aware wall-clock time, for people only.
    """

    at: float
    time: datetime

    def __post_init__(self) -> None:
        if self.time.tzinfo is None:
            raise ValueError(f"moment: time {self.time.isoformat()} has no time zone")


class Clock(Protocol):
    """Where Moments come from. Contract: `at` never decreases between two calls of one boot."""

    def now(self) -> Moment:
        """The present Moment."""
        ...
