"""The scripted NVML behind the real worker process: returns the values of the node's state file.

The worker loads it by name, `--backend gpuvitals_sim.hardware.nvml_backend:scripted_backend`, and finds the state file in its
environment. The file is read again whenever it was replaced, so a scenario takes effect at the next call.
"""

import os
import threading
import time
from dataclasses import replace
from pathlib import Path

from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.signal import Checkup
from gpuvitals.signals.clock import SystemClock
from gpuvitals.signals.nvml_worker.protocol import (
    GPU_NOT_FOUND,
    NO_INSTANCE,
    NOT_FOUND,
    UNINITIALIZED,
    AttentionEvent,
    BackendEvent,
    DriverFacts,
    GpuFacts,
    GpuValues,
    NvmlFailure,
    XidEvent,
)
from gpuvitals_sim.hardware.state_file import EventScript, GpuScript, NodeScript, StateError, load_state

STATE_VARIABLE = "GPUVITALS_SIM_GPUS"
BACKEND = "gpuvitals_sim.hardware.nvml_backend:scripted_backend"

HIDDEN_BY_MIG = ("remap_pending", "remap_failed", "remapped_uncorrectable")
"""Values that the driver does not report for a GPU in MIG mode. Source: nvml.h of CUDA 13.5, nvmlDeviceGetRemappedRows."""

_HANG_STEP_SECONDS = 0.05
_EVENT_STEP_SECONDS = 0.1
_MESSAGES = {
    3: "Not Supported",
    6: "Not Found",
    9: "Driver Not Loaded",
    15: "GPU is lost",
    16: "GPU requires reset",
    18: "Driver/library version mismatch",
    28: "Invalid GPU",
}


def scripted_backend() -> "ScriptedBackend":
    """The backend over the file that the environment names. Raises ValueError if it names none."""
    path = os.environ.get(STATE_VARIABLE, "")
    if not path:
        raise ValueError(f"{STATE_VARIABLE} is not set; it names the state file of the scripted GPUs")
    return ScriptedBackend(Path(path))


class ScriptedBackend:
    """NvmlBackend over a state file. Calls and event waits may run on two threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._clock = SystemClock()
        self._reading = threading.Lock()
        self._read_as: tuple[int, int] | None = None
        self._state: NodeScript | None = None
        self._delivered = 0
        self._watched: dict[str, int] = {}
        self._pause = threading.Event()

    def open(self, *, attach: bool) -> DriverFacts:
        """Of NvmlBackend. A scripted GPU that hangs does so only in calls about it."""
        state = self._current()
        return DriverFacts(
            driver_version=state.driver_version,
            cuda_driver_version=state.cuda_driver_version,
            gpu_count=len(_enumerated(state)),
        )

    def identify(self, index: int) -> GpuFacts:
        """Of NvmlBackend. The index counts enumerated GPUs only, so it shifts when one disappears."""
        gpus = _enumerated(self._current())
        if index >= len(gpus):
            raise _failure(GPU_NOT_FOUND)
        gpu = self._answering(gpus[index].uuid)
        links = gpu.readings.links
        return GpuFacts(
            uuid=gpu.uuid,
            bus_id=f"0000{gpu.bus_id}".upper(),
            name=gpu.name,
            architecture=gpu.architecture,
            brand=gpu.brand,
            serial=gpu.serial,
            minor=gpu.minor,
            memory_bytes=gpu.memory_bytes,
            cuda_compute_capability=gpu.cuda_compute_capability,
            active_links=None if links is None else sum(link in ("active", "sleep") for link in links),
            mig=gpu.mig,
        )

    def read(self, uuid: str, bus_id: str) -> GpuValues:
        """Of NvmlBackend: the scripted readings."""
        gpu = self._answering(uuid)
        values = {name: getattr(gpu.readings, name) for name in gpu.readings.__struct_fields__}
        if gpu.mig.enabled:
            hidden = tuple(name for name in HIDDEN_BY_MIG if name not in gpu.readings.unsupported)
            values |= dict.fromkeys(HIDDEN_BY_MIG) | {"unsupported": (*gpu.readings.unsupported, *hidden)}
        return GpuValues(**values, mig=gpu.mig)

    def check(self, uuid: str, bus_id: str) -> Checkup:
        """Of NvmlBackend: the scripted checkup."""
        gpu = self._answering(uuid)
        return replace(gpu.checkup, uuid=GpuUuid(uuid), seen=self._clock.now())

    def probe(self, uuid: str, bus_id: str) -> None:
        """Of NvmlBackend. Raises the scripted error of the GPU."""
        self._answering(uuid)

    def watch(self, uuid: str, bus_id: str) -> None:
        """Of NvmlBackend. Earlier events are not delivered, as with the real library."""
        self._answering(uuid)
        self._watched[uuid] = max((event.number for event in self._current().events), default=0)

    def next_event(self, timeout_seconds: float) -> BackendEvent | None:
        """Of NvmlBackend: the next scripted event."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            fresh = [event for event in self._current().events if event.number > self._delivered]
            for event in sorted(fresh, key=lambda entry: entry.number):
                self._delivered = event.number
                if event.number > self._watched.get(event.uuid, event.number):
                    return _event(event)
            self._pause.wait(_EVENT_STEP_SECONDS)
        return None

    def _answering(self, uuid: str) -> GpuScript:
        """The GPU, after its scripted hang. Raises its scripted error."""
        while True:
            gpu = next((gpu for gpu in _enumerated(self._current()) if gpu.uuid == uuid), None)
            if gpu is None:
                raise _failure(NOT_FOUND)
            if time.clock_gettime(time.CLOCK_BOOTTIME) >= gpu.hang_until:
                break
            time.sleep(_HANG_STEP_SECONDS)
        if gpu.error:
            raise _failure(gpu.error)
        return gpu

    def _current(self) -> NodeScript:
        with self._reading:
            try:
                stat = self._path.stat()
                if self._state is None or self._read_as != (stat.st_mtime_ns, stat.st_ino):
                    self._state, self._read_as = load_state(self._path), (stat.st_mtime_ns, stat.st_ino)
            except (OSError, StateError) as error:
                raise NvmlFailure(UNINITIALIZED, f"scripted GPUs: {error}") from error
            if self._state.driver_error:
                raise _failure(self._state.driver_error)
            return self._state


def _enumerated(state: NodeScript) -> list[GpuScript]:
    return [gpu for gpu in state.gpus if gpu.enumerated]


def _event(event: EventScript) -> BackendEvent:
    if event.xid:
        whom = NO_INSTANCE if event.gpu_instance is None else event.gpu_instance
        return XidEvent(uuid=event.uuid, code=event.xid, gpu_instance=whom)
    return AttentionEvent(uuid=event.uuid, why="the script changed something")


def _failure(code: int) -> NvmlFailure:
    return NvmlFailure(code, _MESSAGES.get(code, f"NVML error {code}"))
