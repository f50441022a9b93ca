"""Reads the saved logs of a node in order, and yields signals about its GPUs, boots and driver loads.

Most lines of a log are irrelevant and cost one regular-expression search; only the others are parsed. A line with a
driver marker that can't be parsed is counted and kept as a sample, so that an incomplete result is reported as such.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from itertools import chain, islice

from gpuvitals.model.clock import Moment
from gpuvitals.model.signal import GapReport, Signal, Source
from gpuvitals.replay.advisories import advisory_of
from gpuvitals.replay.boot_detector import BootDetector, is_boot_marker
from gpuvitals.replay.chunks import ExportError, exported, lines_of
from gpuvitals.replay.counts import Counts
from gpuvitals.replay.driver_markers import DRIVER_MARKER, contains_fault_header, is_program_line
from gpuvitals.replay.encodings import as_utf8
from gpuvitals.replay.journal import JournalLine, from_export, from_json, json_object
from gpuvitals.replay.journal_verbose import verbose_entries
from gpuvitals.replay.json_stream import JsonStreamError, entries
from gpuvitals.replay.log_clock import LogClock
from gpuvitals.replay.log_formats import LogFormat, detected_format
from gpuvitals.replay.log_line import (
    BOOT_TEXT,
    LOAD_TEXT,
    LogLine,
    MalformedLine,
    OtherLine,
    ParsedLine,
    last_load_line,
)
from gpuvitals.replay.prefixes import COLOUR
from gpuvitals.replay.text_log import DETECTION_LINES, TextLog, stamp_of
from gpuvitals.replay.timeline import LogEvent, Restart
from gpuvitals.replay.timestamps import Stamp
from gpuvitals.signals.kmsg.decode import kernel_signal
from gpuvitals.signals.kmsg.xid_line import LineKind, XidClassifier
from gpuvitals.signals.recording import RecordedSignal, signal_of_event

_LOOK_BYTES = 4096
_SEQUENCE = re.compile(rb"[0-9]{1,4},([0-9]{1,20}),")
_is_relevant = re.compile(
    rb'NVRM|nvidia|Xid|Linux version |fallen off|SDES|urprise|78,86,82,77|"signal"|\x1b'
).search
"""Only lines that match are parsed: driver and kernel markers, also as byte lists in JSON and with terminal colours."""
_RECORD_SEPARATOR = b"\x1e"
"""Source: RFC 7464, JSON text sequences."""


class LogError(Exception):
    """The input can't be read. The message names file and line."""


class LogReader:
    """Reads files one after another, oldest first. `counts` and `clock` are those of the last event."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.clock = LogClock()
        self._classifier = XidClassifier()
        self._boot_detector = BootDetector()
        self._boot_id = ""
        self._last_load: Restart | None = None
        self._boot_marked = False

    def read(self, name: str, blocks: Iterable[bytes], latest: datetime) -> Iterator[LogEvent]:
        """The events of one file. `latest` is the time of its last write: it determines the year of stamps without one.

        Raises LogError if the file is not a log or is damaged.
        """
        self.counts.files += 1
        stream, first = iter(as_utf8(blocks)), b""
        while len(first) < _LOOK_BYTES and (block := next(stream, b"")):
            first += block
        whole = chain((first,), stream)
        match detected_format(first):
            case LogFormat.EXPORT:
                yield from self._read_export(name, whole, latest)
            case LogFormat.JSON_DOCUMENT:
                yield from self._read_json_document(name, whole, latest)
            case LogFormat.JSON_LINES:
                yield from self._read_json_lines(name, lines_of(whole), latest)
            case LogFormat.VERBOSE:
                yield from self._read_verbose(name, lines_of(whole), latest)
            case LogFormat.JOURNAL_FILE:
                raise LogError(
                    f"{name}:1: is a binary journal file; export it: journalctl --file FILE -k -o json"
                )
            case LogFormat.TEXT:
                yield from self._read_text(name, lines_of(whole), latest)

    def _read_text(self, name: str, lines: Iterator[bytes], latest: datetime) -> Iterator[LogEvent]:
        head = list(islice(lines, DETECTION_LINES))
        text = TextLog(head, latest)
        yield from self._advance(text.began)
        expected, line = text.sequence or 0, b""
        counts, classifier, sequence_match, unread = (
            self.counts,
            self._classifier,
            _SEQUENCE.match,
            self.counts.unread,
        )
        has_begun = False
        for number, line in enumerate(chain(head, lines), start=1):
            counts.lines += 1
            text.advance(line)
            if text.sequence is not None and (match := sequence_match(line)) is not None:
                if int(match[1]) > expected:
                    yield self._gap(int(match[1]) - expected)
                expected = int(match[1]) + 1
            if line.startswith(b"-- ") and DRIVER_MARKER.search(line) is None:
                self._boot_marked = self._boot_marked or (
                    is_boot_marker(line) and (has_begun or counts.files > 1)
                )
                continue
            has_begun = True
            if _is_relevant(line) or classifier.waiting or self._boot_marked:
                yield from self._text_line(f"{name}:{number}", line, text)
        if not text.is_log and counts.unread == unread and any(each.strip() for each in (*head, line)):
            raise LogError(
                f"{name}:1: is not a log; expected lines of /dev/kmsg, dmesg, syslog, kubectl or journalctl (also -o json, "
                "-o export and -o verbose), JSON of a log service, or recorded signals"
            )
        last = text.parse(line) or text.embedded(line)
        yield from self._advance(last.stamp if last is not None else None)

    def _text_line(self, position: str, line: bytes, text: TextLog) -> Iterator[LogEvent]:
        line = COLOUR.sub(b"", line)
        found = text.parse(line)
        is_part = text.is_stamped and isinstance(found, LogLine) and not found.is_dated
        if is_part:
            # Text after a newline within a record must not count as a record of its own.
            found = None
        if found is None and self._classifier.waiting:
            found = last_load_line(line)
        if found is None and (entry := text.embedded(line)) is not None:
            yield from self._journal_line(position, line, entry)
        elif found is not None:
            yield from self._parsed_line(position, line, found)
        elif DRIVER_MARKER.search(line) and not (
            is_part and line[:1] in (b" ", b"\t") and b"Xid" not in line
        ):
            self.counts.add_unread(position, line)

    def _gap(self, lost: int) -> LogEvent:
        """The report of a gap in the kernel's sequence numbers."""
        self.counts.lost += lost
        return GapReport(source=Source.KMSG, seen=self.clock.now, lost=lost)

    def _read_json_lines(self, name: str, lines: Iterator[bytes], latest: datetime) -> Iterator[LogEvent]:
        last = (0, b"")
        for number, raw in enumerate(lines, start=1):
            line = raw.removeprefix(_RECORD_SEPARATOR).removeprefix(b"data: ")
            self.counts.lines += 1
            if number == 1 or _is_relevant(line):
                yield from self._json_entry(f"{name}:{number}", line, latest)
            last = (number, line) if line.strip() else last
        if last[0] > 1:
            # The last line gives the end time of the log and shows that the log is not truncated.
            with _located_errors(f"{name}:{last[0]}"):
                yield from self._advance(stamp_of(json_object(last[1])))

    def _read_json_document(self, name: str, blocks: Iterable[bytes], latest: datetime) -> Iterator[LogEvent]:
        number, entry = 1, b""
        try:
            for number, entry in entries(blocks):
                self.counts.lines += 1
                yield from self._json_entry(f"{name}:{number}", entry, latest)
        except JsonStreamError as error:
            raise LogError(f"{name}:{error.line}: {error}") from error

    def _json_entry(self, position: str, line: bytes, latest: datetime) -> Iterator[LogEvent]:
        if not line.strip():
            return
        with _located_errors(position):
            entry = json_object(line)
            recorded = signal_of_event(entry)
            found = from_json(entry, latest) if recorded is None else None
            stamp = stamp_of(entry)
        if recorded is not None:
            yield from self._advance(stamp)
            self.counts.about_gpus += 1
            yield self._recorded_signal(recorded)
        elif found is not None:
            yield from self._journal_line(position, line, found)
        else:
            yield from self._advance(stamp)
            if DRIVER_MARKER.search(line):
                self.counts.add_unread(position, line)

    def _recorded_signal(self, recorded: RecordedSignal) -> Signal:
        """The signal on the replay's clock, with the recorded delay between observation and record."""
        now, seen = self.clock.now, recorded.signal.seen
        late = max(0.0, (recorded.time - seen.time).total_seconds())
        return replace(recorded.signal, seen=Moment(at=now.at - late, time=seen.time))

    def _read_verbose(self, name: str, lines: Iterator[bytes], latest: datetime) -> Iterator[LogEvent]:
        for number, fields in verbose_entries(lines):
            self.counts.lines += 1
            with _located_errors(f"{name}:{number}"):
                found = from_json(fields, latest)
            if found is not None:
                yield from self._journal_line(
                    f"{name}:{number}", str(fields.get("MESSAGE", "")).encode(), found
                )

    def _read_export(self, name: str, blocks: Iterable[bytes], latest: datetime) -> Iterator[LogEvent]:
        began = 1
        try:
            for line, record in exported(blocks):
                began = line
                self.counts.lines += 1
                found = from_export(record, latest)
                if found is not None:
                    yield from self._journal_line(f"{name}:{line}", record.get(b"MESSAGE", b""), found)
        except ExportError as error:
            raise LogError(f"{name}:{error.line}: {error}") from error
        except ValueError as error:
            raise LogError(f"{name}:{began}: {error}") from error

    def _journal_line(self, position: str, line: bytes, found: JournalLine) -> Iterator[LogEvent]:
        is_other = bool(self._boot_id) and bool(found.boot) and found.boot != self._boot_id
        self._boot_id = found.boot or self._boot_id
        if is_other:
            self.clock.advance(found.stamp)
            yield from self._new_boot("boot id")
        if found.line is not None:
            yield from self._parsed_line(position, line, found.line)
        else:
            yield from self._advance(found.stamp)
            if DRIVER_MARKER.search(line):
                self.counts.add_unread(position, line)

    def _parsed_line(self, position: str, line: bytes, found: ParsedLine) -> Iterator[LogEvent]:
        yield from self._advance(found.stamp)
        if isinstance(found, OtherLine):
            if DRIVER_MARKER.search(line):
                self._count_other_program(position, line, is_named=found.is_named)
            return
        if isinstance(found, MalformedLine):
            self.counts.add_malformed(position, line)
            return
        record = found.record
        if self._boot_detector.uptime_fell(found.uptime):
            yield from self._new_boot("uptime")
        if record.facility == 0 and record.text.startswith(BOOT_TEXT):
            yield from self._new_boot("first record")
        if record.facility == 0 and record.text.startswith(LOAD_TEXT):
            yield from self._driver_load()
        yield from self._classify(position, line, found)

    def _classify(self, position: str, line: bytes, found: LogLine) -> Iterator[LogEvent]:
        classified = self._classifier.classify(found.record)
        self.counts.spoofed += classified.kind is LineKind.SPOOFED
        if not classified.is_understood:
            self.counts.add_malformed(position, line)
        elif classified.kind is LineKind.NONE:
            advisory = advisory_of(found.record, self.clock.now)
            if advisory is not None:
                yield advisory
            self._count_mention(position, line, found.record.text)
        signal = kernel_signal(classified, self.clock.now, found.record.sequence)
        if signal is not None:
            self.counts.about_gpus += 1
            self.counts.unsigned += not found.is_signed
            self.counts.undated += found.is_dated and found.stamp is None
            self.counts.add_host(found.host)
            yield signal

    def _count_mention(self, position: str, line: bytes, text: str) -> None:
        """Counts a kernel line with a driver header that is not at its start."""
        if contains_fault_header(text):
            self._count_other_program(
                position, line, is_named=is_program_line(text.encode("ascii", errors="replace"))
            )

    def _count_other_program(self, position: str, line: bytes, *, is_named: bool) -> None:
        """Counts a line as a quotation if it names another program, else as not parsed."""
        if is_named:
            self.counts.mentions += 1
        else:
            self.counts.add_unread(position, line)

    def _advance(self, stamp: Stamp | None) -> Iterator[LogEvent]:
        """Advances the clock, and yields the boots that the stamp shows."""
        uptime_fell = self.clock.advance(stamp)
        if self._boot_marked and stamp is not None:
            self._boot_marked = False
            yield from self._new_boot("marker")
        if uptime_fell:
            yield from self._new_boot("uptime")

    def _new_boot(self, sign: str) -> Iterator[LogEvent]:
        """Yields each boot once, whatever the number of its signs."""
        if self._boot_detector.is_new_boot(sign, self.clock.now):
            yield Restart(self.clock.now, "boot")

    def _driver_load(self) -> Iterator[LogEvent]:
        loaded = Restart(self.clock.now, "driver load")
        if loaded != self._last_load:
            self._last_load = loaded
            yield loaded


@contextmanager
def _located_errors(position: str) -> Iterator[None]:
    """Converts a ValueError of the body into a LogError that names the position."""
    try:
        yield
    except ValueError as error:
        raise LogError(f"{position}: {error}") from error
