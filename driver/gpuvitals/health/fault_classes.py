"""The table that answers "why was my GPU isolated": each cause, its class, and what makes it go away.

Class A is definitive and isolates at once. B isolates after a dwell or a second episode. B0 degrades and never
isolates alone. C is the application's: it counts only where two different claims meet it. NONE is recorded only.
"""

from dataclasses import dataclass
from enum import Enum

from gpuvitals.health.nvlink5 import Nvlink5Action, nvlink5_action
from gpuvitals.health.nvlink_xid74 import Xid74Meaning, xid74_meaning
from gpuvitals.health.xid_catalog import CATALOG
from gpuvitals.model.ids import Reason
from gpuvitals.model.signal import XidReport


class FaultClass(Enum):
    """How far a cause may go. Ordered by `rank`."""

    A = "A"
    B = "B"
    B0 = "B0"
    C = "C"
    NONE = "none"

    @property
    def rank(self) -> int:
        """Higher is worse."""
        return {"A": 4, "B": 3, "B0": 2, "C": 1, "none": 0}[self.value]


class Clearing(Enum):
    """What ends a fault. RESET: an observed reset, a new boot, or an operator. LEVEL: the level read good for a while.

    EXPIRY: the window of the count. NEVER_ALONE is RESET for what a reset does not repair: only an operator ends it.
    """

    RESET = "reset"
    LEVEL = "level"
    EXPIRY = "expiry"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseRule:
    """One row: the reason it is published under, its class, its clearing, and its weight in the score in percent."""

    reason: Reason
    fault_class: FaultClass
    clearing: Clearing
    severity_percent: int
    meaning: str


def _rule(reason: str, fault_class: FaultClass, clearing: Clearing, severity: int, meaning: str) -> CauseRule:
    return CauseRule(
        reason=Reason(reason),
        fault_class=fault_class,
        clearing=clearing,
        severity_percent=severity,
        meaning=meaning,
    )


LEVELS = {
    rule.reason: rule
    for rule in (
        _rule("GpuLost", FaultClass.A, Clearing.RESET, 100, "the driver or the PCI bus has lost the GPU"),
        _rule(
            "ResetRequired", FaultClass.A, Clearing.RESET, 75, "the driver refuses the GPU until it is reset"
        ),
        _rule("RecoveryResetGpu", FaultClass.A, Clearing.LEVEL, 75, "the driver asks for a reset of the GPU"),
        _rule(
            "RecoveryRebootNode",
            FaultClass.A,
            Clearing.LEVEL,
            100,
            "the driver asks for a reboot of the node",
        ),
        _rule(
            "RecoveryDrainAndReset",
            FaultClass.A,
            Clearing.LEVEL,
            75,
            "the driver asks for a drain and a reset",
        ),
        _rule(
            "RecoveryBusReset", FaultClass.A, Clearing.LEVEL, 75, "the driver asks for a reset over the bus"
        ),
        _rule(
            "RecoverySystemReboot", FaultClass.A, Clearing.LEVEL, 100, "the driver asks for a system reboot"
        ),
        _rule("RowRemapFailed", FaultClass.A, Clearing.OPERATOR, 100, "a memory row could not be remapped"),
        _rule("SramThreshold", FaultClass.A, Clearing.OPERATOR, 100, "too many uncorrectable SRAM errors"),
        _rule("NvlinkDown", FaultClass.B, Clearing.LEVEL, 0, "more than half of the NVLinks are down"),
        _rule("FabricFailed", FaultClass.B, Clearing.LEVEL, 0, "the GPU failed to join the NVLink fabric"),
        _rule("NvmlHung", FaultClass.B, Clearing.LEVEL, 0, "the driver does not answer for this GPU"),
        _rule("NvlinkDegraded", FaultClass.B0, Clearing.LEVEL, 0, "an NVLink is down"),
        _rule("RowRemapPending", FaultClass.B0, Clearing.LEVEL, 0, "a remapped memory row waits for a reset"),
        _rule(
            "EccUncorrected",
            FaultClass.B0,
            Clearing.LEVEL,
            0,
            "uncorrected memory errors since the last reset",
        ),
        _rule("HardwareSlowdown", FaultClass.B0, Clearing.LEVEL, 0, "the hardware slows itself down"),
        _rule("RecoveryDrainP2P", FaultClass.B0, Clearing.LEVEL, 0, "the driver asks to drain peer traffic"),
        _rule(
            "RecoveryImexDomain",
            FaultClass.B0,
            Clearing.LEVEL,
            0,
            "the driver asks to recover the IMEX domain",
        ),
        _rule(
            "RecoveryUnknown",
            FaultClass.B0,
            Clearing.LEVEL,
            0,
            "the driver asks for something this agent does not know",
        ),
    )
}
"""Causes that are read as a level or reported without an XID, by reason."""

RECOVERY_ACTIONS = {
    0: ("None", None),
    1: ("ResetGpu", "RecoveryResetGpu"),
    2: ("RebootNode", "RecoveryRebootNode"),
    3: ("DrainP2P", "RecoveryDrainP2P"),
    4: ("DrainAndReset", "RecoveryDrainAndReset"),
    5: ("RecoverImexDomain", "RecoveryImexDomain"),
    6: ("BusReset", "RecoveryBusReset"),
    7: ("SystemReboot", "RecoverySystemReboot"),
}
"""NVML field 230: number -> (published name, reason of the fault it is). Source: nvml.h 13.5, nvmlDeviceGpuRecoveryAction_t."""

_NEVER_COUNT = frozenset({43, 45, 154})
_DEGRADE_ONLY = frozenset({63, 94})
_BUCKETS = {
    "RESET_GPU": (FaultClass.A, Clearing.RESET, 75),
    "WORKFLOW_XID_48": (FaultClass.A, Clearing.RESET, 75),
    "RESTART_BM": (FaultClass.A, Clearing.RESET, 100),
    "RESTART_VM": (FaultClass.A, Clearing.RESET, 100),
    "RESTART_APP": (FaultClass.C, Clearing.EXPIRY, 25),
    "IGNORE": (FaultClass.NONE, Clearing.EXPIRY, 0),
}
_UNKNOWN = (FaultClass.B0, Clearing.EXPIRY, 50)


def xid_rule(report: XidReport) -> CauseRule:
    """The row of one XID: NVIDIA's bucket decides, but for the exceptions below.

    43 and 45 never count; 154 is followed through the recovery action. 63 and 94 degrade. 109 degrades: where a reset
    is really needed the recovery action says so and isolates by itself. 74 and 144..150 go by their decode. A code
    without a decided bucket degrades and never isolates.
    """
    fault_class, clearing, severity = _judged(report)
    entry = CATALOG.get(report.code)
    meaning = (
        entry.description
        if entry is not None and not entry.unused and entry.description
        else "not in the catalogue"
    )
    return _rule(f"Xid{report.code}", fault_class, clearing, severity, meaning)


def _judged(report: XidReport) -> tuple[FaultClass, Clearing, int]:
    code = report.code
    if code in _NEVER_COUNT:
        return FaultClass.NONE, Clearing.EXPIRY, 0
    if code in _DEGRADE_ONLY:
        return FaultClass.B0, Clearing.EXPIRY, 25
    if code == 109:
        return FaultClass.B0, Clearing.EXPIRY, 50
    if code == 74:
        return _judged_74(report)
    if 144 <= code <= 150:
        return _judged_nvlink5(report)
    entry = CATALOG.get(code)
    if entry is None or entry.unused:
        return _UNKNOWN
    return _BUCKETS.get(entry.bucket, _UNKNOWN)


def _judged_74(report: XidReport) -> tuple[FaultClass, Clearing, int]:
    match xid74_meaning(report.words):
        case Xid74Meaning.HARDWARE:
            return FaultClass.B, Clearing.RESET, 75
        case Xid74Meaning.SIGNAL:
            return FaultClass.B0, Clearing.EXPIRY, 25
        case Xid74Meaning.SECONDARY | Xid74Meaning.IGNORABLE:
            return FaultClass.NONE, Clearing.EXPIRY, 0


def _judged_nvlink5(report: XidReport) -> tuple[FaultClass, Clearing, int]:
    detail = report.nvlink5
    action = None
    if detail is not None:
        action = nvlink5_action(report.code, detail.unit, detail.intr_info, detail.error_status)
    match action:
        case Nvlink5Action.RESET_GPU:
            return FaultClass.A, Clearing.RESET, 75
        case Nvlink5Action.XID_154_EVAL | None:
            return FaultClass.B0, Clearing.EXPIRY, 25
        case Nvlink5Action.IGNORE:
            return FaultClass.NONE, Clearing.EXPIRY, 0
