"""The inventory of the monitor: reports the GPUs that the driver enumerates, and compares them with the PCI bus."""

import logging
import threading
from collections.abc import Iterable
from typing import Protocol

from gpuvitals.model.clock import Clock
from gpuvitals.model.driver_load import is_reload, known_load
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.ids import PciBusId
from gpuvitals.model.signal import InventoryReport, Source
from gpuvitals.observability.logs import keys
from gpuvitals.signals.nvml.schedule import PollSchedule
from gpuvitals.signals.nvml_worker.protocol import DriverFacts
from gpuvitals.signals.source import SignalSink
from gpuvitals.signals.sysfs import SysfsTree

log = logging.getLogger(__name__)


class BusWatch(Protocol):
    """Watches devices on the PCI bus."""

    def watch(self, bus_ids: Iterable[PciBusId]) -> None:
        """Replaces the set of watched devices. Any thread."""
        ...


class Inventory:
    """Reports the inventory. Used by the monitor's thread only, except `wait`."""

    def __init__(
        self,
        tree: SysfsTree,
        schedule: PollSchedule,
        clock: Clock,
        sink: SignalSink,
        bus: BusWatch | None,
    ) -> None:
        """`bus` is given the bus IDs of all known GPUs at each report."""
        self._tree = tree
        self._schedule = schedule
        self._clock = clock
        self._sink = sink
        self._bus = bus
        self._reported: InventoryReport | None = None
        self._unknown: frozenset[PciBusId] = frozenset()
        self._changed = threading.Condition()

    def wait(self, deadline_seconds: float) -> tuple[Gpu, ...] | None:
        """Waits for the first inventory; None at the deadline. Any thread."""
        with self._changed:
            self._changed.wait_for(lambda: self._reported is not None, deadline_seconds)
            return None if self._reported is None else self._reported.gpus

    def report(self, driver: DriverFacts) -> None:
        """Sends an InventoryReport if the inventory differs from the last report."""
        if self._bus is not None:
            self._bus.watch(gpu.bus_id for gpu in self._schedule.gpus())
        gpus, before = self._schedule.gpus(enumerated=True), self._reported
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

    def is_stale(self, driver: DriverFacts, *, repeats: bool) -> bool:
        """Whether the driver was reloaded, or the bus shows GPUs that the monitor does not know.

        The same unknown GPUs count once, and again if `repeats` is set. False if the bus can't be listed.
        """
        try:
            present = self._tree.driver_gpus()
        except OSError as error:
            log.debug("bus can't be listed", extra=keys(reason=str(error)))
            return False
        unknown = present - {gpu.bus_id for gpu in self._schedule.gpus()}
        load = self._tree.driver_load(driver.driver_version)
        is_reloaded = self._reported is not None and is_reload(self._reported.driver_load, load)
        if not is_reloaded and not (unknown and (unknown != self._unknown or repeats)):
            return False
        self._unknown = unknown
        return True

    def _not_up(self, gpus: tuple[Gpu, ...]) -> tuple[PciBusId, ...]:
        """GPUs of the bus that the driver does not enumerate. Empty if the bus can't be listed: SysfsSource reports that."""
        try:
            return tuple(sorted(self._tree.expected_gpus() - {gpu.bus_id for gpu in gpus}))
        except OSError as error:
            log.debug("bus can't be listed", extra=keys(reason=str(error)))
            return ()
