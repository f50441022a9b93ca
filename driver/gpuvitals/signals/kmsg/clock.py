"""Converts the timestamps of kernel records to CLOCK_BOOTTIME, so that all Moments of a node are on one clock. Pure.

The clock of the kernel log stops during suspend and while a virtual machine is paused, and it is not disciplined: it
lags CLOCK_BOOTTIME by seconds to hours, or leads it a little. The offset is measured on records that are read at once.
Source: Linux kernel/printk/printk.c (local_clock), Documentation/timers/timekeeping.rst.
"""

from datetime import timedelta

from gpuvitals.model.clock import Moment

_MAX_LEAD_SECONDS = 3600.0
"""A timestamp further ahead of the boot clock is a defect, and is not used to measure the offset."""


def is_stamp(seconds: float, now: float) -> bool:
    """Whether a timestamp that is read at the boot-clock instant `now` can be used to measure the offset."""
    return seconds <= now + _MAX_LEAD_SECONDS


class StampClock:
    """Converts timestamps in the order of their records: Moments never decrease from one record to the next."""

    def __init__(self) -> None:
        self._offset = 0.0
        self._earliest = 0.0

    @property
    def lag_seconds(self) -> float:
        """The last measured lag of the kernel log's clock behind the boot clock."""
        return self._offset

    def measure(self, stamp_seconds: float, written_at: float) -> None:
        """Measures the offset: the newest record has this timestamp and was written at the boot-clock instant `written_at`.

        `written_at` may be late by the time that reading took, but never early: a fault must not seem older than its
        repair.
        """
        self._offset = written_at - stamp_seconds

    def reached_end(self, at: float) -> None:
        """Sets the earliest boot-clock instant of all later records, once the log was read to its end."""
        self._earliest = max(self._earliest, at)

    def moment(self, stamp_seconds: float, now: Moment) -> Moment:
        """The Moment of the next record, at most `now`."""
        at = min(now.at, max(self._earliest, stamp_seconds + self._offset))
        self._earliest = at
        return Moment(at=at, time=now.time - timedelta(seconds=now.at - at))
