"""A monotonic clock over the time stamps of a log, which can step back. Pure."""

from datetime import UTC, datetime, timedelta

from gpuvitals.model.clock import Moment
from gpuvitals.replay.timestamps import Stamp

_JITTER_SECONDS = 1.0
"""Time stamps may be out of order by this much: several CPUs write one log."""
_BOOT_STEP_SECONDS = 5.0
"""A larger step back of time stamps since boot means another boot."""
_EPOCH = datetime.fromtimestamp(0, UTC)
_LONGEST_SECONDS = 1e11
"""Later stamps are capped: a defective or forged stamp must stay within the range of datetime."""


class LogClock:
    """Converts the time stamps of a log, in order, into Moments. A stamp that steps back does not move the clock.

    `steps_back` counts such stamps. For stamps since boot the wall clock is unknown, and `time` counts from 1970.
    """

    def __init__(self) -> None:
        self.steps_back = 0
        self.is_wall = False
        self.began: Moment | None = None
        self._now = Moment(at=0.0, time=_EPOCH)
        self._offset = 0.0
        self._last: Stamp | None = None

    @property
    def now(self) -> Moment:
        """The Moment of the newest stamp."""
        return self._now

    def advance(self, stamp: Stamp | None) -> bool:
        """Advances to the stamp. True if it shows a new boot. None leaves the clock unchanged."""
        if stamp is None:
            return False
        stamp = Stamp(min(stamp.seconds, _LONGEST_SECONDS), stamp.is_wall)
        is_boot = False
        if self._last is None:
            self._offset = 0.0
        elif self._last.is_wall is not stamp.is_wall:
            self._offset = self._now.at - stamp.seconds
        elif stamp.seconds < self._last.seconds - _JITTER_SECONDS:
            is_boot = not stamp.is_wall and stamp.seconds < self._last.seconds - _BOOT_STEP_SECONDS
            self.steps_back += not is_boot
            self._offset = self._now.at - stamp.seconds
        self._last = stamp
        self.is_wall = stamp.is_wall
        at = max(self._now.at, stamp.seconds + self._offset)
        self._now = Moment(at=at, time=_EPOCH + timedelta(seconds=stamp.seconds if stamp.is_wall else at))
        if self.began is None:
            self.began = self._now
        return is_boot
