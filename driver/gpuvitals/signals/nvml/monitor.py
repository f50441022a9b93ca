"""NVML as a source of signals: polls, events and the inventory, through a worker process that may hang. Agent's side.

One thread owns the worker and makes one call at a time, so a call that does not return blames exactly one GPU. That GPU
is reported as HUNG and avoided, and a replacement worker polls the others.
"""

import logging
import os
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never

from gpuvitals.model.clock import Clock
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.signal import MonitorReport, MonitorState, Source
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals.signals.fd_poll import readable
from gpuvitals.signals.nvml.discovery import survey
from gpuvitals.signals.nvml.events import EventReporter
from gpuvitals.signals.nvml.inventory import BusWatch, Inventory
from gpuvitals.signals.nvml.polling import GpuPoller, NvmlPeriods, WorkerStale
from gpuvitals.signals.nvml.quiesce import Quiesce
from gpuvitals.signals.nvml.requests import (
    AvoidRequest,
    ForgetRequest,
    MonitorRequest,
    PollRequest,
    QuiesceRequest,
    RequestQueue,
    ResumeRequest,
)
from gpuvitals.signals.nvml.schedule import AvoidReason, PollSchedule
from gpuvitals.signals.nvml.worker_client import CallHung, Deadlines, Stopping, WorkerClient
from gpuvitals.signals.nvml.worker_process import WorkerGone, WorkerLimitError, WorkerSlot
from gpuvitals.signals.nvml_worker.protocol import DRIVER_CODES, DriverFacts, NvmlFailure
from gpuvitals.signals.source import SignalSink
from gpuvitals.signals.sysfs import SysfsTree
from gpuvitals.stoppable_thread import StoppableThread

log = logging.getLogger(__name__)

_GRACE_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NvmlSettings:
    """`backend` is `module:factory` of an NvmlBackend, empty for the real library; `environment` is the worker's.

    `remembered` are the GPUs of an earlier agent and their slots: a GPU that is lost at the start can't be identified.
    """

    backend: str = ""
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    sysfs: Path = Path("/sys")
    remembered: tuple[Gpu, ...] = ()
    deadlines: Deadlines = field(default_factory=Deadlines)
    periods: NvmlPeriods = field(default_factory=NvmlPeriods)


def worker_command(backend: str) -> tuple[str, ...]:
    """The command line of a worker. `-P`: modules are not imported from the agent's working directory."""
    command = (sys.executable, "-P", "-m", "gpuvitals.signals.nvml_worker")
    return (*command, "--backend", backend) if backend else command


class NvmlMonitor:
    """A SignalSource over NVML. One thread, at most two child processes."""

    name = "nvml"

    def __init__(
        self,
        settings: NvmlSettings,
        clock: Clock,
        sink: SignalSink,
        bus: BusWatch | None = None,
        metrics: NodeMetrics | None = None,
    ) -> None:
        """`bus` is given the bus IDs of all known GPUs after each survey, on the monitor's thread."""
        self._periods = settings.periods
        self._clock = clock
        self._sink = sink
        self._metrics = metrics
        self._tree = SysfsTree(settings.sysfs)
        self._thread = StoppableThread(self._run, name=self.name, daemon=False)
        self._schedule = PollSchedule(settings.remembered)
        self._client = WorkerClient(
            WorkerSlot(worker_command(settings.backend), settings.environment),
            settings.deadlines,
            EventReporter(self._schedule, clock, sink, settle_seconds=settings.periods.settle),
            self._thread.stopping,
            metrics,
        )
        self._poller = GpuPoller(self._client, self._schedule, clock, sink)
        self._inventory = Inventory(self._tree, self._schedule, clock, sink, bus)
        self._requests = RequestQueue()
        self._quiesce = Quiesce()
        self._state: MonitorState | None = None
        self._driver: DriverFacts | None = None
        self._opened_at = 0.0
        self._has_events = False
        self._needs_new_worker = False
        self._retry_at = 0.0
        self._retry_seconds = settings.periods.retry_first
        self._compare_at = 0.0

    @property
    def state(self) -> MonitorState | None:
        """Whether the driver answers; None before the first attempt."""
        return self._state

    @property
    def children(self) -> int:
        """The number of worker processes."""
        return self._client.slot.children

    def start(self) -> None:
        """Starts to open the driver and to poll."""
        self._thread.start()

    def stop(self, deadline_seconds: float) -> None:
        """Stops the worker and joins the thread. A killed worker that does not exit is left to the kernel."""
        self._thread.stopping.set()
        self._requests.wake()
        if self._thread.stop(deadline_seconds):
            self._requests.close()

    def request_poll(self, uuid: GpuUuid | None) -> None:
        """Has one GPU, or all for None, polled now. Waiting requests are merged. Any thread."""
        self._requests.put(PollRequest(uuid))

    def avoid(self, uuid: GpuUuid) -> None:
        """Has a GPU probed once and then at long intervals: the kernel logged XID 79, 119 or 120. Any thread."""
        self._requests.put(AvoidRequest(uuid))

    def forget(self, uuid: GpuUuid) -> None:
        """Ends the probes for a GPU that the driver does not enumerate. Any thread."""
        self._requests.put(ForgetRequest(uuid))

    def discover(self, deadline_seconds: float) -> tuple[Gpu, ...] | None:
        """Waits for the first inventory; None at the deadline. Any thread."""
        return self._inventory.wait(deadline_seconds)

    def quiesce(self, deadline_seconds: float, uuids: Collection[GpuUuid] | None = None) -> bool:
        """Closes GPUs, all for None, since a process that has a GPU open blocks its reset. Any thread.

        True once no process of the agent has them open. A new worker, which opens only the other GPUs, continues to
        poll those. Verdicts stay as they are; the kernel log and sysfs are still read.
        """
        number = self._quiesce.request(covers_all=uuids is None)
        self._requests.put(QuiesceRequest(uuids or (), number))
        return self._quiesce.wait(number, deadline_seconds)

    def resume(self, uuids: Collection[GpuUuid] | None = None) -> None:
        """Polls quiesced GPUs again, all for None, with a new worker. Any thread."""
        self._quiesce.lift(covers_all=uuids is None)
        self._requests.put(ResumeRequest(uuids))

    def _run(self) -> None:
        try:
            while not self._thread.stopping.is_set():
                with self._failures_handled():
                    self._step()
                with self._failures_handled():
                    self._wait()
        except Stopping:
            log.info("nvml monitor stops during a call")
        finally:
            if not self._client.slot.close(_GRACE_SECONDS):
                log.warning("nvml worker does not exit", extra=keys(stuck=self._client.slot.stuck))

    def _step(self) -> None:
        """Applies requests, opens the driver if needed, and polls the GPUs that are due."""
        now = time.monotonic()
        for request in self._requests.take():
            self._apply(request, now)
        if self._needs_new_worker:
            self._needs_new_worker = False
            self._detach(0.0)
        if self._quiesce.is_pending and self._client.slot.stuck == 0:
            # The active worker, if any, was started after the request, and does not open the quiesced GPUs.
            self._quiesce.fulfil()
        if self._quiesce.covers_all:
            self._poller.report_quiesced(self._schedule.due(now), self._periods)
            return
        if self._driver is None and now >= self._retry_at:
            self._attach()
        for entry in self._schedule.due(now):
            if self._must_stop_polling():
                return
            self._poller.poll(entry, self._periods, self._opened_at)
            if self._poller.take_mig_change() and self._driver is not None:
                self._inventory.report(self._driver)
        if self._driver is not None:
            self._start_events()
            self._compare_with_bus(now, self._driver)

    def _must_stop_polling(self) -> bool:
        return self._driver is None or self._quiesce.covers_all or self._thread.stopping.is_set()

    def _apply(self, request: MonitorRequest, now: float) -> None:
        match request:
            case PollRequest(uuid):
                self._schedule.request(uuid, now, self._periods.settle)
            case AvoidRequest(uuid):
                self._schedule.avoid_after_xid(uuid, now)
            case ForgetRequest(uuid):
                self._schedule.forget(uuid)
            case QuiesceRequest(uuids, number):
                self._needs_new_worker = True
                self._quiesce.apply(number)
                self._schedule.quiesce(uuids, now)
            case ResumeRequest(uuids):
                self._needs_new_worker = True
                self._schedule.resume(uuids, now)
            case _:
                assert_never(request)

    def _start_events(self) -> None:
        if not self._has_events:
            self._client.start_events()
            self._has_events = True

    def _compare_with_bus(self, now: float, driver: DriverFacts) -> None:
        """Raises WorkerStale if the driver was reloaded or the bus shows an unknown GPU: a new worker surveys again."""
        if now < self._compare_at:
            return
        self._compare_at = now + self._periods.look
        repeats = now - self._opened_at >= self._periods.rediscover
        if not self._must_not_attach() and self._inventory.is_stale(driver, repeats=repeats):
            raise WorkerStale("the bus shows another inventory than the driver")

    def _wait(self) -> None:
        """Waits for events, for requests, or until something is due."""
        now = time.monotonic()
        if self._quiesce.covers_all:
            until = self._schedule.next_due_at(now + _LONGEST_WAIT_SECONDS)
            until = min(until, now + _GRACE_SECONDS) if self._quiesce.is_pending else until
        elif self._driver is None:
            until = self._retry_at
        else:
            until = min(self._schedule.next_due_at(self._compare_at), self._compare_at)
        seconds = max(0.0, min(until - now, _LONGEST_WAIT_SECONDS))
        slot = self._client.slot
        slot.reap()
        if self._metrics is not None:
            self._metrics.nvml_hung.set(max(self._schedule.count(AvoidReason.HUNG), slot.stuck))
        try:
            if slot.worker is None:
                readable((self._requests.wake_file,), seconds)
            else:
                self._client.listen(seconds, self._requests.wake_file)
        finally:
            self._requests.clear_wake()

    @contextmanager
    def _failures_handled(self) -> Iterator[None]:
        """Handles the failures of a step. A stale worker or a hung GPU needs a new worker; others are outages."""
        try:
            yield
        except WorkerStale as error:
            log.debug("nvml worker is replaced", extra=keys(reason=str(error)))
            self._detach(0.0)
        except NvmlFailure as failure:
            if failure.code in DRIVER_CODES:
                self._report_outage(MonitorState.DRIVER_ABSENT, f"{failure}; {self._tree.module_text()}")
            else:
                self._report_outage(MonitorState.UNRESPONSIVE, str(failure))
        except CallHung as error:
            if self._driver is None:
                self._report_outage(MonitorState.UNRESPONSIVE, str(error))
            else:
                self._detach(0.0)
        except (WorkerGone, WorkerLimitError, OSError) as error:
            self._report_outage(MonitorState.UNRESPONSIVE, str(error))

    def _report_outage(self, state: MonitorState, detail: str) -> None:
        self._detach(self._retry_seconds)
        self._retry_seconds = min(2 * self._retry_seconds, self._periods.retry_last)
        self._report_state(state, detail)

    def _detach(self, retry_seconds: float) -> None:
        self._client.slot.vacate(_GRACE_SECONDS / 2)
        self._driver = None
        self._retry_at = time.monotonic() + retry_seconds

    def _attach(self) -> None:
        """Starts a worker and surveys the GPUs. Without a survey if some must not be opened: an index opens any GPU."""
        driver = self._open()
        self._opened_at = time.monotonic()
        self._has_events = False
        self._schedule.worker_started(self._opened_at)
        if not self._must_not_attach():
            driver = self._survey(driver)
        self._driver = driver
        self._retry_seconds = self._periods.retry_first
        self._compare_at = self._opened_at + self._periods.look
        self._report_state(MonitorState.WATCHING, f"driver {driver.driver_version}")

    def _must_not_attach(self) -> bool:
        """Whether a GPU hangs or is quiesced, so that the worker may open only the GPUs that are polled."""
        return self._schedule.count(AvoidReason.HUNG) + self._schedule.count(AvoidReason.QUIESCED) > 0

    def _open(self) -> DriverFacts:
        """Opens the driver. Attaching to all GPUs hangs if one of them does; then none is attached to."""
        if self._must_not_attach():
            return self._client.open(attach=False)
        try:
            return self._client.open()
        except CallHung as error:
            log.warning("nvml can't attach to every gpu", extra=keys(reason=str(error)))
            return self._client.open(attach=False)

    def _survey(self, driver: DriverFacts) -> DriverFacts:
        found = survey(self._client, driver, self._tree, self._schedule)
        self._schedule.adopt(found.gpus, found.divisions, time.monotonic())
        for entry in found.hung:
            self._poller.report_hung(entry, "it could not be identified")
            entry.due_at = time.monotonic() + self._periods.probe
        self._inventory.report(found.driver)
        return found.driver

    def _report_state(self, state: MonitorState, detail: str) -> None:
        if state is not self._state:
            self._state = state
            self._sink.put(
                MonitorReport(source=Source.NVML_POLL, seen=self._clock.now(), state=state, detail=detail)
            )
