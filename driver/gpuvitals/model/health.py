"""The verdict on a GPU, in the words that the cluster sees."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from gpuvitals.model.ids import GpuUuid, Reason

NO_REASON = Reason("None")


class HealthState(Enum):
    """The four states. UNKNOWN is the absence of evidence: neither healthy nor withdrawn."""

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
    """All links of a GPU in a word; NONE is a model without NVLink."""

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
    """Where in its course a verdict is. SUSPECT: a dwell runs. PROBATION: repaired, watched, schedulable."""

    STEADY = "steady"
    SUSPECT = "suspect"
    PROBATION = "probation"


class Confidence(Enum):
    """How sure the cause of a verdict is. NONE: there is no cause. SINGLE: one witness.

    CORROBORATED: two that are independent. DRIVER: the driver's own recovery action, which is enough by itself.
    """

    NONE = "none"
    SINGLE = "single"
    CORROBORATED = "corroborated"
    DRIVER = "driver"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A GPU's state, judged. Every published attribute, taint and condition comes from here and nowhere else.

    `definitive`: the evidence isolates whatever the rest of the node looks like. `xid_errors` counts unresolved XID
    episodes of the last 24 h, distinct by code and unit; `last_xid` is the newest of them, 0 for none.
    `recovery_action` is the driver's word (`None`, `ResetGpu`, ..., `Unknown`). `coverage` is the share, in percent,
    of the expected signals that could be read. `ecc_uncorrected` is the volatile count as last read, 0 where it never was:
    a model without ECC has none, and the coverage tells what could not be read. `confidence` decides what may be done about it. `message` tells a person what is wrong and what would clear it.
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
        """The message without the reason at its start, for texts that name the reason themselves."""
        for name in (self.reason, self.reason.replace("Xid", "XID ")):
            if self.message.startswith(f"{name}: "):
                return self.message.removeprefix(f"{name}: ")
        return self.message
