"""How the lines of a text log are read, found out from its first ones, and when a log begins. Pure."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from itertools import islice

from gpuvitals.replay.chunks import lines_of
from gpuvitals.replay.encodings import as_utf8
from gpuvitals.replay.journal import JournalLine, embedded, entry_stamp, json_object
from gpuvitals.replay.log_line import AnyLine, LogLine, log_line, sniffed
from gpuvitals.replay.prefixes import COLOUR
from gpuvitals.replay.timestamps import RelativeClock, Stamp
from gpuvitals.signals.recorded import heard_time

SNIFFED_LINES = 200
QUOTE = b" \t>|\r"
"""What a log that was pasted into a message has in front of its lines."""


class TextLog:
    """How the lines of a text log are read, found out from its first lines."""

    def __init__(self, head: list[bytes], latest: datetime) -> None:
        self.latest = latest
        self.is_log = False
        self.is_stamped = False
        self.began: Stamp | None = None
        self.sequence: int | None = None
        self._listed = False
        self._quote = b""
        self._relative: RelativeClock | None = None
        for line in head:
            found = self._sniffed(line)
            if found is not None:
                self._begins(found)
                self.began = found.stamp or self._first_relative(line)
                break
            entry = self.embedded(line)
            if entry is not None:
                self.began = entry.stamp
                break

    def parsed(self, line: bytes) -> AnyLine | None:
        """What the line holds."""
        if self.is_log:
            found = log_line(line.removeprefix(self._quote), self.latest, listed=self._listed)
            if self._relative is not None and isinstance(found, LogLine) and found.stamp is None:
                return replace(found, stamp=self._relative.stamp)
            return found
        found = self._sniffed(line)
        if found is not None:
            self._begins(found)
        return found

    def _sniffed(self, line: bytes) -> AnyLine | None:
        """What the line holds, also where it was pasted with an indent or as a quotation."""
        plain = line.lstrip(QUOTE)
        for quote in dict.fromkeys((b"", line[: len(line) - len(plain)])):
            found, listed = sniffed(line.removeprefix(quote), self.latest)
            if found is not None:
                self._listed, self._quote = listed, quote
                if RelativeClock.reads(COLOUR.sub(b"", plain)):
                    self._relative = RelativeClock()
                return found
        return None

    def _first_relative(self, line: bytes) -> Stamp | None:
        """The time of the first line of a log with relative stamps."""
        if self._relative is None:
            return None
        first = RelativeClock()
        first.take(COLOUR.sub(b"", line).removeprefix(self._quote), self.latest)
        return first.stamp

    def pass_by(self, line: bytes) -> None:
        """Has to be called with each line, in order, before it is parsed."""
        if self._relative is not None:
            self._relative.take(COLOUR.sub(b"", line).removeprefix(self._quote), self.latest)

    def embedded(self, line: bytes) -> JournalLine | None:
        """The JSON entry in a line that has no form of its own; None where it holds none."""
        entry = embedded(line, self.latest) if b"{" in line else None
        self.is_log = self.is_log or entry is not None
        return entry

    def _begins(self, found: AnyLine) -> None:
        self.is_log, self.began = True, found.stamp
        self.is_stamped = found.stamp is not None or (isinstance(found, LogLine) and found.is_dated)
        self.sequence = found.sequence if isinstance(found, LogLine) else None


def first_stamp(blocks: Iterable[bytes], latest: datetime) -> Stamp | None:
    """The first time stamp of a log, by which logs can be put in order; None where it has none among its first lines."""
    for line in islice(lines_of(as_utf8(blocks)), SNIFFED_LINES):
        try:
            found = _any_stamp(line, latest)
        except ValueError:
            # What is wrong with the line is told when the log is read.
            return None
        if found is not None:
            return found
    return None


def _any_stamp(line: bytes, latest: datetime) -> Stamp | None:
    if line.startswith(b"{"):
        return stamp_of(json_object(line))
    key, separator, value = line.partition(b"=")
    if separator and key == b"__REALTIME_TIMESTAMP":
        return entry_stamp({"__REALTIME_TIMESTAMP": value.decode("ascii", errors="replace")})
    found = sniffed(line, latest)[0]
    return None if found is None else found.stamp


def stamp_of(entry: dict[str, object]) -> Stamp | None:
    """When a journal entry or an event of the agent was written. Raises ValueError."""
    if "event" in entry:
        return Stamp(heard_time(entry).timestamp(), is_wall=True)
    return entry_stamp(entry)
