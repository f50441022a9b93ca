"""NVML as a source of signals: polls, events and the inventory, through a worker that may hang. Parent side.

One thread owns the worker and asks about one GPU at a time, so a call that does not return blames exactly one GPU:
that GPU is reported HUNG and left alone, and the others are polled on through a replacement.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from gpuvitals.model.clock import Clock
from gpuvitals.model.driver_load import is_reload, known_load
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.ids import GpuUuid, PciBusId
from gpuvitals.model.signal import InventoryReport, MonitorReport, MonitorState, Source
from gpuvitals.model.xids import HANDS_OFF_XIDS
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals.signals.fd_poll import readable
from gpuvitals.signals.nvml.decode import xid_report
from gpuvitals.signals.nvml.discovery import survey
from gpuvitals.signals.nvml.polling import GpuPoller, NvmlPeriods, WorkerStale
from gpuvitals.signals.nvml.schedule import AvoidReason, PollSchedule
from gpuvitals.signals.nvml.worker_client import CallHung, Deadlines, Stopping, WorkerClient
from gpuvitals.signals.nvml.worker_process import WorkerGone, WorkerLimitError, WorkerSlot
from gpuvitals.signals.nvml_worker.protocol import (
    DRIVER_CODES,
    BackendEvent,
    DriverFacts,
    NvmlFailure,
    XidEvent,
)
from gpuvitals.signals.source import SignalSink
from gpuvitals.signals.sysfs import SysfsTree

log = logging.getLogger(__name__)

_GRACE_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NvmlSettings:
    """`backend` is `module:factory` of an NvmlBackend, empty for the real library; `environment` is the worker's.

    `remembered` are the GPUs an earlier agent knew in their slots: one that is lost at our start can't say who it is.
    """

    backend: str = ""
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    sysfs: Path = Path("/sys")
    remembered: tuple[Gpu, ...] = ()
    deadlines: Deadlines = field(default_factory=Deadlines)
    periods: NvmlPeriods = field(default_factory=NvmlPeriods)


def worker_command(backend: str) -> tuple[str, ...]:
    """How a worker is started. `-P`: the agent's working directory is no place to import from."""
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
        on_gpus: Callable[[tuple[Gpu, ...]], None] = lambda gpus: None,
        metrics: NodeMetrics | None = None,
    ) -> None:
        """`on_gpus` hears, on the monitor's thread, of every GPU known, whenever the inventory was taken."""
        self._periods = settings.periods
        self._clock = clock
        self._sink = sink
        self._on_gpus = on_gpus
        self._metrics = metrics
        self._tree = SysfsTree(settings.sysfs)
        seat = WorkerSlot(worker_command(settings.backend), settings.environment)
        self._link = WorkerClient(seat, settings.deadlines, self._heard, lambda: self._stop.is_set(), metrics)
        self._list = PollSchedule(settings.remembered)
        self._visitor = GpuPoller(self._link, self._list, clock, sink)
        self._state: MonitorState | None = None
        self._driver: DriverFacts | None = None
        self._opened_at = 0.0
        self._hears = False
        self._retry_at = 0.0
        self._retry_seconds = settings.periods.retry_first
        self._look_at = 0.0
        self._strangers: frozenset[PciBusId] = frozenset()
        self._reported: InventoryReport | None = None
        self._changed = threading.Condition()
        self._asked: list[Callable[[float], None]] = []
        self._quiet = False
        self._wishes = self._heeded = self._released = 0
        self._renews = False
        self._wake: int | None = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nvml")

    @property
    def state(self) -> MonitorState | None:
        """Whether the driver answers; None before the first attempt."""
        return self._state

    @property
    def children(self) -> int:
        """How many worker processes there are."""
        return self._link.seat.children

    def start(self) -> None:
        """Begins to attach, and to poll."""
        self._thread.start()

    def stop(self, deadline_seconds: float) -> None:
        """Stops, ends the worker and joins the thread; a worker that does not die is left to the kernel."""
        self._stop.set()
        self._nudge()
        self._thread.join(deadline_seconds)
        with self._changed:
            if self._wake is not None and not self._thread.is_alive():
                os.close(self._wake)
                self._wake = None

    def request_poll(self, uuid: GpuUuid | None) -> None:
        """Has one GPU, or all for None, looked at at once; requests that wait are one. Any thread."""
        self._ask(lambda now: self._list.ask(uuid, now, self._periods.settle))

    def avoid(self, uuid: GpuUuid) -> None:
        """Has a GPU probed once and then seldom: the kernel log told of XID 79, 119 or 120. Any thread."""
        self._ask(lambda now: self._hands_off(uuid, now))

    def forget(self, uuid: GpuUuid) -> None:
        """Has a GPU that the driver does not enumerate looked for no more. Any thread."""
        self._ask(lambda now: self._list.forget(uuid))

    def discover(self, deadline_seconds: float) -> tuple[Gpu, ...] | None:
        """Waits for the first inventory; None where the driver gave none until the deadline. Any thread."""
        with self._changed:
            self._changed.wait_for(lambda: self._reported is not None, deadline_seconds)
            return None if self._reported is None else self._reported.gpus

    def quiesce(self, deadline_seconds: float, uuids: Collection[GpuUuid] | None = None) -> bool:
        """Stays away from GPUs, all for None: a process of ours that has one open blocks its reset. Any thread.

        True once none has. Siblings are read on, by a worker that opens only them. Verdicts stay as they are; the
        kernel log and the bus are heard on.
        """
        with self._changed:
            self._wishes += 1
            wish = self._wishes
            self._quiet = self._quiet or uuids is None
        self._ask(lambda now: self._set_apart(uuids or (), wish, now))
        with self._changed:
            return self._changed.wait_for(lambda: self._released >= wish, deadline_seconds)

    def resume(self, uuids: Collection[GpuUuid] | None = None) -> None:
        """Comes back to GPUs after `quiesce`, to all for None, with a new worker. Any thread."""
        with self._changed:
            self._quiet = self._quiet and uuids is not None
        self._ask(lambda now: self._come_back(uuids, now))

    def _ask(self, request: Callable[[float], None]) -> None:
        with self._changed:
            self._asked.append(request)
        self._nudge()

    def _nudge(self) -> None:
        with self._changed:
            if self._wake is not None:
                os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._guarded(self._turn)
                self._guarded(self._idle)
        except Stopping:
            log.info("nvml monitor stops in the middle of a call")
        finally:
            if not self._link.seat.close(_GRACE_SECONDS):
                log.warning("nvml worker does not die", extra=keys(stuck=self._link.seat.stuck))

    def _turn(self) -> None:
        now = time.monotonic()
        with self._changed:
            asked, self._asked = self._asked, []
        for request in asked:
            request(now)
        if self._renews:
            self._renews = False
            self._detach(0.0)
        self._note_release()
        if self._quiet:
            self._visitor.rest(self._list.due(now), self._periods)
            return
        if self._driver is None and now >= self._retry_at:
            self._attach()
        for entry in self._list.due(now):
            if self._interrupted():
                return
            self._visitor.visit(entry, self._periods, self._opened_at)
            if self._visitor.take_division() and self._driver is not None:
                self._report_inventory(self._driver)
        if not self._hears and self._driver is not None:
            self._link.hear()
            self._hears = True
        if self._driver is not None and now >= self._look_at:
            self._compare_with_bus(now, self._driver)

    def _interrupted(self) -> bool:
        return self._driver is None or self._quiet or self._stop.is_set()

    def _idle(self) -> None:
        """Waits for events, requests, or the next thing that is due."""
        now = time.monotonic()
        if self._quiet:
            until = self._list.next_due_at(now + _LONGEST_WAIT_SECONDS)
            until = until if self._released == self._heeded else min(until, now + _GRACE_SECONDS)
        elif self._driver is None:
            until = self._retry_at
        else:
            until = min(self._list.next_due_at(self._look_at), self._look_at)
        seconds = max(0.0, min(until - now, _LONGEST_WAIT_SECONDS))
        self._link.seat.reap()
        if self._metrics is not None:
            self._metrics.nvml_hung.set(max(self._list.count(AvoidReason.HUNG), self._link.seat.stuck))
        wake = self._wake
        assert wake is not None
        try:
            if self._link.seat.worker is None:
                readable((wake,), seconds)
            else:
                self._link.listen(seconds, wake)
        finally:
            if readable((wake,), 0.0):
                os.eventfd_read(wake)

    def _guarded(self, step: Callable[[], None]) -> None:
        """Runs a step. A GPU's hang or a stale worker asks for a new one at once; other failures make us blind."""
        try:
            step()
        except WorkerStale as error:
            log.debug("nvml worker is replaced", extra=keys(reason=str(error)))
            self._detach(0.0)
        except NvmlFailure as failure:
            if failure.code in DRIVER_CODES:
                self._blind(MonitorState.DRIVER_ABSENT, f"{failure}; {self._tree.module()}")
            else:
                self._blind(MonitorState.UNRESPONSIVE, str(failure))
        except CallHung as error:
            if self._driver is None:
                self._blind(MonitorState.UNRESPONSIVE, str(error))
            else:
                self._detach(0.0)
        except (WorkerGone, WorkerLimitError, OSError) as error:
            self._blind(MonitorState.UNRESPONSIVE, str(error))

    def _blind(self, state: MonitorState, detail: str) -> None:
        self._detach(self._retry_seconds)
        self._retry_seconds = min(2 * self._retry_seconds, self._periods.retry_last)
        self._monitor(state, detail)

    def _detach(self, retry_seconds: float) -> None:
        self._link.seat.vacate(_GRACE_SECONDS / 2)
        self._driver = None
        self._retry_at = time.monotonic() + retry_seconds

    def _set_apart(self, uuids: Collection[GpuUuid], wish: int, now: float) -> None:
        self._renews, self._heeded = True, wish
        for entry in self._list:
            if entry.gpu.uuid in uuids:
                self._list.avoid(entry, AvoidReason.ASKED, now)

    def _come_back(self, uuids: Collection[GpuUuid] | None, now: float) -> None:
        self._renews = True
        for entry in self._list:
            if entry.avoid is AvoidReason.ASKED and (uuids is None or entry.gpu.uuid in uuids):
                entry.avoid, entry.due_at = None, now

    def _note_release(self) -> None:
        """A worker that sits was started after the request, and opens none of the GPUs that it is to leave alone."""
        if self._released < self._heeded and self._link.seat.stuck == 0:
            with self._changed:
                self._released = self._heeded
                self._changed.notify_all()

    def _attach(self) -> None:
        """Starts a worker and takes the inventory, unless a GPU is not to be touched, as an index would."""
        driver = self._open()
        self._opened_at = time.monotonic()
        self._hears = False
        self._list.begin(self._opened_at)
        if not self._must_not_attach():
            driver = self._take_inventory(driver)
        self._driver = driver
        self._retry_seconds = self._periods.retry_first
        self._look_at = self._opened_at + self._periods.look
        self._monitor(MonitorState.WATCHING, f"driver {driver.driver_version}")

    def _must_not_attach(self) -> bool:
        """Whether a GPU hangs, or is somebody else's for now: then only those that are asked about are opened."""
        return self._list.count(AvoidReason.HUNG) + self._list.count(AvoidReason.ASKED) > 0

    def _open(self) -> DriverFacts:
        """Opens the driver; where a GPU hangs, without touching any: to attach to all may hang for one of them."""
        if self._must_not_attach():
            return self._link.open(attach=False)
        try:
            return self._link.open()
        except CallHung as error:
            log.warning("nvml can't attach to every gpu", extra=keys(reason=str(error)))
            return self._link.open(attach=False)

    def _take_inventory(self, driver: DriverFacts) -> DriverFacts:
        taken = survey(self._link, driver, self._tree, self._list)
        self._list.adopt(taken.gpus, taken.divisions, time.monotonic())
        for entry in taken.hung:
            self._visitor.hung(entry, "it could not be identified")
            entry.due_at = time.monotonic() + self._periods.probe
        self._report_inventory(taken.driver)
        return taken.driver

    def _report_inventory(self, driver: DriverFacts) -> None:
        self._on_gpus(self._list.gpus())
        gpus, before = self._list.gpus(enumerated=True), self._reported
        not_up, load = self._not_up(gpus), self._tree.driver_load(driver.driver_version)
        load = known_load("" if before is None else before.driver_load, load)
        if before is not None and (before.gpus, before.driver_load, before.not_up) == (gpus, load, not_up):
            return
        report = InventoryReport(
            source=Source.NVML_POLL, seen=self._clock.now(), gpus=gpus, driver_load=load, not_up=not_up
        )
        self._sink.put(report)
        with self._changed:
            self._reported = report
            self._changed.notify_all()

    def _not_up(self, gpus: tuple[Gpu, ...]) -> tuple[PciBusId, ...]:
        """GPUs of the bus that the driver does not enumerate; none where the bus can't be listed, which sysfs reports."""
        try:
            return tuple(sorted(self._tree.expected_gpus() - {gpu.bus_id for gpu in gpus}))
        except OSError as error:
            log.debug("bus can't be listed", extra=keys(reason=str(error)))
            return ()

    def _compare_with_bus(self, now: float, driver: DriverFacts) -> None:
        """A GPU that the bus shows and nobody knows, or a driver loaded anew, is reason to look again."""
        self._look_at = now + self._periods.look
        try:
            present = self._tree.driver_gpus()
        except OSError as error:
            log.debug("bus can't be listed", extra=keys(reason=str(error)))
            return
        strangers = present - {gpu.bus_id for gpu in self._list.gpus()}
        load = self._tree.driver_load(driver.driver_version)
        reloaded = self._reported is not None and is_reload(self._reported.driver_load, load)
        again = strangers != self._strangers or now - self._opened_at >= self._periods.rediscover
        if not self._must_not_attach() and (reloaded or (strangers and again)):
            self._strangers = strangers
            raise WorkerStale("the bus shows another inventory than the driver gave")

    def _heard(self, event: BackendEvent) -> None:
        """Events come on this thread, also in the middle of a call about another GPU."""
        now, settle = time.monotonic(), self._periods.settle
        entry = self._list.get(event.uuid)
        if not isinstance(event, XidEvent):
            log.info("nvml event", extra=keys(gpu=event.uuid, reason=event.why))
            self._list.ask(None if entry is None else entry.gpu.uuid, now, settle)
        elif entry is None:
            log.warning("xid of no known gpu", extra=keys(gpu=event.uuid, xid=event.code))
            self._list.ask(None, now, settle)
        else:
            self._sink.put(xid_report(event, entry.gpu, self._clock.now()))
            if event.code in HANDS_OFF_XIDS:
                self._hands_off(entry.gpu.uuid, now)
            else:
                self._list.ask(entry.gpu.uuid, now, settle)

    def _hands_off(self, uuid: GpuUuid, now: float) -> None:
        entry = self._list.get(uuid)
        if entry is not None and entry.avoid is None:
            self._list.avoid(entry, AvoidReason.XID, now)

    def _monitor(self, state: MonitorState, detail: str) -> None:
        if state is not self._state:
            self._state = state
            self._sink.put(
                MonitorReport(source=Source.NVML_POLL, seen=self._clock.now(), state=state, detail=detail)
            )
