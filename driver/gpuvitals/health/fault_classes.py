"""The table of faults: class, clearing, weight and meaning of each.

Class A is definitive and isolates at once. Class B isolates after a dwell or when it recurs. Class B0 degrades and never
isolates alone. Class C is an application's error: it counts only if it hits two different claims. NONE is recorded only.
"""

from dataclasses import dataclass, replace
from enum import Enum
from typing import assert_never

from gpuvitals.model.ids import Reason


class FaultClass(Enum):
    """The effect that a fault may have, ordered by `rank`."""

    A = "A"
    B = "B"
    B0 = "B0"
    C = "C"
    NONE = "none"

    @property
    def rank(self) -> int:
        """Higher is worse."""
        match self:
            case FaultClass.A:
                return 4
            case FaultClass.B:
                return 3
            case FaultClass.B0:
                return 2
            case FaultClass.C:
                return 1
            case FaultClass.NONE:
                return 0
            case _:
                assert_never(self)


class Clearing(Enum):
    """The event that ends a fault. Values are stored on disk.

    RESET: an observed reset. LEVEL: good readings for `level_clear_seconds`. EXPIRY: an observed reset, or a day without
    the event. A new boot or driver load with clean readings ends these three too. OPERATOR: an operator's clear alone,
    since neither a reset nor a boot repairs the fault. QUIET: hours of observation without an isolating fault.
    RETRACTED: the report is retracted or expires. An operator's clear ends every fault but RETRACTED.
    """

    RESET = "reset"
    LEVEL = "level"
    EXPIRY = "expiry"
    OPERATOR = "operator"
    QUIET = "quiet"
    RETRACTED = "word"  # the value is stored in state files


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseRule:
    """One row of the table: the published reason, its class, its clearing, and its weight in the score in percent.

    `look_at` is advice that comes before the advice of the reason, or empty.
    """

    reason: Reason
    fault_class: FaultClass
    clearing: Clearing
    severity_percent: int
    meaning: str
    look_at: str = ""


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
        _rule("InitFailed", FaultClass.A, Clearing.LEVEL, 100, "the driver could not initialise the GPU"),
        _rule(
            "ResetRequired", FaultClass.A, Clearing.LEVEL, 75, "the driver rejects the GPU until it is reset"
        ),
        _rule("RecoveryResetGpu", FaultClass.A, Clearing.LEVEL, 75, "the driver requests a reset of the GPU"),
        _rule(
            "RecoveryRebootNode",
            FaultClass.A,
            Clearing.LEVEL,
            100,
            "the driver requests a reboot of the node",
        ),
        _rule(
            "RecoveryDrainAndReset",
            FaultClass.A,
            Clearing.LEVEL,
            75,
            "the driver requests a drain and a reset",
        ),
        _rule("RecoveryBusReset", FaultClass.A, Clearing.LEVEL, 75, "the driver requests a bus reset"),
        _rule(
            "RecoverySystemReboot", FaultClass.A, Clearing.LEVEL, 100, "the driver requests a system reboot"
        ),
        _rule("RowRemapFailed", FaultClass.A, Clearing.OPERATOR, 100, "a memory row could not be remapped"),
        _rule("SramThreshold", FaultClass.A, Clearing.OPERATOR, 100, "too many uncorrectable SRAM errors"),
        _rule("NvlinkDown", FaultClass.B, Clearing.LEVEL, 0, "more than half of the NVLinks are down"),
        _rule("FabricFailed", FaultClass.B, Clearing.LEVEL, 0, "the GPU failed to join the NVLink fabric"),
        _rule("NvmlHung", FaultClass.B, Clearing.LEVEL, 0, "calls to the driver hang for this GPU"),
        _rule("NvlinkDegraded", FaultClass.B0, Clearing.LEVEL, 0, "some NVLinks are down"),
        _rule(
            "FabricDegraded", FaultClass.B0, Clearing.LEVEL, 0, "the NVLink fabric is degraded for this GPU"
        ),
        _rule("NvlinkErrors", FaultClass.B0, Clearing.LEVEL, 0, "NVLink error counters keep rising"),
        _rule(
            "RowRemapPending", FaultClass.B0, Clearing.LEVEL, 0, "a row remapping is pending until a reset"
        ),
        _rule(
            "PageRetirementPending",
            FaultClass.B0,
            Clearing.LEVEL,
            0,
            "a page retirement is pending until a reset",
        ),
        _rule("PagesRetired", FaultClass.B0, Clearing.LEVEL, 0, "nearly all spare memory pages are used up"),
        _rule("RepairPending", FaultClass.B0, Clearing.LEVEL, 0, "a chip repair is pending until a reset"),
        _rule("MemoryUnrepairable", FaultClass.B0, Clearing.LEVEL, 0, "memory can no longer be repaired"),
        _rule(
            "PcieDegraded", FaultClass.B0, Clearing.LEVEL, 0, "PCIe width or generation is below the maximum"
        ),
        _rule("PcieReplays", FaultClass.B0, Clearing.LEVEL, 0, "too many PCIe replays"),
        _rule("PcieErrors", FaultClass.B0, Clearing.EXPIRY, 0, "a fatal PCIe error was counted"),
        _rule(
            "EccUncorrected",
            FaultClass.B0,
            Clearing.LEVEL,
            0,
            "uncorrected memory errors since the last reset",
        ),
        _rule("HardwareSlowdown", FaultClass.B0, Clearing.LEVEL, 0, "hardware slowdown is active"),
        _rule(
            "RecoveryDrainP2P",
            FaultClass.B0,
            Clearing.LEVEL,
            0,
            "the driver requests a drain of peer-to-peer traffic",
        ),
        _rule(
            "RecoveryImexDomain",
            FaultClass.B0,
            Clearing.LEVEL,
            0,
            "the driver requests recovery of the IMEX domain",
        ),
        _rule(
            "RecoveryUnknown",
            FaultClass.B0,
            Clearing.LEVEL,
            0,
            "the driver requests a recovery action that this agent does not know",
        ),
        _rule(
            "Flapping",
            FaultClass.B,
            Clearing.QUIET,
            100,
            "failed again after repeated repairs",
        ),
        _rule(
            "EarlierFault",
            FaultClass.A,
            Clearing.RESET,
            100,
            "an earlier agent took the GPU out of service for a reason that this agent can't read",
        ),
        _rule("ReportedBad", FaultClass.A, Clearing.RETRACTED, 100, "an operator reports the GPU as bad"),
        _rule(
            "ReportedDegraded",
            FaultClass.B0,
            Clearing.RETRACTED,
            0,
            "an operator reports the GPU as degraded",
        ),
        _rule(
            "ProgramReportedBad",
            FaultClass.B,
            Clearing.RETRACTED,
            0,
            "a program on the node reports the GPU as bad",
        ),
        _rule(
            "ProgramReportedDegraded",
            FaultClass.B0,
            Clearing.RETRACTED,
            0,
            "a program on the node reports the GPU as degraded",
        ),
    )
}
"""Faults without an XID, by reason. Flapping takes the class of the fault that recurred."""

FLAPPING = LEVELS[Reason("Flapping")]
EARLIER_FAULT = LEVELS[Reason("EarlierFault")]

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
"""NVML field 230: number -> (published name, reason of its fault). Source: nvml.h 13.5, nvmlDeviceGpuRecoveryAction_t."""

ASKS_FOR_RESET = frozenset({1, 2, 4, 6, 7})
"""The recovery actions that only a reset of the GPU, the node or the system ends. All are class A."""


ISOLATING_CLASSES = (FaultClass.A, FaultClass.B)


def dcgm_only_rule(rule: CauseRule) -> CauseRule:
    """The rule of a level that only the DCGM exporter shows: it degrades, and ends by good readings."""
    if rule.fault_class not in ISOLATING_CLASSES:
        return rule
    return replace(rule, fault_class=FaultClass.B0, clearing=Clearing.LEVEL)


def recovery_action(number: int) -> tuple[str, Reason | None]:
    """The published name of a recovery action and the reason of its fault. Unknown numbers are RecoveryUnknown."""
    name, reason = RECOVERY_ACTIONS.get(number, ("Unknown", "RecoveryUnknown"))
    return name, None if reason is None else Reason(reason)


def worse(one: CauseRule, other: CauseRule) -> CauseRule:
    """The worse of two rules of one reason."""
    return max(one, other, key=lambda rule: (rule.fault_class.rank, rule.severity_percent))
