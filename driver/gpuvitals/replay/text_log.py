"""How the lines of a text log are read, found out from its first ones, and when a log begins. Pure."""

from collections.abc import Iterable
from datetime import datetime
from itertools import islice

from gpuvitals.replay.blocks import lines_of
from gpuvitals.replay.encodings import as_utf8
from gpuvitals.replay.journal import JournalLine, embedded, entry_stamp, json_object
from gpuvitals.replay.log_line import AnyLine, LogLine, log_line, sniffed
from gpuvitals.replay.stamps import Stamp
from gpuvitals.signals.recorded import heard_time

SNIFFED_LINES = 200


class TextLog:
    """How the lines of a text log are read, found out from its first lines."""

    def __init__(self, head: list[bytes], latest: datetime) -> None:
        self.latest = latest
        self.is_log = False
        self.is_stamped = False
        self.began: Stamp | None = None
        self.sequence: int | None = None
        self._listed = False
        for line in head:
            found, listed = sniffed(line, latest)
            if found is not None:
                self._listed = listed
                self._begins(found)
                break
            entry = self.embedded(line)
            if entry is not None:
                self.began = entry.stamp
                break

    def parsed(self, line: bytes) -> AnyLine | None:
        """What the line holds."""
        if self.is_log:
            return log_line(line, self.latest, listed=self._listed)
        found, self._listed = sniffed(line, self.latest)
        if found is not None:
            self._begins(found)
        return found

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
