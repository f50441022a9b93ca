"""Reads saved logs of a node in their order: what they say of its GPUs, and where a boot or a driver load lies between.

Nearly every line of a log is of no interest. It costs a search for a few words; only the rest is taken apart. A line
that has a driver's mark and can't be read is counted and kept, so that no answer looks whole that is not.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from itertools import chain, islice

from gpuvitals.model.clock import Moment
from gpuvitals.model.signal import GapReport, Signal, Source
from gpuvitals.replay.boots import BootSigns, is_boot_marker
from gpuvitals.replay.chunks import ExportError, exported, lines_of
from gpuvitals.replay.counts import Counts
from gpuvitals.replay.documents import DocumentError, entries
from gpuvitals.replay.encodings import as_utf8
from gpuvitals.replay.findings import Booted, Heard
from gpuvitals.replay.forms import Form, form_of
from gpuvitals.replay.hints import hint_of
from gpuvitals.replay.journal import JournalLine, from_export, from_json, json_object
from gpuvitals.replay.log_clock import LogClock
from gpuvitals.replay.log_line import (
    BOOT_TEXT,
    LOAD_TEXT,
    AnyLine,
    LogLine,
    MalformedLine,
    OtherLine,
    last_load_line,
)
from gpuvitals.replay.marks import MARK, holds_header, is_of_a_program
from gpuvitals.replay.prefixes import COLOUR
from gpuvitals.replay.text_log import SNIFFED_LINES, TextLog, stamp_of
from gpuvitals.replay.timestamps import Stamp
from gpuvitals.replay.verbose import verbose_entries
from gpuvitals.signals.kmsg.decode import kernel_signal
from gpuvitals.signals.kmsg.xid_line import LineKind, XidClassifier
from gpuvitals.signals.recorded import HeardSignal, signal_of_event

_LOOK_BYTES = 4096
_SEQUENCE = re.compile(rb"[0-9]{1,4},([0-9]{1,20}),")
_OF_INTEREST = re.compile(
    rb'NVRM|nvidia|Xid|Linux version |fallen off|SDES|urprise|78,86,82,77|"signal"|\x1b'
).search
"""Lines without any of these are not taken apart: the driver's words, also as numbers and in colours, and the kernel's."""
_IS_JSON_SEQ = b"\x1e"
Parse = Callable[[bytes], AnyLine | None]


class LogError(Exception):
    """The input is at fault. The message names file and line."""


class LogReader:
    """Reads one file after the other, oldest first. `counts` and `clock` are as of the last thing that was heard."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.clock = LogClock()
        self._classifier = XidClassifier()
        self._signs = BootSigns()
        self._boot = ""
        self._loaded: Booted | None = None
        self._marked = False

    def read(self, name: str, blocks: Iterable[bytes], latest: datetime) -> Iterator[Heard]:
        """What the file says. `latest` is when it was last written: it settles the year of stamps without one.

        Raises LogError where the file is no log or is damaged.
        """
        self.counts.files += 1
        stream, first = iter(as_utf8(blocks)), b""
        while len(first) < _LOOK_BYTES and (block := next(stream, b"")):
            first += block
        whole = chain((first,), stream)
        match form_of(first):
            case Form.EXPORT:
                yield from self._exported(name, whole, latest)
            case Form.DOCUMENT:
                yield from self._documents(name, whole, latest)
            case Form.OBJECTS:
                yield from self._objects(name, lines_of(whole), latest)
            case Form.VERBOSE:
                yield from self._verbose(name, lines_of(whole), latest)
            case Form.JOURNAL_FILE:
                raise LogError(
                    f"{name}:1: is a file of the journal itself; print it: journalctl --file FILE -k -o json"
                )
            case Form.TEXT:
                yield from self._texts(name, lines_of(whole), latest)

    def _texts(self, name: str, lines: Iterator[bytes], latest: datetime) -> Iterator[Heard]:
        head = list(islice(lines, SNIFFED_LINES))
        text = TextLog(head, latest)
        yield from self._passed(text.began)
        expected, line = text.sequence or 0, b""
        counts, classifier, numbers, unread = (
            self.counts,
            self._classifier,
            _SEQUENCE.match,
            self.counts.unread,
        )
        has_begun = False
        for number, line in enumerate(chain(head, lines), start=1):
            counts.lines += 1
            text.pass_by(line)
            if text.sequence is not None and (match := numbers(line)) is not None:
                if int(match[1]) > expected:
                    yield self._missing(int(match[1]) - expected)
                expected = int(match[1]) + 1
            if line.startswith(b"-- ") and MARK.search(line) is None:
                self._marked = self._marked or (is_boot_marker(line) and (has_begun or counts.files > 1))
                continue
            has_begun = True
            if _OF_INTEREST(line) or classifier.waiting or self._marked:
                yield from self._text(f"{name}:{number}", line, text)
        if not text.is_log and counts.unread == unread and any(each.strip() for each in (*head, line)):
            raise LogError(
                f"{name}:1: is no log; expected lines of /dev/kmsg, dmesg, syslog, kubectl or journalctl (also -o json, "
                "-o export and -o verbose), JSON of a log service, or recorded signals"
            )
        last = text.parsed(line) or text.embedded(line)
        yield from self._passed(last.stamp if last is not None else None)

    def _text(self, where: str, line: bytes, text: TextLog) -> Iterator[Heard]:
        line = COLOUR.sub(b"", line)
        found = text.parsed(line)
        is_part = text.is_stamped and isinstance(found, LogLine) and not found.is_dated
        if is_part:
            # What stood behind a newline inside of a record must not pass for a record of its own.
            found = None
        if found is None and self._classifier.waiting:
            found = last_load_line(line)
        if found is None and (entry := text.embedded(line)) is not None:
            yield from self._journal(where, line, entry)
        elif found is not None:
            yield from self._heard(where, line, found)
        elif MARK.search(line) and not (is_part and line[:1] in (b" ", b"\t") and b"Xid" not in line):
            self.counts.not_read(where, line)

    def _missing(self, lost: int) -> Heard:
        """A jump in the kernel's numbering is a loss, and no log may be silent about it."""
        self.counts.lost += lost
        return GapReport(source=Source.KMSG, seen=self.clock.now, lost=lost)

    def _objects(self, name: str, lines: Iterator[bytes], latest: datetime) -> Iterator[Heard]:
        last = (0, b"")
        for number, raw in enumerate(lines, start=1):
            line = raw.removeprefix(_IS_JSON_SEQ).removeprefix(b"data: ")
            self.counts.lines += 1
            if number == 1 or _OF_INTEREST(line):
                yield from self._object(f"{name}:{number}", line, latest)
            last = (number, line) if line.strip() else last
        if last[0] > 1:
            # The last line tells when the log ends, and that it is whole.
            with _named(f"{name}:{last[0]}"):
                yield from self._passed(stamp_of(json_object(last[1])))

    def _documents(self, name: str, blocks: Iterable[bytes], latest: datetime) -> Iterator[Heard]:
        number, entry = 1, b""
        try:
            for number, entry in entries(blocks):
                self.counts.lines += 1
                yield from self._object(f"{name}:{number}", entry, latest)
        except DocumentError as error:
            raise LogError(f"{name}:{error.line}: {error}") from error

    def _object(self, where: str, line: bytes, latest: datetime) -> Iterator[Heard]:
        if not line.strip():
            return
        with _named(where):
            entry = json_object(line)
            recorded = signal_of_event(entry)
            found = from_json(entry, latest) if recorded is None else None
            stamp = stamp_of(entry)
        if recorded is not None:
            yield from self._passed(stamp)
            self.counts.about_gpus += 1
            yield self._recorded(recorded)
        elif found is not None:
            yield from self._journal(where, line, found)
        else:
            yield from self._passed(stamp)
            if MARK.search(line):
                self.counts.not_read(where, line)

    def _recorded(self, recorded: HeardSignal) -> Signal:
        """The signal on the replay's clock, as long before it was heard as it was seen."""
        now, seen = self.clock.now, recorded.signal.seen
        late = max(0.0, (recorded.time - seen.time).total_seconds())
        return replace(recorded.signal, seen=Moment(at=now.at - late, time=seen.time))

    def _verbose(self, name: str, lines: Iterator[bytes], latest: datetime) -> Iterator[Heard]:
        for number, fields in verbose_entries(lines):
            self.counts.lines += 1
            with _named(f"{name}:{number}"):
                found = from_json(fields, latest)
            if found is not None:
                yield from self._journal(f"{name}:{number}", str(fields.get("MESSAGE", "")).encode(), found)

    def _exported(self, name: str, blocks: Iterable[bytes], latest: datetime) -> Iterator[Heard]:
        began = 1
        try:
            for line, record in exported(blocks):
                began = line
                self.counts.lines += 1
                found = from_export(record, latest)
                if found is not None:
                    yield from self._journal(f"{name}:{line}", record.get(b"MESSAGE", b""), found)
        except ExportError as error:
            raise LogError(f"{name}:{error.line}: {error}") from error
        except ValueError as error:
            raise LogError(f"{name}:{began}: {error}") from error

    def _journal(self, where: str, line: bytes, found: JournalLine) -> Iterator[Heard]:
        is_other = bool(self._boot) and bool(found.boot) and found.boot != self._boot
        self._boot = found.boot or self._boot
        if is_other:
            self.clock.take(found.stamp)
            yield from self._booted("boot id")
        if found.line is not None:
            yield from self._heard(where, line, found.line)
        else:
            yield from self._passed(found.stamp)
            if MARK.search(line):
                self.counts.not_read(where, line)

    def _heard(self, where: str, line: bytes, found: AnyLine) -> Iterator[Heard]:
        yield from self._passed(found.stamp)
        if isinstance(found, OtherLine):
            if MARK.search(line):
                self._of_others(where, line, is_named=found.is_named)
            return
        if isinstance(found, MalformedLine):
            self.counts.damaged(where, line)
            return
        record = found.record
        if self._signs.has_fallen(found.uptime):
            yield from self._booted("uptime")
        if record.facility == 0 and record.text.startswith(BOOT_TEXT):
            yield from self._booted("first record")
        if record.facility == 0 and record.text.startswith(LOAD_TEXT):
            yield from self._loading()
        yield from self._classified(where, line, found)

    def _classified(self, where: str, line: bytes, found: LogLine) -> Iterator[Heard]:
        classified = self._classifier.classify(found.record)
        self.counts.spoofed += classified.kind is LineKind.SPOOFED
        if not classified.is_understood:
            self.counts.damaged(where, line)
        elif classified.kind is LineKind.NONE:
            hint = hint_of(found.record, self.clock.now)
            if hint is not None:
                yield hint
            self._mentioned(where, line, found.record.text)
        signal = kernel_signal(classified, self.clock.now, found.record.sequence)
        if signal is not None:
            self.counts.about_gpus += 1
            self.counts.unsigned += not found.is_signed
            self.counts.undated += found.is_dated and found.stamp is None
            self.counts.of_host(found.host)
            yield signal

    def _mentioned(self, where: str, line: bytes, text: str) -> None:
        """A kernel line that has the driver's words, but not at its start, is none of the driver's or can't be read."""
        if holds_header(text):
            self._of_others(where, line, is_named=is_of_a_program(text.encode("ascii", errors="replace")))

    def _of_others(self, where: str, line: bytes, *, is_named: bool) -> None:
        """A line with the driver's words behind the name of a program quotes them; else it can't be read."""
        if is_named:
            self.counts.mentions += 1
        else:
            self.counts.not_read(where, line)

    def _passed(self, stamp: Stamp | None) -> Iterator[Heard]:
        """Time goes on to the stamp."""
        has_fallen = self.clock.take(stamp)
        if self._marked and stamp is not None:
            self._marked = False
            yield from self._booted("marker")
        if has_fallen:
            yield from self._booted("uptime")

    def _booted(self, sign: str) -> Iterator[Heard]:
        """Once, however many signs of it there are."""
        if self._signs.is_new(sign, self.clock.now):
            yield Booted(self.clock.now, "boot")

    def _loading(self) -> Iterator[Heard]:
        loaded = Booted(self.clock.now, "driver load")
        if loaded != self._loaded:
            self._loaded = loaded
            yield loaded


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Raises LogError, with the place in front, for whatever is wrong with what is read inside."""
    try:
        yield
    except ValueError as error:
        raise LogError(f"{where}: {error}") from error
