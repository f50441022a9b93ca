"""Detection of boots in a log. Several signs of one boot count once. Pure."""

import re

from gpuvitals.model.clock import Moment

_MARKER = re.compile(rb"-- (?:Boot [0-9a-f]{32}|Reboot) --\s*\Z")
_FALL_SECONDS = 5.0
"""A larger decrease of the uptime means a new boot; CPUs write to the log slightly out of order."""
_ONE_BOOT_SECONDS = 120.0
"""Different signs within this time belong to one boot."""


def is_boot_marker(line: bytes) -> bool:
    """Whether journalctl printed the line between two boots."""
    return _MARKER.match(line) is not None


class BootDetector:
    """Distinguishes a new boot from a further sign of the boot that has just begun."""

    def __init__(self) -> None:
        self._uptime: float | None = None
        self._began_at: float | None = None
        self._signs: set[str] = set()

    def uptime_fell(self, uptime: float | None) -> bool:
        """Whether the uptime fell since the last call, which means a new boot. None is ignored."""
        if uptime is None:
            return False
        before, self._uptime = self._uptime, uptime
        return before is not None and uptime < before - _FALL_SECONDS

    def is_new_boot(self, sign: str, now: Moment) -> bool:
        """Whether the sign is the first one of its boot."""
        is_same = (
            self._began_at is not None
            and now.at - self._began_at < _ONE_BOOT_SECONDS
            and sign not in self._signs
        )
        if not is_same:
            self._began_at, self._signs = now.at, set()
        self._signs.add(sign)
        return not is_same
