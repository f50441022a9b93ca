"""When a line of a saved log was written, in the ways in which logs say so. Pure."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

_MONTHS = {
    name: number
    for number, name in enumerate(
        (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"), 1
    )
}
_MONTH = b"(" + b"|".join(_MONTHS) + b")"
BOOT = re.compile(rb"\[ *([0-9]{1,10}\.[0-9]{1,9})\](?:\[ *[TC][0-9]+\])? ")
"""`[ 1234.567890] `, with the caller behind it where the kernel is built to tell."""
HUMAN = re.compile(
    rb"\[[A-Z][a-z]{2} " + _MONTH + rb" {1,2}([0-9]{1,2}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([0-9]{4})\] "
)
"""`dmesg -T`: `[Tue Nov 24 10:00:00 2026] `."""
ISO = re.compile(
    rb"([0-9]{4})-([0-9]{2})-([0-9]{2})[T ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]{1,9}))?"
    rb"(Z|[+-][0-9]{2}:?[0-9]{2})? "
)
"""`dmesg --time-format iso`, `journalctl -o short-iso`, and the syslog files of today."""
SYSLOG = re.compile(_MONTH + rb" {1,2}([0-9]{1,2}) ([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))? ")
"""Syslog files of old: `Nov 24 10:00:00 `, without a year."""
RELATIVE = re.compile(rb"\[(?:[A-Z][a-z]{2} ?[0-9]{1,2} [0-9]{2}:[0-9]{2}| *\+[0-9.]+)\] ")
"""`dmesg -H`: the time since the line before, which says nothing of a line alone."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Seconds: of the epoch where `is_wall`, else since boot."""

    seconds: float
    is_wall: bool


def boot_stamp(match: re.Match[bytes]) -> Stamp:
    """The stamp of a BOOT match."""
    return Stamp(float(match[1]), is_wall=False)


def human_stamp(match: re.Match[bytes]) -> Stamp | None:
    """The stamp of a HUMAN match; None for a date that does not exist. It tells no zone: taken to be UTC."""
    month, day, hour, minute, second, year = match.groups()
    return _wall(int(year), _MONTHS[month], (day, hour, minute, second))


def iso_stamp(match: re.Match[bytes]) -> Stamp | None:
    """The stamp of an ISO match; None for a date that does not exist. Without a zone it is taken to be UTC."""
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    stamp = _wall(int(year), int(month), (day, hour, minute, second))
    if stamp is None:
        return None
    return Stamp(stamp.seconds + _fraction(fraction) - _zone_seconds(zone), is_wall=True)


def syslog_stamp(match: re.Match[bytes], latest: datetime) -> Stamp | None:
    """The stamp of a SYSLOG match, in the last year in which it is not after `latest` by more than a day."""
    month, day, hour, minute, second, fraction = match.groups()
    # Nine years back there is a 29 February for sure.
    for year in range(latest.year + 1, latest.year - 9, -1):
        stamp = _wall(year, _MONTHS[month], (day, hour, minute, second))
        if stamp is not None and stamp.seconds <= (latest + timedelta(days=1)).timestamp():
            return Stamp(stamp.seconds + _fraction(fraction), is_wall=True)
    return None


def _wall(year: int, month: int, rest: tuple[bytes, ...]) -> Stamp | None:
    day, hour, minute, second = (int(number) for number in rest)
    try:
        # 60 is a leap second, which no clock of ours has.
        found = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
    except ValueError:
        return None
    return Stamp(found.timestamp(), is_wall=True)


def _fraction(digits: bytes | None) -> float:
    return float(b"0." + digits) if digits else 0.0


def _zone_seconds(zone: bytes | None) -> float:
    if zone in (None, b"Z"):
        return 0.0
    assert zone is not None
    hours, minutes = int(zone[1:3]), int(zone[-2:])
    offset = timezone(min(timedelta(hours=hours, minutes=minutes), timedelta(hours=23))).utcoffset(None)
    return offset.total_seconds() * (-1 if zone.startswith(b"-") else 1)
