"""Signals: single observations of one source. They are the only input of the health fold.

A signal names a GPU by UUID or by PCI bus ID; `node.node_health` resolves the bus ID before the fold.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from gpuvitals.model.clock import Moment
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.ids import GpuUuid, PciBusId


class Source(Enum):
    """The origin of a signal. `health.witnesses` decides which sources are independent and so corroborate each other."""

    KMSG = "kmsg"
    NVML_EVENT = "nvml-event"
    NVML_POLL = "nvml-poll"
    SYSFS = "sysfs"
    OPERATOR = "operator"
    DROP_IN = "drop-in"
    DCGM = "dcgm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nvlink5Detail:
    """The decoded body of XIDs 144..150: the unit name as printed and two status words, None if not printed."""

    unit: str
    intr_info: int | None
    error_status: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class XidReport:
    """An XID of one GPU. `fatal` is the severity in the line, not a verdict. `process` is for display only.

    `gpu_instance` and `compute_instance` are set if the line blames a MIG instance. `words` are the seven status words
    of XID 74. `record_seq` is the kernel's sequence number, None for other sources than the kernel log. `claim` is the
    UID of the claim that held the GPU, if there was exactly one; `node.node_health` adds it.
    """

    source: Source
    seen: Moment
    bus_id: PciBusId | None
    uuid: GpuUuid | None = None
    code: int
    gpu_instance: int | None = None
    compute_instance: int | None = None
    pid: int | None = None
    process: str | None = None
    link: int | None = None
    fatal: bool | None = None
    caused_by: int | None = None
    words: tuple[int, ...] = ()
    nvlink5: Nvlink5Detail | None = None
    record_seq: int | None = None
    claim: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OffBusReport:
    """The kernel logged that a GPU fell off the bus. `bus_id` None: the line names no GPU, so all must be probed."""

    source: Source
    seen: Moment
    bus_id: PciBusId | None
    uuid: GpuUuid | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InitFailureReport:
    """The kernel logged that the driver could not initialise a GPU. `bus_id` None: the line names no GPU."""

    source: Source
    seen: Moment
    bus_id: PciBusId | None
    uuid: GpuUuid | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryActionReport:
    """A change of the driver's recovery action, from XID 154. Numbers, since names differ between driver versions."""

    source: Source
    seen: Moment
    bus_id: PciBusId | None
    uuid: GpuUuid | None = None
    action_from: int
    action_to: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityReport:
    """The driver logged the identity of a GPU: once per GPU and driver load or reset, before its first XID."""

    source: Source
    seen: Moment
    bus_id: PciBusId | None
    uuid: GpuUuid | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchReport:
    """An SXid of an NVSwitch, a fault of the node's fabric and not of one GPU. `fatal` None: the line has no severity."""

    source: Source
    seen: Moment
    switch_bus_id: PciBusId
    switch: int
    code: int
    link: int | None
    fatal: bool | None


class ReadStatus(Enum):
    """The outcome of polling one GPU.

    LOST: the driver reports the GPU as lost. RESET_REQUIRED: the driver refuses it until a reset. HUNG: the call missed
    both deadlines. QUIESCED: it is not polled on request, as before a reset. FAILED: any other error. Only OK has
    values.
    """

    OK = "ok"
    LOST = "lost"
    RESET_REQUIRED = "reset-required"
    HUNG = "hung"
    QUIESCED = "quiesced"
    FAILED = "failed"


class LinkState(Enum):
    """The state of one NVLink. SLEEP is a healthy power state; UNKNOWN is a number that this version does not know."""

    ACTIVE = "active"
    SLEEP = "sleep"
    INACTIVE = "inactive"
    UNKNOWN = "unknown"


class FabricState(Enum):
    """The registration of the GPU with the NVLink fabric; NOT_SUPPORTED on models without an NVSwitch fabric.

    DEGRADED: registered, but with reduced bandwidth or while routes recover.
    """

    NOT_SUPPORTED = "not-supported"
    NOT_STARTED = "not-started"
    IN_PROGRESS = "in-progress"
    COMPLETED = "completed"
    DEGRADED = "degraded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One poll of one GPU. None means that the value could not be read; `unsupported` names values the model lacks.

    `thermal_margin_celsius` is the distance to the slowdown temperature, negative above it. The ECC values count since
    the last reset (volatile) or over the GPU's life (aggregate). `link_errors`: NVLink error counters have grown.
    """

    source: Source
    seen: Moment
    uuid: GpuUuid
    status: ReadStatus
    recovery_action: int | None = None
    ecc_uncorrected_volatile: int | None = None
    ecc_uncorrected_aggregate: int | None = None
    ecc_corrected_volatile: int | None = None
    sram_threshold_exceeded: bool | None = None
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    remapped_uncorrectable: int | None = None
    banks_without_spare: int | None = None
    links: tuple[LinkState, ...] | None = None
    fabric: FabricState | None = None
    thermal_margin_celsius: int | None = None
    hardware_slowdown: bool | None = None
    link_errors: bool | None = None
    unsupported: frozenset[str] = frozenset()
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkup:
    """Values of one GPU that change slowly or are expensive to read, read once a minute. None: not readable.

    Values other than sizes and flags are counters; a counter decreases only when it restarts, at a reset or a wrap.
    The link counters are sums over all NVLinks: `link_recoveries_failed` counts links that did not recover, and
    `link_errors_per_petabit` is the worst bit error rate after correction, in errors per 10^15 bits. An idle GPU may
    have a `pcie_generation` below the maximum. `processes` is the number of compute processes. The NVML worker makes
    the whole signal, so `seen` is the time at which the values were read.
    """

    source: Source
    seen: Moment
    uuid: GpuUuid
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
    unsupported: frozenset[str] = frozenset()
    detail: str = ""


class ConfigSpace(Enum):
    """The result of reading a device's PCI config space. ALL_ONES: no device answers on the bus."""

    ANSWERS = "answers"
    ALL_ONES = "all-ones"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceReport:
    """Whether a GPU is on the PCI bus, read from sysfs without the driver.

    `fatal_errors` is the kernel's count of uncorrectable fatal errors of the device (AER), None without a count.
    """

    source: Source
    seen: Moment
    bus_id: PciBusId
    uuid: GpuUuid | None = None
    present: bool
    config_space: ConfigSpace
    fatal_errors: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GapReport:
    """A source lost records, so every GPU must be polled: a lost record may have reported a fault."""

    source: Source
    seen: Moment
    lost: int


class MonitorState(Enum):
    """Whether a source works. An outage of a source is a fact of the node, not of a GPU."""

    WATCHING = "watching"
    DRIVER_ABSENT = "driver-absent"
    UNRESPONSIVE = "unresponsive"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorReport:
    """A change of a source's state. `detail` is for display."""

    source: Source
    seen: Moment
    state: MonitorState
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryReport:
    """The GPUs that the driver enumerates now. `driver_load` names the load of the driver (`model.driver_load`).

    `not_up` are GPUs on the PCI bus that no other driver has bound and that the driver does not enumerate.
    """

    source: Source
    seen: Moment
    gpus: tuple[Gpu, ...]
    driver_load: str
    not_up: tuple[PciBusId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearReport:
    """An operator declares a GPU repaired. The reason is kept on record."""

    source: Source
    seen: Moment
    uuid: GpuUuid
    operator_reason: str


class ReportedState(Enum):
    """The state that an external report gives a GPU. CLEAR declares it repaired; only operators can report it."""

    BAD = "bad"
    DEGRADED = "degraded"
    CLEAR = "clear"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalReport:
    """A report of one GPU by an operator or a program on the node. `by` is its author; `by` and `reason` are for display.

    `gpu` is a device name, a UUID or a PCI bus ID. `at` is the time of the report; a CLEAR ends faults that are older.
    The report is in force until `expires`, or until it is retracted if that is None.
    """

    gpu: str
    state: ReportedState
    by: str
    reason: str
    at: Moment | None = None
    expires: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalReports:
    """All reports of one source that are in force. Its earlier reports that are missing here are retracted."""

    source: Source
    seen: Moment
    reports: tuple[ExternalReport, ...]


GpuSignal = (
    XidReport
    | OffBusReport
    | InitFailureReport
    | RecoveryActionReport
    | IdentityReport
    | Reading
    | Checkup
    | PresenceReport
    | ClearReport
)
"""Signals about one GPU: the input of `health.evaluate`."""

NodeSignal = SwitchReport | GapReport | MonitorReport | InventoryReport | ExternalReports
"""Signals about the node."""

Signal = GpuSignal | NodeSignal
