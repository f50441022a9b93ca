"""One poll of one GPU, or one probe of an avoided GPU, and the consequences of its outcome. Agent's side."""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

from gpuvitals.model.clock import Clock
from gpuvitals.model.signal import Reading, ReadStatus, Source
from gpuvitals.observability.logs import keys
from gpuvitals.signals.nvml.decode import reading_from, status_from, validated
from gpuvitals.signals.nvml.schedule import AvoidReason, PollEntry, PollSchedule
from gpuvitals.signals.nvml.worker_client import CallHung, WorkerClient
from gpuvitals.signals.nvml.worker_process import WorkerGone
from gpuvitals.signals.nvml_worker.protocol import DRIVER_CODES, GpuValues, NvmlFailure
from gpuvitals.signals.source import SignalSink

log = logging.getLogger(__name__)

_MAX_CRASHES = 2
"""If the worker exits in this many calls about a GPU in a row, the GPU is avoided to protect the others."""


class WorkerStale(Exception):
    """A new worker is needed: the active one attached to the GPUs before they changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NvmlPeriods:
    """Periods in seconds.

    `poll`: between two polls, which read the values that change a verdict at once. `checkup`: between two checkups,
    which read slow or expensive values. `probe`: between two probes of an avoided GPU. `settle`: the least time for
    which a GPU is avoided. `look`: between two comparisons of the inventory with the PCI bus. `rediscover`: between
    two surveys for a GPU that is on the bus and that the driver does not enumerate. `fresh`: a worker younger than
    this is not replaced to survey again. `retry_first` and `retry_last`: the first and the longest pause between two
    attempts to open the driver.
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
    """Polls and probes GPUs, and sends a Reading for each attempt. Used by the monitor's thread only."""

    def __init__(self, client: WorkerClient, schedule: PollSchedule, clock: Clock, sink: SignalSink) -> None:
        self._client = client
        self._schedule = schedule
        self._clock = clock
        self._sink = sink
        self._mig_changed = False

    def take_mig_change(self) -> bool:
        """Whether a poll since the last call found other MIG instances or another MIG mode."""
        changed, self._mig_changed = self._mig_changed, False
        return changed

    def poll(self, entry: PollEntry, periods: NvmlPeriods, opened_at: float) -> None:
        """Polls or probes a GPU. Raises CallHung, WorkerGone and WorkerStale, after which a new worker is needed."""
        try:
            if entry.avoid is None:
                self._read(entry, periods)
            elif entry.avoid is AvoidReason.QUIESCED:
                self.report_quiesced([entry], periods)
            else:
                self._probe(entry, periods, opened_at)
        except CallHung as error:
            self.report_hung(entry, str(error))
            entry.due_at = time.monotonic() + periods.probe
            raise
        except WorkerGone as error:
            self._report_crash(entry, str(error), periods)
            raise
        finally:
            entry.polled_at = time.monotonic()

    def report_quiesced(self, entries: Iterable[PollEntry], periods: NvmlPeriods) -> None:
        """Reports that GPUs are not polled on request, so that their verdicts stay."""
        for entry in entries:
            entry.due_at = time.monotonic() + periods.poll
            self._report(entry, ReadStatus.QUIESCED, "not polled, as requested")

    def report_hung(self, entry: PollEntry, detail: str) -> None:
        """Reports a GPU as hung and avoids it."""
        self._schedule.avoid(entry, AvoidReason.HUNG, time.monotonic())
        self._report(entry, ReadStatus.HUNG, detail)

    def _read(self, entry: PollEntry, periods: NvmlPeriods) -> None:
        now = time.monotonic()
        entry.due_at = now + periods.poll
        try:
            if not entry.has_events:
                # Registered before the read, so that no event is lost between the two.
                self._client.watch(entry.gpu)
                entry.has_events = True
            values = self._client.read(entry.gpu)
            reading = reading_from(values, entry.gpu, self._clock.now())
        except NvmlFailure as failure:
            self._report_failure(entry, failure, periods)
        except ValueError as error:
            self._report(entry, ReadStatus.FAILED, f"the worker sent invalid values: {error}")
        else:
            entry.status, entry.crashes = ReadStatus.OK, 0
            self._sink.put(reading)
            self._apply_mig(entry, values)
            if now >= entry.checkup_at:
                self._check(entry, periods)

    def _check(self, entry: PollEntry, periods: NvmlPeriods) -> None:
        entry.checkup_at = time.monotonic() + periods.checkup
        try:
            checkup = validated(self._client.check(entry.gpu), entry.gpu)
        except NvmlFailure as failure:
            if failure.code in DRIVER_CODES or status_from(failure.code) is not ReadStatus.FAILED:
                self._report_failure(entry, failure, periods)
            else:
                self._log_failed_checkup(entry, str(failure))
        except ValueError as error:
            self._log_failed_checkup(entry, str(error))
        else:
            entry.checkup_trouble = ""
            self._sink.put(checkup)

    def _log_failed_checkup(self, entry: PollEntry, reason: str) -> None:
        """Logs each new reason once. A failed checkup is no evidence against the GPU, and polls continue."""
        if entry.checkup_trouble != reason:
            log.warning("gpu can't be checked", extra=keys(gpu=entry.gpu.uuid, reason=reason))
        entry.checkup_trouble = reason

    def _apply_mig(self, entry: PollEntry, values: GpuValues) -> None:
        """Raises WorkerStale after a change of the MIG mode, upon which the GPU is identified again, with its links."""
        was_enabled = entry.gpu.mig_enabled
        self._mig_changed |= self._schedule.divide(entry, values.mig)
        if entry.gpu.mig_enabled is not was_enabled:
            raise WorkerStale(f"gpu {entry.gpu.uuid}: MIG was switched {'off' if was_enabled else 'on'}")

    def _probe(self, entry: PollEntry, periods: NvmlPeriods, opened_at: float) -> None:
        now = time.monotonic()
        if entry.avoid is AvoidReason.HUNG and self._client.slot.stuck:
            # Another hang would leave no worker for the other GPUs.
            entry.due_at = now + periods.settle
            return
        if entry.avoid is AvoidReason.LOST and now - opened_at > periods.fresh:
            raise WorkerStale(f"gpu {entry.gpu.uuid}: looked for by a new worker")
        try:
            self._client.probe(entry.gpu)
        except NvmlFailure as failure:
            self._report_failure(entry, failure, periods)
        else:
            if entry.avoid is not AvoidReason.LOST or entry.enumerated:
                self._resume(entry, periods, now)
                return
            # The GPU is back, but only a new worker enumerates it.
            entry.due_at = now + periods.probe
        if entry.avoid is AvoidReason.LOST and entry.requested_at > opened_at:
            entry.due_at = opened_at + periods.fresh

    def _resume(self, entry: PollEntry, periods: NvmlPeriods, now: float) -> None:
        settled_at = entry.avoided_at + periods.settle
        if entry.avoid is AvoidReason.XID and now < settled_at:
            entry.due_at = settled_at
            return
        entry.avoid = None
        self._read(entry, periods)

    def _report_failure(self, entry: PollEntry, failure: NvmlFailure, periods: NvmlPeriods) -> None:
        """Raises the failure if it is about the driver."""
        if failure.code in DRIVER_CODES:
            raise failure
        status = status_from(failure.code)
        if status is ReadStatus.LOST:
            self._schedule.avoid(entry, AvoidReason.LOST, time.monotonic())
        entry.due_at = time.monotonic() + (periods.poll if entry.avoid is None else periods.probe)
        self._report(entry, status, str(failure))

    def _report_crash(self, entry: PollEntry, detail: str, periods: NvmlPeriods) -> None:
        entry.crashes += 1
        if entry.crashes >= _MAX_CRASHES:
            self._schedule.avoid(entry, AvoidReason.CRASH, time.monotonic())
            entry.due_at = time.monotonic() + periods.probe
        self._report(entry, ReadStatus.FAILED, detail)

    def _report(self, entry: PollEntry, status: ReadStatus, detail: str) -> None:
        """Sends a Reading without values, and logs a change of the status."""
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
