"""The stream of kernel log records: counts lines, detects losses, classifies records and sends signals.

Records are held until the end of the log is reached, since only the newest record shows the lag of the log's clock
behind the boot clock.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gpuvitals.model.clock import Clock
from gpuvitals.model.signal import GapReport, Source
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals.signals.kmsg.clock import StampClock, is_stamp
from gpuvitals.signals.kmsg.decode import kernel_signal
from gpuvitals.signals.kmsg.record import (
    MAX_RECORD,
    SequenceEvent,
    header_seconds,
    header_sequence,
    is_continuation,
    kmsg_record,
    noise_sequence,
    sequence_event,
)
from gpuvitals.signals.kmsg.xid_line import Line, LineKind, XidClassifier
from gpuvitals.signals.source import SignalSink

log = logging.getLogger(__name__)

_HINT_SECONDS = 1.0
"""Least time between two polls for malformed lines: any user can make them, by crashing a process with an odd name."""
_SHOWN_BYTES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class KmsgCounters:
    """Counts since the start. `signals` were sent to the sink; `resets` are backward steps of the sequence number."""

    records: int = 0
    signals: int = 0
    spoofed: int = 0
    malformed: int = 0
    gaps: int = 0
    lost: int = 0
    duplicates: int = 0
    resets: int = 0


@dataclass(frozen=True, slots=True)
class _Held:
    """A classified line whose timestamp is not converted yet. `stamp`: seconds of the kernel log's clock."""

    line: Line
    stamp: float
    sequence: int


class RecordStream:
    """Processes the lines of one log. Used by the reader's thread; any thread may read the properties."""

    def __init__(
        self,
        clock: Clock,
        sink: SignalSink,
        *,
        resume_after: int | None,
        accept_user_facility: bool,
        metrics: NodeMetrics | None = None,
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        self._sink = sink
        self._accept_user_facility = accept_user_facility
        self._classifier = XidClassifier()
        self._stamps = StampClock()
        self._held: list[_Held] = []
        self._newest_stamp: float | None = None
        self._previous = resume_after
        self._resume_after = resume_after
        self._skipped = False
        self._sent_through = resume_after
        self._records = self._signals = self._spoofed = self._malformed = 0
        self._gaps = self._lost = self._duplicates = self._resets = 0
        self._suspicious = 0
        self._hint_at = 0.0

    @property
    def sequence(self) -> int | None:
        """The last record up to which all signals were sent. Any thread."""
        return self._sent_through

    @property
    def counters(self) -> KmsgCounters:
        """The counts so far. Any thread."""
        return KmsgCounters(
            records=self._records,
            signals=self._signals,
            spoofed=self._spoofed,
            malformed=self._malformed,
            gaps=self._gaps,
            lost=self._lost,
            duplicates=self._duplicates,
            resets=self._resets,
        )

    def reopened(self, *, is_new: bool) -> None:
        """Expects the lines from the log's oldest record on. `is_new`: it is another log, so no record is skipped."""
        self._resume_after = None if is_new else self._previous
        self._skipped = False

    def is_behind(self) -> bool:
        """Whether the log, read to its end, lacks the record to resume after. Then it is another log."""
        return self._resume_after is not None and self._skipped

    @property
    def held(self) -> int:
        """The number of lines that wait for `release`."""
        return len(self._held)

    @property
    def lag_seconds(self) -> float:
        """The last measured lag of the log's clock behind the boot clock. Any thread."""
        return self._stamps.lag_seconds

    def take(self, lines: Sequence[bytes]) -> None:
        """Processes lines, without newline and in order, of which the last was written just now."""
        self.hold(lines)
        self.release()

    def hold(self, lines: Sequence[bytes]) -> None:
        """Processes lines like `take`, but sends no signal before `release`."""
        noise, expected = noise_sequence, self._expected()
        for line in lines:
            if noise(line) == expected:
                expected += 1
                continue
            self._count_noise(expected)
            self._process(line)
            self._advance()
            expected = self._expected()
        self._count_noise(expected)
        now = self._clock.now().at
        for line in reversed(lines):
            stamp = header_seconds(line)
            if stamp is not None and is_stamp(stamp, now):
                self._newest_stamp = stamp
                break

    def release(self, began_at: float | None = None) -> None:
        """Sends the signals of the held lines. The newest record was written now.

        `began_at` is given for the backlog, whose newest record may be old: that record was written at this boot-clock
        instant or before it, unless its timestamp is later.
        """
        now = self._clock.now()
        if self._newest_stamp is not None:
            is_old = began_at is not None and self._newest_stamp <= began_at
            self._stamps.measure(self._newest_stamp, began_at if began_at is not None and is_old else now.at)
            self._newest_stamp = None
        held, self._held = self._held, []
        for each in held:
            signal = kernel_signal(each.line, self._stamps.moment(each.stamp, now), each.sequence)
            if signal is not None:
                self._signals += 1
                self._sink.put(signal)
            self._sent_through = each.sequence
        self._stamps.reached_end(now.at if began_at is None else min(began_at, now.at))
        self._sent_through = self._previous

    def _expected(self) -> int:
        """The next sequence number if `hold` may take its quick path for noise; -1 while every line is processed."""
        if self._previous is None or self._classifier.waiting or self._resume_after is not None:
            return -1
        return self._previous + 1

    def _count_noise(self, expected: int) -> None:
        """Counts the noise records before the record of that number."""
        if self._previous is not None and expected > self._previous:
            self._records += expected - 1 - self._previous
            self._previous = expected - 1
            self._advance()

    def _advance(self) -> None:
        """Advances the position, unless a line is held that a new reader would have to read again."""
        if not self._held:
            self._sent_through = self._previous

    def tick(self) -> None:
        """Sends a delayed request to poll all GPUs, after malformed lines that looked like a driver's."""
        now = self._clock.now()
        if self._suspicious and now.at >= self._hint_at:
            self._hint_at = now.at + _HINT_SECONDS
            lost, self._suspicious = self._suspicious, 0
            self._report_gap(lost)

    def _process(self, line: bytes) -> None:
        if is_continuation(line) and self._previous is not None:
            return
        sequence = header_sequence(line)
        if sequence is not None and not self._in_order(sequence):
            return
        self._records += 1
        record = kmsg_record(line)
        if record is None:
            self._count_malformed(line)
            return
        if self._accept_user_facility and record.facility == 1:
            record = replace(record, facility=0)
        classified = self._classifier.classify(record)
        if classified.kind is LineKind.SPOOFED:
            self._spoofed += 1
            self._reject("spoofed")
            log.warning(
                "kernel line not from the kernel",
                extra=keys(facility=record.facility, text=record.text[:_SHOWN_BYTES]),
            )
        elif classified.kind is LineKind.MALFORMED:
            self._count_malformed(line)
        if classified.kind not in (LineKind.NONE, LineKind.SPOOFED, LineKind.MALFORMED):
            self._held.append(_Held(classified, record.microseconds / 1e6, record.sequence))

    def _in_order(self, sequence: int) -> bool:
        """Updates the position; False for a record that was read before."""
        if self._resume_after is not None:
            if sequence < self._resume_after:
                self._skipped = True
                return False
            if sequence == self._resume_after:
                self._resume_after = None
                return False
            self._resume_after = None
        event = sequence_event(self._previous, sequence)
        before, self._previous = self._previous, sequence
        match event:
            case SequenceEvent.NEXT:
                pass
            case SequenceEvent.GAP:
                lost = sequence - (before or 0) - 1
                self._gaps += 1
                self._lost += lost
                self._report_gap(lost)
            case SequenceEvent.DUPLICATE:
                self._duplicates += 1
            case SequenceEvent.BACKWARDS:
                self._resets += 1
                log.warning("kernel log steps back", extra=keys(before=before, now=sequence))
        return event is not SequenceEvent.DUPLICATE

    def _count_malformed(self, line: bytes) -> None:
        """Counts a malformed line. If it looks like a driver's, it may hide a fault and counts as a lost record."""
        self._malformed += 1
        self._reject("malformed")
        if b"Xid" in line[:MAX_RECORD] or b"NVRM: GPU" in line[:MAX_RECORD]:
            log.warning("malformed kernel line", extra=keys(line=repr(line[:_SHOWN_BYTES])))
            self._suspicious += 1
            self.tick()

    def _reject(self, verdict: str) -> None:
        if self._metrics is not None:
            self._metrics.signals.labels(source=Source.KMSG.value, kind="line", verdict=verdict).inc()

    def _report_gap(self, lost: int) -> None:
        self._sink.put(GapReport(source=Source.KMSG, seen=self._clock.now(), lost=lost))
