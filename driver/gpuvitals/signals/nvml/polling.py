"""One look at one GPU: a poll, or a probe of one that is left alone, and what its outcome means. Parent side."""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

from gpuvitals.model.clock import Clock
from gpuvitals.model.signal import Reading, ReadStatus, Source
from gpuvitals.observability.logs import keys
from gpuvitals.signals.nvml.decode import checkup_from, reading_from, status_from
from gpuvitals.signals.nvml.schedule import AvoidReason, PollSchedule, Watched
from gpuvitals.signals.nvml.worker_client import CallHung, WorkerClient
from gpuvitals.signals.nvml.worker_process import WorkerGone
from gpuvitals.signals.nvml_worker.protocol import DRIVER_CODES, GpuValues, NvmlFailure
from gpuvitals.signals.source import SignalSink

log = logging.getLogger(__name__)

_MAX_CRASHES = 2
"""A GPU in whose calls the worker ended as often in a row is left alone, for its siblings' sake."""


class WorkerStale(Exception):
    """The question needs a worker that attaches anew: this one still sees the GPU as it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NvmlPeriods:
    """Seconds. `poll` reads what turns a verdict at once, `checkup` what moves slowly or is dear to read. `probe` is for GPUs that are left alone, `settle` how long one is left alone at the least.

    `look` is between two comparisons of the inventory with the bus, and `rediscover` how often a GPU that the bus
    shows and the driver does not is looked for again. A worker younger than `fresh` is not replaced to look anew.
    """

    poll: float = 5.0
    checkup: float = 60.0
    probe: float = 60.0
    settle: float = 10.0
    fresh: float = 2.0
    look: float = 30.0
    rediscover: float = 300.0
    retry_first: float = 1.0
    retry_last: float = 60.0


class GpuPoller:
    """Looks at GPUs and puts a Reading for each look. Used by the monitor's thread only."""

    def __init__(self, link: WorkerClient, watchlist: PollSchedule, clock: Clock, sink: SignalSink) -> None:
        self._link = link
        self._list = watchlist
        self._clock = clock
        self._sink = sink
        self._divided_anew = False

    def take_division(self) -> bool:
        """Whether a look since the last call found a GPU divided otherwise than before."""
        news, self._divided_anew = self._divided_anew, False
        return news

    def visit(self, entry: Watched, periods: NvmlPeriods, opened_at: float) -> None:
        """Polls or probes. Raises CallHung and WorkerGone, after which a new worker is needed, and WorkerStale."""
        try:
            if entry.avoid is None:
                self._poll(entry, periods)
            elif entry.avoid is AvoidReason.ASKED:
                self.rest([entry], periods)
            else:
                self._probe(entry, periods, opened_at)
        except CallHung as error:
            self.hung(entry, str(error))
            entry.due_at = time.monotonic() + periods.probe
            raise
        except WorkerGone as error:
            self._crashed(entry, str(error), periods)
            raise
        finally:
            entry.visited_at = time.monotonic()

    def rest(self, entries: Iterable[Watched], periods: NvmlPeriods) -> None:
        """Says of GPUs that nobody looks at them on purpose, so that their verdicts stand."""
        for entry in entries:
            entry.due_at = time.monotonic() + periods.poll
            self._put(entry, ReadStatus.QUIESCED, "left alone as was asked for")

    def hung(self, entry: Watched, detail: str) -> None:
        """Reports a GPU as hung and leaves it alone."""
        self._list.avoid(entry, AvoidReason.HUNG, time.monotonic())
        self._put(entry, ReadStatus.HUNG, detail)

    def _poll(self, entry: Watched, periods: NvmlPeriods) -> None:
        now = time.monotonic()
        entry.due_at = now + periods.poll
        try:
            if not entry.heard:
                # Registered before it is read, so that nothing slips through between the two.
                self._link.watch(entry.gpu)
                entry.heard = True
            values = self._link.read(entry.gpu)
            reading = reading_from(values, entry.gpu, self._clock.now())
        except NvmlFailure as failure:
            self._refused(entry, failure, periods)
        except ValueError as error:
            self._put(entry, ReadStatus.FAILED, f"the worker sent values that are none: {error}")
        else:
            entry.status, entry.crashes = ReadStatus.OK, 0
            self._sink.put(reading)
            self._take_division_of(entry, values)
            if now >= entry.check_at:
                self._check(entry, periods)

    def _check(self, entry: Watched, periods: NvmlPeriods) -> None:
        entry.check_at = time.monotonic() + periods.checkup
        try:
            checkup = checkup_from(self._link.check(entry.gpu), entry.gpu, self._clock.now())
        except NvmlFailure as failure:
            if failure.code in DRIVER_CODES or status_from(failure.code) is not ReadStatus.FAILED:
                self._refused(entry, failure, periods)
            else:
                self._unchecked(entry, str(failure))
        except ValueError as error:
            self._unchecked(entry, str(error))
        else:
            entry.unchecked = ""
            self._sink.put(checkup)

    def _unchecked(self, entry: Watched, reason: str) -> None:
        """What is missing is told once; the poll goes on, so the GPU is none the worse for it."""
        if entry.unchecked != reason:
            log.warning("gpu can't be checked", extra=keys(gpu=entry.gpu.uuid, reason=reason))
        entry.unchecked = reason

    def _take_division_of(self, entry: Watched, values: GpuValues) -> None:
        """Raises WorkerStale where MIG was switched on or off: the GPU is identified anew then, with its links."""
        was_enabled = entry.gpu.mig_enabled
        self._divided_anew |= self._list.divide(entry, values.mig)
        if entry.gpu.mig_enabled is not was_enabled:
            raise WorkerStale(f"gpu {entry.gpu.uuid}: MIG was switched {'off' if was_enabled else 'on'}")

    def _probe(self, entry: Watched, periods: NvmlPeriods, opened_at: float) -> None:
        now = time.monotonic()
        if entry.avoid is AvoidReason.HUNG and self._link.seat.stuck:
            # Another hang would leave no worker for the siblings.
            entry.due_at = now + periods.settle
            return
        if entry.avoid is AvoidReason.LOST and now - opened_at > periods.fresh:
            raise WorkerStale(f"gpu {entry.gpu.uuid}: looked for by a new worker")
        try:
            self._link.probe(entry.gpu)
        except NvmlFailure as failure:
            self._refused(entry, failure, periods)
        else:
            if entry.avoid is not AvoidReason.LOST or entry.enumerated:
                self._answered(entry, periods, now)
                return
            # It is back, but only a new worker will count it among the GPUs.
            entry.due_at = now + periods.probe
        if entry.avoid is AvoidReason.LOST and entry.asked_at > opened_at:
            entry.due_at = opened_at + periods.fresh

    def _answered(self, entry: Watched, periods: NvmlPeriods, now: float) -> None:
        settled = entry.avoided_at + periods.settle
        if entry.avoid is AvoidReason.XID and now < settled:
            entry.due_at = settled
            return
        entry.avoid = None
        self._poll(entry, periods)

    def _refused(self, entry: Watched, failure: NvmlFailure, periods: NvmlPeriods) -> None:
        if failure.code in DRIVER_CODES:
            raise failure
        status = status_from(failure.code)
        if status is ReadStatus.LOST:
            self._list.avoid(entry, AvoidReason.LOST, time.monotonic())
        entry.due_at = time.monotonic() + (periods.poll if entry.avoid is None else periods.probe)
        self._put(entry, status, str(failure))

    def _crashed(self, entry: Watched, detail: str, periods: NvmlPeriods) -> None:
        entry.crashes += 1
        if entry.crashes >= _MAX_CRASHES:
            self._list.avoid(entry, AvoidReason.CRASH, time.monotonic())
            entry.due_at = time.monotonic() + periods.probe
        self._put(entry, ReadStatus.FAILED, detail)

    def _put(self, entry: Watched, status: ReadStatus, detail: str) -> None:
        if entry.status is not status:
            level = logging.INFO if status is ReadStatus.QUIESCED else logging.WARNING
            log.log(
                level, "gpu is not read", extra=keys(gpu=entry.gpu.uuid, status=status.value, reason=detail)
            )
        entry.status = status
        self._sink.put(
            Reading(
                source=Source.NVML_POLL,
                seen=self._clock.now(),
                uuid=entry.gpu.uuid,
                status=status,
                detail=detail,
            )
        )
