"""The interface between the NVML worker and the library: a small Protocol, and the plain values sent over the pipe.

There are two implementations: the real library (`pynvml_backend`) and the scripted GPUs of the simulation. Both run in
the worker process only, so calls may block without a bound.
"""

from typing import Protocol

import msgspec

from gpuvitals.model.signal import Checkup

DEFAULT_BACKEND = "gpuvitals.signals.nvml_worker.pynvml_backend:PynvmlBackend"
"""The real library, as an argument of `--backend`."""

SUCCESS = 0
UNINITIALIZED = 1
INVALID_ARGUMENT = 2
NOT_SUPPORTED = 3
NOT_FOUND = 6
INSUFFICIENT_POWER = 8
DRIVER_NOT_LOADED = 9
IRQ_ISSUE = 11
LIBRARY_NOT_FOUND = 12
FUNCTION_NOT_FOUND = 13
GPU_IS_LOST = 15
RESET_REQUIRED = 16
VERSION_MISMATCH = 18
GPU_NOT_FOUND = 28
UNKNOWN = 999
"""Numbers of nvmlReturn_t, which are ABI. Source: nvml.h of CUDA 13.5."""

DRIVER_CODES = frozenset({UNINITIALIZED, DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND, VERSION_MISMATCH})
"""Answers about the driver. They blame no GPU, and only a new worker can succeed."""

ABOUT_ANY_GPU = frozenset({INSUFFICIENT_POWER, IRQ_ISSUE, GPU_IS_LOST, RESET_REQUIRED})
"""Answers that may be about any GPU of the node if the call does not name one by slot, index or handle.

Source: nvml.h of CUDA 13.5, nvmlDeviceGetHandleByUUID ("if any GPU"), nvmlEventSetWait_v2 ("if a GPU").
"""

NO_INSTANCE = 0xFFFFFFFF
"""The instance of an event that blames no MIG instance. Source: nvml.h, nvmlEventData_t."""


class NvmlFailure(Exception):
    """An error of the library. `code` is the number of nvmlReturn_t."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class DriverFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The loaded driver. `cuda_driver_version` is `major.minor`; `gpu_count` is the number of enumerated GPUs."""

    driver_version: str
    cuda_driver_version: str
    gpu_count: int


class InstanceFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A MIG instance: its IDs and its own or shared resources. 0, None and the empty string mean "not read".

    `gpu_start` is the first memory slice of the GPU instance, `compute_start` the first compute slice of a compute
    instance that is smaller than it.
    """

    uuid: str
    gpu_instance: int
    compute_instance: int
    profile: str = ""
    memory_bytes: int = 0
    multiprocessors: int = 0
    copy_engines: int = 0
    decoders: int = 0
    encoders: int = 0
    jpeg_engines: int = 0
    gpu_start: int | None = None
    compute_start: int | None = None


class MigFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The MIG mode and instances of a GPU. A model without MIG counts as MIG off."""

    enabled: bool
    instances: tuple[InstanceFacts, ...] = ()


class GpuFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The identity and facts of a GPU. `bus_id` is in the library's spelling. `active_links` and `mig` are None if they
    could not be read.
    """

    uuid: str
    bus_id: str
    name: str
    architecture: str = ""
    brand: str = ""
    serial: str = ""
    minor: int | None = None
    memory_bytes: int = 0
    cuda_compute_capability: str = ""
    active_links: int | None = None
    mig: MigFacts | None = None


class GpuValues(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The values of one poll. Names and units are those of `model.signal.Reading`; states are the values of its enums.

    `mig` is None if it could not be read.
    """

    recovery_action: int | None = None
    ecc_uncorrected_volatile: int | None = None
    ecc_uncorrected_aggregate: int | None = None
    ecc_corrected_volatile: int | None = None
    sram_threshold_exceeded: bool | None = None
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    remapped_uncorrectable: int | None = None
    banks_without_spare: int | None = None
    links: tuple[str, ...] | None = None
    fabric: str | None = None
    thermal_margin_celsius: int | None = None
    hardware_slowdown: bool | None = None
    mig: MigFacts | None = None
    unsupported: tuple[str, ...] = ()
    detail: str = ""


class XidEvent(msgspec.Struct, frozen=True, kw_only=True, tag="xid"):
    """An XID of one GPU, without details. 999 is the library's "unknown XID"."""

    uuid: str
    code: int
    gpu_instance: int = NO_INSTANCE
    compute_instance: int = NO_INSTANCE


class AttentionEvent(msgspec.Struct, frozen=True, kw_only=True, tag="attention"):
    """A GPU has changed and must be polled; an empty `uuid` means any GPU. `why` is for display."""

    uuid: str
    why: str


BackendEvent = XidEvent | AttentionEvent


class NvmlBackend(Protocol):
    """The calls of the worker. Each raises NvmlFailure with the library's code, and may block for ever."""

    def open(self, *, attach: bool) -> DriverFacts:
        """Opens the driver. The first call, and made once. Without `attach`, only calls about a GPU touch it."""
        ...

    def identify(self, index: int) -> GpuFacts:
        """The identity and facts of the GPU at an index. An index is valid for one call only."""
        ...

    def read(self, uuid: str, bus_id: str) -> GpuValues:
        """All values of a poll. An unreadable value is None and named in `detail`; the call fails only for a lost GPU."""
        ...

    def check(self, uuid: str, bus_id: str) -> Checkup:
        """A checkup of one GPU, with the time at which it was made. Values that can't be read are as in `read`."""
        ...

    def probe(self, uuid: str, bus_id: str) -> None:
        """Looks the GPU up again and makes the cheapest call that reaches it. Returns if the GPU answers."""
        ...

    def watch(self, uuid: str, bus_id: str) -> None:
        """Registers for the events of one GPU. A GPU whose registration is refused is only polled."""
        ...

    def next_event(self, timeout_seconds: float) -> BackendEvent | None:
        """Waits for an event of a watched GPU; None at the timeout. Called on a second thread, beside other calls."""
        ...
