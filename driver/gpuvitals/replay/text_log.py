"""Detection of the line format of a text log from its first lines, and of the log's start time. Pure."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from itertools import islice

from gpuvitals.replay.chunks import lines_of
from gpuvitals.replay.encodings import as_utf8
from gpuvitals.replay.journal import JournalLine, embedded, entry_stamp, json_object
from gpuvitals.replay.log_line import LogLine, ParsedLine, detected, log_line
from gpuvitals.replay.prefixes import COLOUR
from gpuvitals.replay.timestamps import RelativeClock, Stamp
from gpuvitals.signals.recording import received_time

DETECTION_LINES = 200
QUOTE = b" \t>|\r"
"""Characters in front of lines that were pasted into a message."""


class TextLog:
    """A text log with the line format that its first lines have."""

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
            found = self._detect(line)
            if found is not None:
                self._start(found)
                self.began = found.stamp or self._first_relative(line)
                break
            entry = self.embedded(line)
            if entry is not None:
                self.began = entry.stamp
                break

    def parse(self, line: bytes) -> ParsedLine | None:
        """The parsed line; None if its format is unknown."""
        if self.is_log:
            found = log_line(line.removeprefix(self._quote), self.latest, listed=self._listed)
            if self._relative is not None and isinstance(found, LogLine) and found.stamp is None:
                return replace(found, stamp=self._relative.stamp)
            return found
        found = self._detect(line)
        if found is not None:
            self._start(found)
        return found

    def _detect(self, line: bytes) -> ParsedLine | None:
        """The parsed line, also with an indent or quotation marks in front. Stores the format found."""
        plain = line.lstrip(QUOTE)
        for quote in dict.fromkeys((b"", line[: len(line) - len(plain)])):
            found, listed = detected(line.removeprefix(quote), self.latest)
            if found is not None:
                self._listed, self._quote = listed, quote
                if RelativeClock.matches(COLOUR.sub(b"", plain)):
                    self._relative = RelativeClock()
                return found
        return None

    def _first_relative(self, line: bytes) -> Stamp | None:
        """The time of the first line of a log with relative stamps."""
        if self._relative is None:
            return None
        first = RelativeClock()
        first.advance(COLOUR.sub(b"", line).removeprefix(self._quote), self.latest)
        return first.stamp

    def advance(self, line: bytes) -> None:
        """Advances the clock of relative time stamps. Call with each line, in order, before `parse`."""
        if self._relative is not None:
            self._relative.advance(COLOUR.sub(b"", line).removeprefix(self._quote), self.latest)

    def embedded(self, line: bytes) -> JournalLine | None:
        """The JSON entry within a line of unknown format; None if there is none."""
        entry = embedded(line, self.latest) if b"{" in line else None
        self.is_log = self.is_log or entry is not None
        return entry

    def _start(self, found: ParsedLine) -> None:
        self.is_log, self.began = True, found.stamp
        self.is_stamped = found.stamp is not None or (isinstance(found, LogLine) and found.is_dated)
        self.sequence = found.sequence if isinstance(found, LogLine) else None


def first_stamp(blocks: Iterable[bytes], latest: datetime) -> Stamp | None:
    """The first time stamp of a log, used to sort logs; None if its first lines have none."""
    for line in islice(lines_of(as_utf8(blocks)), DETECTION_LINES):
        try:
            found = _any_stamp(line, latest)
        except ValueError:
            # The error is reported when the log is read.
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
    found = detected(line, latest)[0]
    return None if found is None else found.stamp


def stamp_of(entry: dict[str, object]) -> Stamp | None:
    """The time stamp of a journal entry or of a recorded agent event. Raises ValueError."""
    if "event" in entry:
        return Stamp(received_time(entry).timestamp(), is_wall=True)
    return entry_stamp(entry)
