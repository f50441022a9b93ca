"""Where a log goes from one boot to the next: what shows it, and that several signs of one boot count once. Pure."""

import re

from gpuvitals.model.clock import Moment

_MARKER = re.compile(rb"-- (?:Boot [0-9a-f]{32}|Reboot) --\s*\Z")
_FALL_SECONDS = 5.0
"""An uptime that falls by more is another boot's; several processors write one log, a little out of order."""
_ONE_BOOT_SECONDS = 120.0
"""Different signs within this time are of one boot."""


def is_boot_marker(line: bytes) -> bool:
    """Whether journalctl printed the line between two boots."""
    return _MARKER.match(line) is not None


class BootSigns:
    """Tells a new boot from a further sign of the one that has just begun."""

    def __init__(self) -> None:
        self._uptime: float | None = None
        self._began_at: float | None = None
        self._signs: set[str] = set()

    def has_fallen(self, uptime: float | None) -> bool:
        """Whether the seconds since boot beside a date show another boot. None tells nothing."""
        if uptime is None:
            return False
        before, self._uptime = self._uptime, uptime
        return before is not None and uptime < before - _FALL_SECONDS

    def is_new(self, sign: str, now: Moment) -> bool:
        """Whether the sign is of a boot that no other sign has shown yet."""
        is_same = (
            self._began_at is not None
            and now.at - self._began_at < _ONE_BOOT_SECONDS
            and sign not in self._signs
        )
        if not is_same:
            self._began_at, self._signs = now.at, set()
        self._signs.add(sign)
        return not is_same
