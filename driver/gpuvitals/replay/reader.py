"""Reads saved logs of a node in their order: what they say of its GPUs, and where a boot or a driver load lies between.

Nearly every line of a log is of no interest. It costs a search for three words; only the rest is taken apart.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain, islice

from gpuvitals.model.clock import Moment
from gpuvitals.model.signal import GapReport, Signal, Source
from gpuvitals.replay.blocks import ExportError, exported, lines_of
from gpuvitals.replay.findings import Booted, Heard
from gpuvitals.replay.journal import JournalLine, from_export, from_json, json_object, realtime_stamp
from gpuvitals.replay.log_clock import LogClock
from gpuvitals.replay.log_line import (
    BOOT_TEXT,
    LOAD_TEXT,
    LogLine,
    MalformedLine,
    OtherLine,
    last_load_line,
    log_line,
)
from gpuvitals.replay.stamps import Stamp
from gpuvitals.signals.kernel_signals import kernel_signal
from gpuvitals.signals.recorded import HeardSignal, heard_time, signal_of_event
from gpuvitals.signals.xid_line import LineKind, XidClassifier

_SNIFFED_LINES = 200
_DRIVER, _SWITCH, _BOOT = b"NVRM", b"nvidia-nvswitch", BOOT_TEXT.encode()
_DRIVER_AS_NUMBERS, _EVENT = b"[78,86,82,77", b'"signal"'
_START_BYTES = 64
_EXPORT_START = (b"__CURSOR=", b"__REALTIME_TIMESTAMP=", b"_BOOT_ID=", b"__SEQNUM=")
_REALTIME = b"__REALTIME_TIMESTAMP"
_SEQUENCE = re.compile(rb"[0-9]{1,4},([0-9]{1,20}),")


class LogError(Exception):
    """The input is at fault. The message names file and line."""


@dataclass(slots=True)
class Counts:
    """What was read so far. `about_gpus` are lines and recorded signals that say something about a GPU or a switch."""

    files: int = 0
    lines: int = 0
    about_gpus: int = 0
    spoofed: int = 0
    malformed: int = 0
    lost: int = 0


class LogReader:
    """Reads one file after the other, oldest first. `counts` and `clock` are as of the last thing that was heard."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.clock = LogClock()
        self._classifier = XidClassifier()
        self._boot = ""
        self._booted: Booted | None = None

    def read(self, name: str, blocks: Iterable[bytes], latest: datetime) -> Iterator[Heard]:
        """What the file says. `latest` is when it was last written: it settles the year of stamps without one.

        Raises LogError where the file is no log or is damaged.
        """
        self.counts.files += 1
        stream, first = iter(blocks), b""
        while len(first) < _START_BYTES and (block := next(stream, b"")):
            first += block
        whole = chain((first,), stream)
        if first.startswith(_EXPORT_START):
            yield from self._exported(name, whole)
        elif first.lstrip().startswith(b"{"):
            yield from self._objects(name, lines_of(whole))
        else:
            yield from self._texts(name, lines_of(whole), latest)

    def _texts(self, name: str, lines: Iterator[bytes], latest: datetime) -> Iterator[Heard]:
        head = list(islice(lines, _SNIFFED_LINES))
        first = next((found for line in head if (found := log_line(line, latest)) is not None), None)
        yield from self._passed(None if first is None else first.stamp)
        numbered = isinstance(first, LogLine) and first.sequence is not None
        stamped = first is not None and first.stamp is not None
        expected = first.sequence if isinstance(first, LogLine) and first.sequence is not None else 0
        counts, classifier, numbers, line = self.counts, self._classifier, _SEQUENCE.match, b""
        for line in chain(head, lines):
            counts.lines += 1
            if numbered and (match := numbers(line)) is not None:
                number = int(match[1])
                if number > expected:
                    yield self._missing(number - expected)
                expected = number + 1
            if _DRIVER in line or _SWITCH in line or _BOOT in line or classifier.waiting:
                found = log_line(line, latest)
                first = first or found
                yield from self._text(line, found, stamped=stamped)
        if first is None and any(line.strip() for line in (*head, line)):
            raise LogError(
                f"{name}:1: is no log; expected lines of /dev/kmsg, dmesg, syslog or journalctl (also -o json and "
                "-o export), or recorded signals"
            )
        last = log_line(line, latest)
        yield from self._passed(last.stamp if last is not None else None)

    def _text(
        self, line: bytes, found: LogLine | MalformedLine | OtherLine | None, *, stamped: bool
    ) -> Iterator[Heard]:
        if isinstance(found, LogLine) and found.stamp is None and stamped:
            # What stood behind a newline inside of a record must not pass for a record of its own.
            found = None
        if found is None and self._classifier.waiting:
            found = last_load_line(line)
        if isinstance(found, LogLine | MalformedLine):
            yield from self._heard(found)

    def _missing(self, lost: int) -> Heard:
        """A jump in the kernel's numbering is a loss, and no log may be silent about it."""
        self.counts.lost += lost
        return GapReport(source=Source.KMSG, seen=self.clock.now, lost=lost)

    def _objects(self, name: str, lines: Iterator[bytes]) -> Iterator[Heard]:
        line, number = b"", 0
        for number, line in enumerate(lines, start=1):
            self.counts.lines += 1
            if number == 1 or _is_of_interest(line):
                yield from self._object(f"{name}:{number}", line)
        if number > 1 and line.strip():
            # The last line tells when the log ends, and that it is whole.
            with _named(f"{name}:{number}"):
                yield from self._passed(_stamp_of(json_object(line)))

    def _object(self, where: str, line: bytes) -> Iterator[Heard]:
        if not line.strip():
            return
        with _named(where):
            entry = json_object(line)
            recorded = signal_of_event(entry)
            found = from_json(entry) if recorded is None else None
            stamp = _stamp_of(entry)
        if recorded is not None:
            yield from self._passed(stamp)
            self.counts.about_gpus += 1
            yield self._recorded(recorded)
        elif found is not None:
            yield from self._journal(found)
        else:
            yield from self._passed(stamp)

    def _recorded(self, recorded: HeardSignal) -> Signal:
        """The signal on the replay's clock, as long before it was heard as it was seen."""
        now, seen = self.clock.now, recorded.signal.seen
        late = max(0.0, (recorded.time - seen.time).total_seconds())
        return replace(recorded.signal, seen=Moment(at=now.at - late, time=seen.time))

    def _exported(self, name: str, blocks: Iterable[bytes]) -> Iterator[Heard]:
        began = 1
        try:
            for line, record in exported(blocks):
                began = line
                self.counts.lines += 1
                found = from_export(record)
                if found is not None:
                    yield from self._journal(found)
        except ExportError as error:
            raise LogError(f"{name}:{error.line}: {error}") from error
        except ValueError as error:
            raise LogError(f"{name}:{began}: {error}") from error

    def _journal(self, found: JournalLine) -> Iterator[Heard]:
        is_other = bool(self._boot) and bool(found.boot) and found.boot != self._boot
        self._boot = found.boot or self._boot
        if is_other:
            self.clock.take(found.line.stamp)
            yield from self._began("boot")
        yield from self._heard(found.line)

    def _heard(self, found: LogLine | MalformedLine) -> Iterator[Heard]:
        if self.clock.take(found.stamp) or _is_boot(found):
            yield from self._began("boot")
        if isinstance(found, MalformedLine):
            self.counts.malformed += 1
            return
        if found.record.facility == 0 and found.record.text.startswith(LOAD_TEXT):
            yield from self._began("driver load")
        line = self._classifier.classify(found.record)
        self.counts.spoofed += line.kind is LineKind.SPOOFED
        self.counts.malformed += line.kind is LineKind.MALFORMED
        signal = kernel_signal(line, self.clock.now, found.record.sequence)
        if signal is not None:
            self.counts.about_gpus += 1
            yield signal

    def _passed(self, stamp: Stamp | None) -> Iterator[Heard]:
        """Time goes on to the stamp."""
        if self.clock.take(stamp):
            yield from self._began("boot")

    def _began(self, what: str) -> Iterator[Heard]:
        """Once, however many signs of it stand at the same place."""
        booted = Booted(self.clock.now, what)
        if booted != self._booted:
            self._booted = booted
            yield booted


def first_stamp(blocks: Iterable[bytes], latest: datetime) -> Stamp | None:
    """The first time stamp of a log, by which logs can be put in order; None where it has none among its first lines."""
    for line in islice(lines_of(blocks), _SNIFFED_LINES):
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
        return _stamp_of(json_object(line))
    key, separator, value = line.partition(b"=")
    if separator and key == _REALTIME:
        return realtime_stamp(value.decode("ascii", errors="replace"))
    found = log_line(line, latest)
    return None if found is None else found.stamp


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Raises LogError, with the place in front, for whatever is wrong with what is read inside."""
    try:
        yield
    except ValueError as error:
        raise LogError(f"{where}: {error}") from error


def _is_of_interest(line: bytes) -> bool:
    return _DRIVER in line or _SWITCH in line or _BOOT in line or _DRIVER_AS_NUMBERS in line or _EVENT in line


def _is_boot(found: LogLine | MalformedLine) -> bool:
    return (
        isinstance(found, LogLine) and found.record.facility == 0 and found.record.text.startswith(BOOT_TEXT)
    )


def _stamp_of(entry: dict[str, object]) -> Stamp | None:
    """When a journal entry or an event of the agent was written. Raises ValueError."""
    if "event" in entry:
        return Stamp(heard_time(entry).timestamp(), is_wall=True)
    text = entry.get("__REALTIME_TIMESTAMP")
    return realtime_stamp(text if isinstance(text, str) else None)
