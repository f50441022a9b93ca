"""Time as a value: the core reads no clock, it is passed Moments."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One instant on two clocks.

    `at` is seconds since boot on CLOCK_BOOTTIME, which never jumps and continues during suspend. Windows and dwells are
    measured with it, also across a restart of the agent. `time` is the aware wall-clock time, for display only.
    """

    at: float
    time: datetime

    def __post_init__(self) -> None:
        if self.time.tzinfo is None:
            raise ValueError(f"moment: time {self.time.isoformat()} has no time zone")


class Clock(Protocol):
    """Supplies Moments. Contract: `at` never decreases within one boot."""

    def now(self) -> Moment:
        """The present Moment."""
        ...
