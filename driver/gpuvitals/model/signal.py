"""Signals: what one source observed once. The only input of the health fold.

A Signal that names a GPU does so by UUID or by PCI bus id; `node.agent` resolves the bus id before the fold sees it.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from gpuvitals.model.clock import Moment
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.ids import GpuUuid, PciBusId


class Source(Enum):
    """Who observed. Two signals corroborate each other only where `health` says that their sources are independent."""

    KMSG = "kmsg"
    NVML_EVENT = "nvml-event"
    NVML_POLL = "nvml-poll"
    SYSFS = "sysfs"
    OPERATOR = "operator"
    DROP_IN = "drop-in"
    DCGM = "dcgm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nvlink5Detail:
    """The decoded body of XIDs 144..150: unit name as printed, the two status words, None where not printed."""

    unit: str
    intr_info: int | None
    error_status: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class XidReport:
    """An XID of one GPU. `fatal` is the word on the line, not a verdict. `process` is for display only.

    `gpu_instance` and `compute_instance` are set where the line blames a MIG instance. `words` are the seven status
    words of XID 74. `record_seq` is the kernel's sequence number, None for reports that are not from the kernel log.
    `claim` is the UID of the only claim that held the GPU, where there was exactly one; `node.agent` adds it.
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
    """The kernel says that a GPU fell off the bus. `bus_id` None: it did not say which; every GPU must be probed."""

    source: Source
    seen: Moment
    bus_id: PciBusId | None
    uuid: GpuUuid | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InitFailureReport:
    """The kernel logged that the driver could not initialise a GPU. `bus_id` None: the line does not say which."""

    source: Source
    seen: Moment
    bus_id: PciBusId | None
    uuid: GpuUuid | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryActionReport:
    """The driver's advice changed, as printed with XID 154. Numbers, since printed names change with the driver."""

    source: Source
    seen: Moment
    bus_id: PciBusId | None
    uuid: GpuUuid | None = None
    action_from: int
    action_to: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityReport:
    """The driver logged who a GPU is: once per GPU and driver load or reset, before its first XID."""

    source: Source
    seen: Moment
    bus_id: PciBusId | None
    uuid: GpuUuid | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchReport:
    """An SXid of an NVSwitch: a fault of the node's fabric, never of one GPU. `fatal` None: the line has no severity."""

    source: Source
    seen: Moment
    switch_bus_id: PciBusId
    switch: int
    code: int
    link: int | None
    fatal: bool | None


class ReadStatus(Enum):
    """How reading one GPU went as a whole.

    LOST: the driver says the GPU is lost. RESET_REQUIRED: the driver refuses it until a reset. HUNG: the call missed
    its deadline twice. QUIESCED: it is left alone on request, as for a reset. FAILED: any other error. Only OK carries
    values.
    """

    OK = "ok"
    LOST = "lost"
    RESET_REQUIRED = "reset-required"
    HUNG = "hung"
    QUIESCED = "quiesced"
    FAILED = "failed"


class LinkState(Enum):
    """State of one NVLink. SLEEP is a healthy power state; UNKNOWN is one that this agent has no name for."""

    ACTIVE = "active"
    SLEEP = "sleep"
    INACTIVE = "inactive"
    UNKNOWN = "unknown"


class FabricState(Enum):
    """Registration of the GPU with the NVLink fabric; NOT_SUPPORTED on models without an NVSwitch fabric.

    DEGRADED: registered, with less bandwidth than it should have or while routes recover.
    """

    NOT_SUPPORTED = "not-supported"
    NOT_STARTED = "not-started"
    IN_PROGRESS = "in-progress"
    COMPLETED = "completed"
    DEGRADED = "degraded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One poll of one GPU. A value is None where it could not be read; `unsupported` names those the model lacks.

    Units: `thermal_margin_celsius` is the distance to the slowdown point (negative: beyond it); the ECC values are
    counts since the last reset (volatile) or ever (aggregate). `link_errors`: NVLink error counters have grown.
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
    """A thorough look at one GPU, taken seldom: what moves slowly or is dear to read. None: it could not be read.

    What is not a size or a flag is a counter, which only grows; one that has fallen has begun anew, at a reset or where
    it wrapped. The link counters are sums over the NVLinks: `link_recoveries_failed` counts links that did not come
    back, and `link_errors_per_petabit` is the worst bit error rate after correction, in errors per 10^15 bits.
    `pcie_generation` may be lower than its maximum while the GPU is idle. `processes` are those that compute on it.
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
    """What the first bytes of a device's PCI config space say. ALL_ONES: nothing answers on the bus."""

    ANSWERS = "answers"
    ALL_ONES = "all-ones"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceReport:
    """Whether a GPU is still on the PCI bus, read from sysfs without asking the driver.

    `fatal_errors` is the kernel's count of uncorrectable fatal errors of the device (AER), None where it keeps none.
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
    """A source lost records. Everything must be read again; the log alone no longer tells the whole story."""

    source: Source
    seen: Moment
    lost: int


class MonitorState(Enum):
    """Whether a source can see at all. Blindness is a fact of the node, not of a GPU."""

    WATCHING = "watching"
    DRIVER_ABSENT = "driver-absent"
    UNRESPONSIVE = "unresponsive"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorReport:
    """A source changed between seeing and not seeing. `detail` is for people."""

    source: Source
    seen: Moment
    state: MonitorState
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryReport:
    """Which GPUs the driver enumerates now. `driver_load` names the loaded driver; it changes with every load.

    `not_up` are GPUs that the bus shows, which are no other driver's, and which the driver does not enumerate.
    """

    source: Source
    seen: Moment
    gpus: tuple[Gpu, ...]
    driver_load: str
    not_up: tuple[PciBusId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearReport:
    """An operator declares a GPU repaired, with a reason that is kept on record."""

    source: Source
    seen: Moment
    uuid: GpuUuid
    operator_reason: str


class ReportedState(Enum):
    """What a statement makes of a GPU. CLEAR declares it repaired, and is a person's alone."""

    BAD = "bad"
    DEGRADED = "degraded"
    CLEAR = "clear"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalReport:
    """What a person or a program says of one GPU: `by` whom and for what `reason`, both for display.

    `gpu` is as it was written: a device name, a UUID or a PCI bus id. `at` is when it was said; a CLEAR ends what is
    older. After `expires` it no longer stands; None is until it is taken back.
    """

    gpu: str
    says: ReportedState
    by: str
    reason: str
    at: Moment | None = None
    expires: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementsReport:
    """Everything that a source says now, of all GPUs of the node; what it said before and is not here is taken back."""

    source: Source
    seen: Moment
    statements: tuple[ExternalReport, ...]


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

NodeSignal = SwitchReport | GapReport | MonitorReport | InventoryReport | StatementsReport
"""Signals about the node."""

Signal = GpuSignal | NodeSignal
