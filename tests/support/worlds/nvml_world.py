"""Small worlds for the NVML tests: a real monitor with a real worker, over scripted GPUs or a mock library."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from gpuvitals.model.gpu import Gpu
from gpuvitals.model.signal import InventoryReport, Reading, ReadStatus, Signal
from gpuvitals.signals.clock import SystemClock
from gpuvitals.signals.nvml.monitor import NvmlMonitor, NvmlSettings
from gpuvitals.signals.nvml.polling import NvmlPeriods
from gpuvitals.signals.nvml.worker_client import Deadlines

S = TypeVar("S")

QUICK = NvmlPeriods(
    poll=0.2, probe=1.0, settle=0.3, fresh=0.2, look=0.3, rediscover=1.0, retry_first=0.1, retry_last=0.4
)
SHORT = Deadlines(open_seconds=5.0, call_seconds=0.4)


class Recorder:
    """A sink that keeps everything, and on which a test can wait."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._signals: list[Signal] = []

    def put(self, signal: Signal) -> None:
        """Keeps the signal."""
        with self._changed:
            self._signals.append(signal)
            self._changed.notify_all()

    @property
    def signals(self) -> list[Signal]:
        """Everything so far."""
        with self._changed:
            return list(self._signals)

    def mark(self) -> int:
        """A position from which `wait` can look."""
        return len(self.signals)

    def wait(self, kind: type[S], wanted: Callable[[S], bool] = lambda signal: True, *, since: int = 0) -> S:
        """The first signal of that kind that is wanted. Fails after ten seconds."""
        deadline = time.monotonic() + 10
        with self._changed:
            while True:
                for signal in self._signals[since:]:
                    if isinstance(signal, kind) and wanted(signal):
                        return signal
                left = deadline - time.monotonic()
                assert left > 0, f"no wanted {kind.__name__} in {self._signals[since:][-8:]}"
                self._changed.wait(left)

    def reading(self, gpu: Gpu, status: ReadStatus, *, since: int = 0) -> Reading:
        """The first reading of a GPU with that status."""
        return self.wait(
            Reading, lambda entry: entry.uuid == gpu.uuid and entry.status is status, since=since
        )

    def statuses(self, gpu: Gpu, *, since: int = 0) -> set[ReadStatus]:
        """With which statuses a GPU was read."""
        readings = [entry for entry in self.signals[since:] if isinstance(entry, Reading)]
        return {entry.status for entry in readings if entry.uuid == gpu.uuid}


@dataclass(frozen=True, slots=True, kw_only=True)
class NvmlWorld:
    """A running monitor, and its signals."""

    monitor: NvmlMonitor
    sink: Recorder

    def gpus(self) -> tuple[Gpu, ...]:
        """The first inventory."""
        return self.sink.wait(InventoryReport).gpus


@contextmanager
def running(
    *,
    backend: str = "",
    environment: Mapping[str, str],
    sysfs: Path,
    periods: NvmlPeriods = QUICK,
    remembered: tuple[Gpu, ...] = (),
    deadlines: Deadlines = SHORT,
) -> Iterator[NvmlWorld]:
    """A started monitor; at the end it must have stopped and left no child."""
    sink = Recorder()
    settings = NvmlSettings(
        backend=backend,
        environment=dict(os.environ) | dict(environment),
        sysfs=sysfs,
        remembered=remembered,
        deadlines=deadlines,
        periods=periods,
    )
    monitor = NvmlMonitor(settings, SystemClock(), sink)
    monitor.start()
    try:
        yield NvmlWorld(monitor=monitor, sink=sink)
    finally:
        monitor.stop(5)
    assert monitor.children == 0
