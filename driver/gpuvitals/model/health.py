"""The verdict on a GPU, with the values that the cluster sees."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from gpuvitals.model.ids import GpuUuid, Reason

NO_REASON = Reason("None")


class HealthState(Enum):
    """The four states. UNKNOWN is the lack of evidence: the GPU is neither healthy nor withdrawn."""

    HEALTHY = "Healthy"
    DEGRADED = "Degraded"
    UNHEALTHY = "Unhealthy"
    UNKNOWN = "Unknown"


class HealthClass(Enum):
    """The score in a word: high 91..100, medium 70..90, low 1..69, failed 0, unknown 0 for lack of evidence."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    FAILED = "failed"
    UNKNOWN = "unknown"


class NvlinkStatus(Enum):
    """The state of all links of a GPU; NONE is a model without NVLink."""

    ACTIVE = "active"
    DEGRADED = "degraded"
    DOWN = "down"
    NONE = "none"
    UNKNOWN = "unknown"


class RowRemap(Enum):
    """Row remapping: PENDING waits for a reset, FAILED has no spare row left."""

    NONE = "none"
    PENDING = "pending"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Phase(Enum):
    """The phase of a verdict. SUSPECT: a dwell runs. PROBATION: repaired, schedulable, and not yet trusted."""

    STEADY = "steady"
    SUSPECT = "suspect"
    PROBATION = "probation"


class Confidence(Enum):
    """The confidence in the cause of a verdict. NONE: there is no cause. SINGLE: one witness.

    CORROBORATED: two independent witnesses. DRIVER: the driver's own recovery action, which needs no second witness.
    """

    NONE = "none"
    SINGLE = "single"
    CORROBORATED = "corroborated"
    DRIVER = "driver"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verdict on one GPU. Every published attribute, taint and condition is derived from it alone.

    `definitive`: the evidence isolates the GPU whatever the state of the rest of the node. `xid_errors` counts
    unresolved XID episodes of the last 24 h, distinct by code and unit; `last_xid` is the newest of them, 0 for none.
    `recovery_action` is the driver's name for it (`None`, `ResetGpu`, ..., `Unknown`). `coverage` is the percentage of
    expected signals that could be read. `ecc_uncorrected` is the last volatile count; it is 0 if never read, as on
    models without ECC, and `coverage` shows unreadable values. `confidence` decides which actions are allowed.
    `message` describes the fault and its remedy.
    """

    uuid: GpuUuid
    state: HealthState
    phase: Phase
    score: int
    health_class: HealthClass
    reason: Reason
    message: str
    definitive: bool
    xid_errors: int
    last_xid: int
    last_fault_time: datetime | None
    nvlink_status: NvlinkStatus
    nvlink_bandwidth_percent: int
    ecc_uncorrected: int
    row_remap: RowRemap
    recovery_action: str
    coverage: int
    confidence: Confidence = Confidence.NONE

    @property
    def detail(self) -> str:
        """The message without the leading reason, for texts that show the reason separately."""
        for name in (self.reason, self.reason.replace("Xid", "XID ")):
            if self.message.startswith(f"{name}: "):
                return self.message.removeprefix(f"{name}: ")
        return self.message
