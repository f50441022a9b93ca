"""Stage 1 of 10: reads the kernel log, from the device or from a file or FIFO in its place.

At its start the reader begins with the oldest record of the ring buffer, so it also reports faults from before the
agent. It never skips to the end. Lost records are reported as a gap, upon which the agent polls every GPU.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gpuvitals.model.clock import Clock
from gpuvitals.model.ids import BootId
from gpuvitals.model.signal import MonitorReport, MonitorState, Source
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals.signals.kmsg.log_file import KernelLog, LogReplaced, open_kernel_log
from gpuvitals.signals.kmsg.record_stream import KmsgCounters, RecordStream
from gpuvitals.signals.source import SignalSink
from gpuvitals.stoppable_thread import StoppableThread

_WAIT_SECONDS = 5.0
_RETRY_FIRST_SECONDS = 1.0
_RETRY_LAST_SECONDS = 30.0
_MAX_HELD = 4096
"""The most lines held before the end of the log is reached: a flood of driver lines must not fill the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KmsgPosition:
    """The last record that was read of one boot's log."""

    boot_id: BootId
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KmsgSettings:
    """`accept_user_facility` is for tests on the real device, since no process can write with the kernel's facility."""

    path: Path
    boot_id: BootId
    resume: KmsgPosition | None = None
    accept_user_facility: bool = False


class KmsgSource:
    """A SignalSource over the kernel log. One thread."""

    name = "kmsg"

    def __init__(
        self,
        settings: KmsgSettings,
        clock: Clock,
        sink: SignalSink,
        open_log: Callable[[Path], KernelLog] = open_kernel_log,
        metrics: NodeMetrics | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._sink = sink
        self._open_log = open_log
        resume = settings.resume
        same_boot = resume is not None and resume.boot_id == settings.boot_id
        self._stream = RecordStream(
            clock,
            sink,
            resume_after=resume.sequence if resume is not None and same_boot else None,
            accept_user_facility=settings.accept_user_facility,
            metrics=metrics,
        )
        # None once the log's end was reached. Until then its records may be older than this reader.
        self._began_at: float | None = clock.now().at
        self._state: MonitorState | None = None
        self._retry_seconds = _RETRY_FIRST_SECONDS
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = StoppableThread(self._run, name=self.name, daemon=False)

    def start(self) -> None:
        """Starts reading, at the oldest record."""
        self._thread.start()

    def stop(self, deadline_seconds: float) -> None:
        """Stops reading and joins the thread."""
        if self._thread.stopping.is_set():
            return
        self._thread.stopping.set()
        os.eventfd_write(self._wake, 1)
        if self._thread.stop(deadline_seconds):
            os.close(self._wake)

    @property
    def state(self) -> MonitorState | None:
        """Whether the log is readable; None before the first attempt."""
        return self._state

    @property
    def has_read_all(self) -> bool:
        """Whether the reader has reached the end of the log since its start. Any thread."""
        return self._began_at is None

    @property
    def counters(self) -> KmsgCounters:
        """The counts so far. Any thread."""
        return self._stream.counters

    @property
    def lag_seconds(self) -> float:
        """The last measured lag of the log's clock behind the boot clock. Any thread."""
        return self._stream.lag_seconds

    @property
    def position(self) -> KmsgPosition | None:
        """The last record up to which all signals were sent; None before the first. Any thread.

        To make it durable, read it before taking signals off the queue, and save it after folding them. Read later, it
        may be ahead of the folded signals, and a crash would lose the difference.
        """
        sequence = self._stream.sequence
        if sequence is None:
            return None
        return KmsgPosition(boot_id=self._settings.boot_id, sequence=sequence)

    def _run(self) -> None:
        is_new = False
        while not self._thread.stopping.is_set():
            try:
                log = self._open_log(self._settings.path)
            except OSError as error:
                self._report_outage(error)
                continue
            self._stream.reopened(is_new=is_new)
            is_new = False
            try:
                self._follow(log)
            except LogReplaced:
                is_new = True
            except OSError as error:
                self._report_outage(error)
            finally:
                log.close()

    def _follow(self, log: KernelLog) -> None:
        try:
            while not self._thread.stopping.is_set():
                lines = log.lines()
                self._retry_seconds = _RETRY_FIRST_SECONDS
                self._monitor(MonitorState.WATCHING, "")
                if lines:
                    self._stream.hold(lines)
                    if self._stream.held >= _MAX_HELD:
                        self._stream.release(self._began_at)
                    continue
                self._stream.release(self._began_at)
                self._began_at = None
                if self._stream.is_behind():
                    raise LogReplaced
                self._stream.tick()
                log.wait(_WAIT_SECONDS, self._wake)
        finally:
            self._stream.release(self._began_at)

    def _report_outage(self, error: OSError) -> None:
        self._monitor(MonitorState.UNREADABLE, str(error))
        self._thread.stopping.wait(self._retry_seconds)
        self._retry_seconds = min(2 * self._retry_seconds, _RETRY_LAST_SECONDS)

    def _monitor(self, state: MonitorState, detail: str) -> None:
        if state is self._state:
            return
        self._state = state
        self._sink.put(MonitorReport(source=Source.KMSG, seen=self._clock.now(), state=state, detail=detail))
