"""Stage 1 of 10: reads the kernel log, from the device or from a file or FIFO in its place.

The ring is read back from its oldest record at start, so a fault from before the agent is heard too. Loss is counted
and reported as a gap, which makes everything be polled again; the reader never skips to the end.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gpuvitals.model.clock import Clock
from gpuvitals.model.ids import BootId
from gpuvitals.model.signal import MonitorReport, MonitorState, Source
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals.signals.kmsg.log_file import KernelLog, LogReplaced, open_kernel_log
from gpuvitals.signals.kmsg.record_stream import KmsgCounters, KmsgFeed
from gpuvitals.signals.source import SignalSink

_WAIT_SECONDS = 5.0
_RETRY_FIRST_SECONDS = 1.0
_RETRY_LAST_SECONDS = 30.0
_MAX_HELD = 4096
"""Lines of the driver held at most until the end of the log is reached: a flood must not fill the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KmsgPosition:
    """How far the log of one boot was read."""

    boot_id: BootId
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KmsgSettings:
    """`accept_user_facility` is the switch for tests on the real device, whose writers can't claim the kernel's."""

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
        self._feed = KmsgFeed(
            clock,
            sink,
            resume_after=resume.sequence if resume is not None and same_boot else None,
            accept_user_facility=settings.accept_user_facility,
            metrics=metrics,
        )
        # Until the log's end is reached for the first time, its records are from before this reader.
        self._began_at: float | None = clock.now().at
        self._state: MonitorState | None = None
        self._retry_seconds = _RETRY_FIRST_SECONDS
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kmsg")

    def start(self) -> None:
        """Begins to read, from the oldest record there is."""
        self._thread.start()

    def stop(self, deadline_seconds: float) -> None:
        """Stops reading and joins the thread."""
        if self._stop.is_set():
            return
        self._stop.set()
        os.eventfd_write(self._wake, 1)
        self._thread.join(deadline_seconds)
        if not self._thread.is_alive():
            os.close(self._wake)

    @property
    def state(self) -> MonitorState | None:
        """Whether the log can be read; None before the first attempt."""
        return self._state

    @property
    def has_read_all(self) -> bool:
        """Whether the log's end was reached since the start. Any thread."""
        return self._began_at is None

    @property
    def counters(self) -> KmsgCounters:
        """The counts so far. Any thread."""
        return self._feed.counters

    @property
    def lag_seconds(self) -> float:
        """How far the log's stamps lag the boot clock, as last measured. Any thread."""
        return self._feed.lag_seconds

    @property
    def position(self) -> KmsgPosition | None:
        """The last record whose signals were all put; None before the first. Any thread.

        Whoever makes it durable asks for it before taking the signals off the queue, and saves it after folding them:
        asked for later, it may be ahead of what was folded, and a crash would lose the difference.
        """
        sequence = self._feed.sequence
        if sequence is None:
            return None
        return KmsgPosition(boot_id=self._settings.boot_id, sequence=sequence)

    def _run(self) -> None:
        anew = False
        while not self._stop.is_set():
            try:
                log = self._open_log(self._settings.path)
            except OSError as error:
                self._blind(error)
                continue
            self._feed.reopened(anew=anew)
            anew = False
            try:
                self._follow(log)
            except LogReplaced:
                anew = True
            except OSError as error:
                self._blind(error)
            finally:
                log.close()

    def _follow(self, log: KernelLog) -> None:
        try:
            while not self._stop.is_set():
                lines = log.lines()
                self._retry_seconds = _RETRY_FIRST_SECONDS
                self._monitor(MonitorState.WATCHING, "")
                if lines:
                    self._feed.hold(lines)
                    if self._feed.held >= _MAX_HELD:
                        self._feed.release(self._began_at)
                    continue
                self._feed.release(self._began_at)
                self._began_at = None
                if self._feed.is_behind():
                    raise LogReplaced
                self._feed.tick()
                log.wait(_WAIT_SECONDS, self._wake)
        finally:
            self._feed.release(self._began_at)

    def _blind(self, error: OSError) -> None:
        self._monitor(MonitorState.UNREADABLE, str(error))
        self._stop.wait(self._retry_seconds)
        self._retry_seconds = min(2 * self._retry_seconds, _RETRY_LAST_SECONDS)

    def _monitor(self, state: MonitorState, detail: str) -> None:
        if state is self._state:
            return
        self._state = state
        self._sink.put(MonitorReport(source=Source.KMSG, seen=self._clock.now(), state=state, detail=detail))
