"""The NvmlBackend over the real library. Loaded in the worker process only.

A missing symbol, a missing field or "not supported" makes one value unknown, and never a GPU unhealthy, since drivers of
many versions are in use. A poll fails only for an answer about the whole GPU: lost, or reset required.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pynvml

from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.signal import Checkup
from gpuvitals.signals.clock import SystemClock
from gpuvitals.signals.nvml_worker.checkup import checkup
from gpuvitals.signals.nvml_worker.library import load
from gpuvitals.signals.nvml_worker.mig import division
from gpuvitals.signals.nvml_worker.poll import FATAL, Collector, link_states, reading
from gpuvitals.signals.nvml_worker.protocol import (
    ABOUT_ANY_GPU,
    DRIVER_CODES,
    GPU_NOT_FOUND,
    UNKNOWN,
    AttentionEvent,
    BackendEvent,
    DriverFacts,
    GpuFacts,
    GpuValues,
    NvmlFailure,
    XidEvent,
)

_ARCHITECTURES = {
    2: "Kepler",
    3: "Maxwell",
    4: "Pascal",
    5: "Volta",
    6: "Turing",
    7: "Ampere",
    8: "Ada Lovelace",
    9: "Hopper",
    10: "Blackwell",
    13: "Rubin",
}
"""Source: nvml.h of CUDA 13.5, NVML_DEVICE_ARCH_*."""
_BRANDS = {1: "Quadro", 2: "Tesla", 5: "GeForce", 6: "Titan", 12: "QuadroRTX", 13: "NvidiaRTX", 14: "Nvidia"}

_XID_EVENT = 0x8
_EVENT_NAMES = {
    0x2: "a double bit error was counted",
    0x100: "its MIG instances changed",
    0x200: "it counts a storm of single bit errors",
    0x400: "a memory row or page was retired",
    0x800: "a memory row or page could not be retired",
    0x1000: "poisoned data was consumed, which a process can survive",
    0x2000: "poisoned data was consumed, which the GPU does not survive",
    0x4000: "the GPU became unavailable",
    0x8000: "the recovery action changed",
}
"""Events without a value: the GPU is polled. Source: nvml.h of CUDA 13.5, nvmlEventType*.

Events of healthy GPUs are left out: single bit errors, performance state, clocks, power source.
"""
_WANTED_EVENTS = sum(_EVENT_NAMES, _XID_EVENT)


class PynvmlBackend:
    """NvmlBackend over libnvidia-ml.so.1. Calls and event waits may run on two threads: NVML is thread safe."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._handles: dict[str, Any] = {}
        self._watched: dict[str, Any] = {}
        self._attached = True
        self._events: Any = None

    def open(self, *, attach: bool) -> DriverFacts:
        """Loads the library and opens the driver."""
        load()
        with _translated():
            self._attached = _initialised(attach=attach)
            cuda = int(pynvml.nvmlSystemGetCudaDriverVersion())
            return DriverFacts(
                driver_version=str(pynvml.nvmlSystemGetDriverVersion()),
                cuda_driver_version=f"{cuda // 1000}.{cuda % 1000 // 10}",
                gpu_count=int(pynvml.nvmlDeviceGetCount()),
            )

    def identify(self, index: int) -> GpuFacts:
        """Reads identity and facts, and keeps the handle for later calls and events."""
        with _translated():
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            uuid = str(pynvml.nvmlDeviceGetUUID(handle))
            bus_id = pynvml.nvmlDeviceGetPciInfo(handle).busId
            found = Collector()
            major_minor = found.take("capability", lambda: pynvml.nvmlDeviceGetCudaComputeCapability(handle))
            architecture = found.take("architecture", lambda: int(pynvml.nvmlDeviceGetArchitecture(handle)))
            brand = found.take("brand", lambda: int(pynvml.nvmlDeviceGetBrand(handle)))
            links = found.take("links", lambda: link_states(handle))
            self._handles[uuid] = handle
            return GpuFacts(
                uuid=uuid,
                # Bytes in some releases of pynvml, text in others.
                bus_id=bus_id.decode("ascii") if isinstance(bus_id, bytes) else str(bus_id),
                name=found.take("name", lambda: str(pynvml.nvmlDeviceGetName(handle))) or "",
                architecture=_ARCHITECTURES.get(architecture or 0, ""),
                brand=_BRANDS.get(brand or 0, ""),
                serial=found.take("serial", lambda: str(pynvml.nvmlDeviceGetSerial(handle))) or "",
                minor=found.take("minor", lambda: int(pynvml.nvmlDeviceGetMinorNumber(handle))),
                memory_bytes=found.take("memory", lambda: int(pynvml.nvmlDeviceGetMemoryInfo(handle).total))
                or 0,
                cuda_compute_capability="" if major_minor is None else f"{major_minor[0]}.{major_minor[1]}",
                active_links=0 if "links" in found.unsupported else _active(links),
                mig=found.take("mig", lambda: division(handle)),
            )

    def read(self, uuid: str, bus_id: str) -> GpuValues:
        """Every value of one poll."""
        with _translated():
            handle = self._handle(uuid, bus_id)
            values, found = reading(handle), Collector()
            mig = found.take("mig", lambda: division(handle))
            detail = "; ".join(each for each in (values.detail, *found.troubles) if each)
            return msgspec.structs.replace(values, mig=mig, detail=detail)

    def check(self, uuid: str, bus_id: str) -> Checkup:
        """Every value of one checkup."""
        with _translated():
            return checkup(self._handle(uuid, bus_id), GpuUuid(uuid), self._clock)

    def probe(self, uuid: str, bus_id: str) -> None:
        """Looks the GPU up again and reads one field, the cheapest call that reaches the GPU."""
        with _translated():
            handle = self._look_up(uuid, bus_id)
            result = int(pynvml.nvmlDeviceGetFieldValues(handle, [230])[0].nvmlReturn)
            if result in FATAL:
                raise pynvml.NVMLError(result)
            self._handles[uuid] = handle

    def watch(self, uuid: str, bus_id: str) -> None:
        """Adds the GPU to the event set. A refusal can invalidate the set, which is then made again without the GPU."""
        with _translated():
            handle = self._handle(uuid, bus_id)
            if self._events is None:
                self._make_set()
            if self._registered(handle):
                self._watched[uuid] = handle
            else:
                pynvml.nvmlEventSetFree(self._events)
                self._make_set()

    def next_event(self, timeout_seconds: float) -> BackendEvent | None:
        """The next event. A failed wait leaves the event set undefined, so the next call makes a new one."""
        if self._events is None:
            with _translated():
                self._make_set()
        try:
            event = pynvml.nvmlEventSetWait_v2(self._events, int(timeout_seconds * 1000))
        except pynvml.NVMLError as error:
            if error.value == pynvml.NVML_ERROR_TIMEOUT:
                return None
            events, self._events = self._events, None
            with _translated():
                pynvml.nvmlEventSetFree(events)
            raise NvmlFailure(int(error.value), str(error)) from error
        return self._translated_event(event)

    def _make_set(self) -> None:
        """Makes an event set with all watched GPUs, without those whose registration invalidates the set."""
        while True:
            self._events = pynvml.nvmlEventSetCreate()
            refused = next((u for u, handle in self._watched.items() if not self._registered(handle)), None)
            if refused is None:
                return
            del self._watched[refused]
            pynvml.nvmlEventSetFree(self._events)

    def _registered(self, handle: Any) -> bool:
        """False if the refused registration leaves the event set undefined. Source: NVML API reference."""
        try:
            supported = int(pynvml.nvmlDeviceGetSupportedEventTypes(handle))
            pynvml.nvmlDeviceRegisterEvents(handle, supported & _WANTED_EVENTS, self._events)
        except pynvml.NVMLError as error:
            return int(error.value) != UNKNOWN
        return True

    def _translated_event(self, event: Any) -> BackendEvent | None:
        uuid, kind = self._uuid(event.device), int(event.eventType)
        if kind != _XID_EVENT:
            return AttentionEvent(uuid=uuid, why=_EVENT_NAMES.get(kind, f"event {kind:#x}"))
        if not uuid:
            return AttentionEvent(uuid="", why=f"xid {int(event.eventData)} of an unknown GPU")
        return XidEvent(
            uuid=uuid,
            code=int(event.eventData),
            gpu_instance=int(event.gpuInstanceId),
            compute_instance=int(event.computeInstanceId),
        )

    def _handle(self, uuid: str, bus_id: str) -> Any:
        handle = self._handles.get(uuid)
        if handle is None:
            handle = self._handles[uuid] = self._look_up(uuid, bus_id)
        return handle

    def _uuid(self, device: Any) -> str:
        address = _address(device)
        return next((uuid for uuid, handle in self._handles.items() if _address(handle) == address), "")

    def _look_up(self, uuid: str, bus_id: str) -> Any:
        """The handle of a GPU: by its slot, with the UUID verified, else by its UUID.

        A lookup by slot initialises no other GPU, so its errors are about this GPU. A lookup by UUID answers
        GPU_IS_LOST if any GPU of the node is lost, so its errors blame no GPU.
        Source: nvml.h of CUDA 13.5, nvmlDeviceGetHandleByPciBusId_v2 and nvmlDeviceGetHandleByUUID.
        """
        try:
            handle = pynvml.nvmlDeviceGetHandleByPciBusId(bus_id)
        except pynvml.NVMLError as error:
            if error.value in FATAL:
                raise
            return self._by_uuid(uuid, error)
        # The UUID of a faulty GPU may be unreadable although the GPU is in its slot.
        if Collector().take("uuid", lambda: str(pynvml.nvmlDeviceGetUUID(handle))) in (None, uuid):
            return handle
        return self._by_uuid(uuid, NvmlFailure(GPU_NOT_FOUND, f"another GPU is in slot {bus_id} now"))

    def _by_uuid(self, uuid: str, otherwise: Exception) -> Any:
        """The handle of a GPU that is not in its slot. Raises `otherwise`, the slot's answer, if nothing contradicts it."""
        if not self._attached:
            # The lookup would initialise every GPU, also those that must not be opened.
            raise otherwise
        try:
            return pynvml.nvmlDeviceGetHandleByUUID(uuid)
        except pynvml.NVMLError as error:
            if error.value in DRIVER_CODES:
                raise
            if error.value not in ABOUT_ANY_GPU or not isinstance(otherwise, NvmlFailure):
                raise otherwise from error
            # Another GPU is in the slot. While any GPU is lost, a lookup can't show whether this one has moved.
            raise NvmlFailure(UNKNOWN, f"{otherwise}, and by UUID the driver answers: {error}") from error


def _initialised(*, attach: bool) -> bool:
    """Initialises the library and returns whether it attached to every GPU. If one GPU fails, it attaches to none."""
    if attach:
        try:
            pynvml.nvmlInitWithFlags(0)
            return True
        except pynvml.NVMLError as error:
            if error.value not in ABOUT_ANY_GPU:
                raise
    pynvml.nvmlInitWithFlags(pynvml.NVML_INIT_FLAG_NO_ATTACH)
    return False


def _active(links: tuple[str, ...] | None) -> int | None:
    return None if links is None else sum(link in ("active", "sleep") for link in links)


def _address(handle: Any) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except pynvml.NVMLError as error:
        raise NvmlFailure(int(error.value), str(error)) from error
