"""Parses the time stamps of log lines in all supported formats. Pure."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gpuvitals.replay.months import month_number

_CLOCK = rb"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DELTA = rb"(?: *<[ +]*[0-9.]* ?>| {8,})?"
"""The time since the line before, as `dmesg -d` and `journalctl -o short-delta` print it after the stamp."""
_CALLER = rb"(?: ?\[ *[TC][0-9]+\])?"
_WORD = rb"[^\s:\[\]<>]{1,16}"

BOOT = re.compile(rb"\[ *(?P<uptime>[0-9]{1,10}\.[0-9]{1,9})" + _DELTA + rb"\]" + _CALLER + rb" ?")
"""`[ 1234.567890] `, followed by the caller if the kernel is built with CONFIG_PRINTK_CALLER."""
_HUMAN = re.compile(
    rb"\[" + _WORD + rb" (?P<month>" + _WORD + rb") {1,2}(?P<day>[0-9]{1,2}) " + _CLOCK + rb" (?P<year>[0-9]{4})"
    + _DELTA + rb"\]" + _CALLER + rb" "
)  # fmt: skip
"""`dmesg -T`: `[Tue Nov 24 10:00:00 2026] `."""
_ISO = re.compile(
    rb"\[?(?:" + _WORD + rb" )?(?P<year>[0-9]{4})[-/](?P<month>[0-9]{2})[-/](?P<day>[0-9]{2})[T ]" + _CLOCK
    + rb"(?:[.,](?P<fraction>[0-9]{1,9}))?(?P<zone>Z| ?[+-][0-9]{2}:?[0-9]{2}| [+-][0-9]{2}| [A-Z]{3,5})?"
    + _DELTA + rb"\]?:?" + _CALLER + rb"(?: |\Z)"
)  # fmt: skip
"""`dmesg --time-format iso`, `journalctl -o short-iso` and `-o short-full`, kubectl, Talos and current syslog files."""
_SYSLOG = re.compile(
    rb"(?:(?:" + _WORD + rb" )?(?P<month>" + _WORD + rb") {1,2}(?P<day>[0-9]{1,2}),? (?:(?P<before>[0-9]{4}) )?"
    + _CLOCK + rb"(?:\.(?P<fraction>[0-9]{1,9}))?(?: (?P<year>(?:19|20)[0-9]{2}))?)(?: |\Z)"
)  # fmt: skip
"""Traditional syslog files and journalctl: `Nov 24 10:00:00 `; some devices add the year."""
_UNIX = re.compile(rb"(?P<seconds>[0-9]{9,11}\.[0-9]{1,9}) ")
"""`journalctl -o short-unix`."""
_RELATIVE = re.compile(
    rb"\[(?:(?P<month>" + _WORD + rb"?) ?(?P<day>[0-9]{1,2}) (?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})"
    rb"| *[+<][ +]*(?P<delta>[0-9]{1,10}(?:\.[0-9]{1,9})?)>?)\]" + _CALLER + rb" "
)  # fmt: skip
"""`dmesg -H`: the date and minute when the minute changes, else the time since the line before."""

_ZONES = {
    b"EST": -5.0, b"EDT": -4.0, b"CST": -6.0, b"CDT": -5.0, b"MST": -7.0, b"MDT": -6.0, b"PST": -8.0, b"PDT": -7.0,
    b"WEST": 1.0, b"BST": 1.0, b"CET": 1.0, b"CEST": 2.0, b"EET": 2.0, b"EEST": 3.0, b"MSK": 3.0, b"IST": 5.5,
    b"SGT": 8.0, b"HKT": 8.0, b"JST": 9.0, b"KST": 9.0, b"AEST": 10.0, b"AEDT": 11.0, b"NZST": 12.0, b"NZDT": 13.0,
}  # fmt: skip
"""UTC offsets in hours of the abbreviations that `journalctl -o short-full` prints. Others count as UTC."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Seconds since 1970 if `is_wall`, else since boot."""

    seconds: float
    is_wall: bool


@dataclass(frozen=True, slots=True)
class Stamped:
    """A time stamp at the start of a line. `stamp` is None if its date can't be parsed. The text begins at `end`.

    `is_kernel_form`: only dmesg prints this format, so no program tag follows.
    """

    stamp: Stamp | None
    end: int
    is_kernel_form: bool


def stamp_at_start(line: bytes, latest: datetime) -> Stamped | None:
    """The stamp at the start of a line, None without one. `latest` determines the year of a stamp without one."""
    if line.startswith(b"["):
        if match := BOOT.match(line):
            return Stamped(Stamp(float(match["uptime"]), is_wall=False), match.end(), is_kernel_form=False)
        if match := _HUMAN.match(line):
            return Stamped(_dated(match, int(match["year"])), match.end(), is_kernel_form=True)
        if match := _RELATIVE.match(line):
            return Stamped(None, match.end(), is_kernel_form=True)
    if match := _ISO.match(line):
        return Stamped(_dated(match, int(match["year"])), match.end(), is_kernel_form=False)
    if match := _UNIX.match(line):
        return Stamped(Stamp(float(match["seconds"]), is_wall=True), match.end(), is_kernel_form=False)
    if match := _SYSLOG.match(line):
        year = match["year"] or match["before"]
        stamp = _dated(match, int(year)) if year else _without_year(match, latest)
        return Stamped(stamp, match.end(), is_kernel_form=False)
    return None


class RelativeClock:
    """The clock of a log with relative time stamps. `advance` has to be called with every line, in order."""

    def __init__(self) -> None:
        self.stamp: Stamp | None = None

    @staticmethod
    def matches(line: bytes) -> bool:
        """Whether the line has a relative time stamp."""
        return _RELATIVE.match(line) is not None

    def advance(self, line: bytes, latest: datetime) -> None:
        """Advances by the line's stamp. A line without one has the time of the line before."""
        match = _RELATIVE.match(line)
        if match is None:
            return
        if match["delta"] is None:
            self.stamp = _without_year(match, latest) or self.stamp
        else:
            before = self.stamp or Stamp(0.0, is_wall=False)
            self.stamp = Stamp(before.seconds + float(match["delta"]), before.is_wall)


def wall_stamp(text: str) -> Stamp | None:
    """The stamp of a date in a JSON field; None if the text is not a date."""
    match = _ISO.match(text.encode(errors="replace"))
    return None if match is None else _dated(match, int(match["year"]))


def _without_year(match: re.Match[bytes], latest: datetime) -> Stamp | None:
    """The stamp in the latest year for which it is at most a day after `latest`."""
    # Nine years include at least one 29 February, also around 2100.
    for year in range(latest.year + 1, latest.year - 9, -1):
        stamp = _dated(match, year)
        if stamp is not None and stamp.seconds <= (latest + timedelta(days=1)).timestamp():
            return stamp
    return None


def _dated(match: re.Match[bytes], year: int) -> Stamp | None:
    """The stamp of a match; None for a date that does not exist. A stamp without a zone is in UTC."""
    named = match.groupdict()
    month = int(named["month"]) if named["month"].isdigit() else month_number(named["month"])
    if month is None:
        return None
    day, hour, minute, second = (int(named.get(part) or 0) for part in ("day", "hour", "minute", "second"))
    try:
        # 60 is a leap second, which datetime does not support.
        found = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
    except ValueError:
        return None
    fraction = named.get("fraction")
    seconds = found.timestamp() + (float(b"0." + fraction) if fraction else 0.0)
    return Stamp(seconds - _zone_seconds((named.get("zone") or b"").strip()), is_wall=True)


def _zone_seconds(zone: bytes) -> float:
    if not zone.startswith((b"+", b"-")):
        return 3600 * _ZONES.get(zone, 0.0)
    minutes = 60 * int(zone[1:3]) + int(zone[3:].lstrip(b":") or 0)
    return min(60.0 * minutes, 23 * 3600.0) * (-1 if zone.startswith(b"-") else 1)
