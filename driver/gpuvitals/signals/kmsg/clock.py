"""Converts the stamps of kernel records to the boot clock, so that every Moment of a node is on one clock. Pure.

The kernel stamps its records with a clock that excludes suspends and pauses of a virtual machine, and that is not
disciplined: it lags CLOCK_BOOTTIME by seconds to hours, or leads it a little. The difference is measured: a record that
was read at once was written now.
Source: Linux kernel/printk/printk.c (local_clock), Documentation/timers/timekeeping.rst.
"""

from datetime import timedelta

from gpuvitals.model.clock import Moment

_MAX_LEAD_SECONDS = 3600.0
"""A stamp further ahead of the boot clock is a defect, and nothing is measured by it."""


def is_stamp(seconds: float, now: float) -> bool:
    """Whether something can be measured by a stamp that is read at the boot-clock instant `now`."""
    return seconds <= now + _MAX_LEAD_SECONDS


class StampClock:
    """Converts stamps in the order of their records: no record gets an earlier Moment than the one before it."""

    def __init__(self) -> None:
        self._offset = 0.0
        self._earliest = 0.0

    @property
    def lag_seconds(self) -> float:
        """How far the stamps lag the boot clock, as last measured."""
        return self._offset

    def measure(self, stamp_seconds: float, written_at: float) -> None:
        """Takes the record of that stamp, the newest one, to be written at the boot-clock instant `written_at`.

        Too late by the time that reading took, never too early: a fault must not seem older than its repair.
        """
        self._offset = written_at - stamp_seconds

    def read_to_the_end(self, at: float) -> None:
        """Records that come from now on were written after the boot-clock instant `at`."""
        self._earliest = max(self._earliest, at)

    def moment(self, stamp_seconds: float, now: Moment) -> Moment:
        """When the next record was written. Never in the future, whatever its stamp is."""
        at = min(now.at, max(self._earliest, stamp_seconds + self._offset))
        self._earliest = at
        return Moment(at=at, time=now.time - timedelta(seconds=now.at - at))
