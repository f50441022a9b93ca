"""What the NVML worker asks of the library below it: a narrow Protocol, and the plain values that cross the pipe.

Two implementations exist: the real library (`pynvml_backend`), and the scripted GPUs of the simulation. Both run in the
worker process only, so a call may block for as long as it likes.
"""

from typing import Protocol

import msgspec

DEFAULT_BACKEND = "gpuvitals.signals.nvml_worker.pynvml_backend:PynvmlBackend"
"""The real library, by the name that `--backend` takes."""

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
"""Answers that are about the driver: no GPU is to blame, and only a new worker can do better."""

ABOUT_ANY_GPU = frozenset({INSUFFICIENT_POWER, IRQ_ISSUE, GPU_IS_LOST, RESET_REQUIRED})
"""Answers that are about any GPU of the node where the call names none by its slot, index or handle.

Source: nvml.h of CUDA 13.5, nvmlDeviceGetHandleByUUID ("if any GPU"), nvmlEventSetWait_v2 ("if a GPU").
"""

NO_INSTANCE = 0xFFFFFFFF
"""What an event carries where it blames no MIG instance. Source: nvml.h, nvmlEventData_t."""


class NvmlFailure(Exception):
    """A call that the library answered with an error. `code` is the number of nvmlReturn_t."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class DriverFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The driver as loaded. `cuda_driver_version` is `major.minor`; `gpu_count` is what it enumerates now."""

    driver_version: str
    cuda_driver_version: str
    gpu_count: int


class InstanceFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A MIG instance: ids, and what it has or shares; 0, None and the empty string are "not read".

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
    """How a GPU is divided. A model without MIG is one whose MIG is off."""

    enabled: bool
    instances: tuple[InstanceFacts, ...] = ()


class GpuFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Who a GPU is. `bus_id` is as the library spells it; `active_links` is None where links can't be read, `mig` where
    it could not be told how the GPU is divided.
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
    """The values of one poll, named and measured as in `model.signal.Reading`; states as their enums' values.

    `mig` is how the GPU is divided now, None where that could not be told.
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


class CheckupValues(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The values of one checkup, named and measured as in `model.signal.Checkup`."""

    link_replays: int | None = None
    link_recoveries: int | None = None
    link_recoveries_failed: int | None = None
    link_crc_errors: int | None = None
    link_errors_per_petabit: int | None = None
    pcie_replays: int | None = None
    pcie_fatal_errors: int | None = None
    pcie_lanes: int | None = None
    pcie_lanes_max: int | None = None
    pcie_generation: int | None = None
    pcie_generation_max: int | None = None
    idle: bool | None = None
    retired_pages: int | None = None
    page_retirement_pending: bool | None = None
    repair_pending: bool | None = None
    memory_unrepairable: bool | None = None
    power_milliwatts: int | None = None
    processes: int | None = None
    unsupported: tuple[str, ...] = ()
    detail: str = ""


class XidEvent(msgspec.Struct, frozen=True, kw_only=True, tag="xid"):
    """An XID of one GPU, number only. 999 is the library's "unknown XID"."""

    uuid: str
    code: int
    gpu_instance: int = NO_INSTANCE
    compute_instance: int = NO_INSTANCE


class AttentionEvent(msgspec.Struct, frozen=True, kw_only=True, tag="attention"):
    """Something about a GPU changed and must be read again; uuid "" means any of them. `why` is for people."""

    uuid: str
    why: str


BackendEvent = XidEvent | AttentionEvent


class NvmlBackend(Protocol):
    """The calls. Each raises NvmlFailure with the library's code, and may block for ever."""

    def open(self, *, attach: bool) -> DriverFacts:
        """Opens the driver. Called once, before everything else. Without `attach` no GPU is touched until it is asked for."""
        ...

    def identify(self, index: int) -> GpuFacts:
        """Who the GPU at this index is now. The index is good for this call only."""
        ...

    def read(self, uuid: str, bus_id: str) -> GpuValues:
        """All values of one GPU. A value that can't be read is None and named; only a lost GPU fails as a whole."""
        ...

    def check(self, uuid: str, bus_id: str) -> CheckupValues:
        """The values that are read seldom, in the manner of `read`."""
        ...

    def probe(self, uuid: str, bus_id: str) -> None:
        """Looks the GPU up anew and touches it as lightly as possible; returning means that it answers."""
        ...

    def watch(self, uuid: str, bus_id: str) -> None:
        """Registers for the events of one GPU. One that can't be registered is polled only."""
        ...

    def next_event(self, timeout_seconds: float) -> BackendEvent | None:
        """Waits for an event of a watched GPU; None at the timeout. Called on a thread of its own, beside other calls."""
        ...
