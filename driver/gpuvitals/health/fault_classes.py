"""The table of faults: class, clearing, weight and meaning of each.

Class A is definitive and isolates at once. Class B isolates after a dwell or when it recurs. Class B0 degrades and never
isolates alone. Class C is an application's error: it counts only if it hits two different claims. NONE is recorded only.
"""

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from typing import assert_never

from gpuvitals.health.xid74 import Xid74Meaning, xid74_meaning
from gpuvitals.health.xid_catalog import CATALOG
from gpuvitals.health.xid_nvlink5 import Nvlink5Action, nvlink5_action, points_at_peer
from gpuvitals.model.clock import Moment
from gpuvitals.model.ids import Reason
from gpuvitals.model.signal import Source, XidReport


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

DECODED_XIDS = frozenset({74, *range(144, 151)})
"""XIDs whose class depends on the status words of the line, not on the code."""

_RESET_XID = (FaultClass.A, Clearing.RESET, 75)
_NEVER_COUNT = frozenset({43, 45, 154})
_DEGRADE_ONLY = frozenset({63, 94})
_BUCKETS = {
    "RESET_GPU": _RESET_XID,
    "WORKFLOW_XID_48": _RESET_XID,
    "RESTART_BM": (FaultClass.A, Clearing.RESET, 100),
    "RESTART_VM": (FaultClass.A, Clearing.RESET, 100),
    "RESTART_APP": (FaultClass.C, Clearing.EXPIRY, 25),
    "IGNORE": (FaultClass.NONE, Clearing.EXPIRY, 0),
}
_UNKNOWN = (FaultClass.B0, Clearing.EXPIRY, 50)
_ISOLATING = (FaultClass.A, FaultClass.B)
_XID = re.compile(r"Xid([1-9][0-9]{0,4})\Z")
MAX_XID = 65_535


PEER_ADVICE = "look at the other end of the link first: the GPU or the switch there, and its XIDs or SXids"


def xid_rule(report: XidReport) -> CauseRule:
    """The rule of one XID: NVIDIA's bucket decides, with these exceptions.

    43 and 45 never count, even if they name a cause; 154 acts through the recovery action. 63 and 94 degrade. 109
    degrades unless a reset is requested: see `if_reset_requested`. 74 and 144..150 depend on their status words, so
    NVML's event, which has none, is recorded only. A code without a bucket degrades and never isolates. A report of the
    DCGM exporter alone degrades at most, since its port has no authentication.
    """
    judged = _judged(report)
    if report.source is Source.DCGM and judged[0] in _ISOLATING:
        judged = _UNKNOWN
    rule, detail = _xid_rule(report.code, judged), report.nvlink5
    if detail is None or not points_at_peer(report.code, detail.unit, detail.intr_info):
        return rule
    meaning = f"{rule.meaning}; the other end of the link went down first"
    return replace(rule, meaning=meaning, look_at=PEER_ADVICE)


def xid_rule_by_number(code: int) -> CauseRule:
    """The rule of an XID without a report, as if the kernel had logged it without status words."""
    moment = Moment(at=0.0, time=datetime.fromtimestamp(0, UTC))
    return xid_rule(XidReport(source=Source.KMSG, seen=moment, bus_id=None, code=code))


def xid_number(reason: str) -> int | None:
    """The XID in a reason: `Xid79` gives 79. None if the reason is not an XID from 1 to 65535."""
    match = _XID.match(reason)
    code = 0 if match is None else int(match[1])
    return code if 1 <= code <= MAX_XID else None


def dcgm_only_rule(rule: CauseRule) -> CauseRule:
    """The rule of a level that only the DCGM exporter shows: it degrades, and ends by good readings."""
    if rule.fault_class not in _ISOLATING:
        return rule
    return replace(rule, fault_class=FaultClass.B0, clearing=Clearing.LEVEL)


def if_reset_requested(rule: CauseRule) -> CauseRule:
    """The rule of an XID while the driver's recovery action requests a reset: 109 then has the class of its bucket."""
    return _xid_rule(109, _RESET_XID) if rule.reason == "Xid109" else rule


def recovery_action(number: int) -> tuple[str, Reason | None]:
    """The published name of a recovery action and the reason of its fault. Unknown numbers are RecoveryUnknown."""
    name, reason = RECOVERY_ACTIONS.get(number, ("Unknown", "RecoveryUnknown"))
    return name, None if reason is None else Reason(reason)


def worse(one: CauseRule, other: CauseRule) -> CauseRule:
    """The worse of two rules of one reason."""
    return max(one, other, key=lambda rule: (rule.fault_class.rank, rule.severity_percent))


def _xid_rule(code: int, judged: tuple[FaultClass, Clearing, int]) -> CauseRule:
    entry = CATALOG.get(code)
    described = entry.description if entry is not None and not entry.unused else ""
    return _rule(f"Xid{code}", *judged, meaning=described or "not in the catalogue")


def _judged(report: XidReport) -> tuple[FaultClass, Clearing, int]:
    code = report.code
    if code in _NEVER_COUNT:
        return FaultClass.NONE, Clearing.EXPIRY, 0
    if code in _DEGRADE_ONLY:
        return FaultClass.B0, Clearing.EXPIRY, 25
    if code == 109:
        return FaultClass.B0, Clearing.EXPIRY, 50
    if code in DECODED_XIDS and report.source is not Source.KMSG:
        # The event has no status words. The result must not depend on whether it or the kernel's line is read first.
        return FaultClass.NONE, Clearing.EXPIRY, 0
    if code in DECODED_XIDS:
        return _judged_74(report) if code == 74 else _judged_nvlink5(report)
    entry = CATALOG.get(code)
    if entry is None or entry.unused:
        return _UNKNOWN
    return _BUCKETS.get(entry.bucket, _UNKNOWN)


def _judged_74(report: XidReport) -> tuple[FaultClass, Clearing, int]:
    meaning = xid74_meaning(report.words)
    match meaning:
        case Xid74Meaning.HARDWARE:
            return FaultClass.B, Clearing.RESET, 75
        case Xid74Meaning.SIGNAL:
            return FaultClass.B0, Clearing.EXPIRY, 25
        case Xid74Meaning.SECONDARY | Xid74Meaning.IGNORABLE:
            return FaultClass.NONE, Clearing.EXPIRY, 0
        case _:
            assert_never(meaning)


def _judged_nvlink5(report: XidReport) -> tuple[FaultClass, Clearing, int]:
    """The class by the status words. A line marked `Nonfatal` never isolates."""
    detail = report.nvlink5
    action = None
    if detail is not None:
        action = nvlink5_action(report.code, detail.unit, detail.intr_info, detail.error_status)
    match action:
        case Nvlink5Action.RESET_GPU:
            return (FaultClass.B0, Clearing.EXPIRY, 25) if report.fatal is False else _RESET_XID
        case Nvlink5Action.XID_154_EVAL:
            # "Follow XID 154 if there is one", which isolates by itself, "else restart the application".
            return _BUCKETS["RESTART_APP"]
        case Nvlink5Action.IGNORE:
            return FaultClass.NONE, Clearing.EXPIRY, 0
        case None:
            return FaultClass.B0, Clearing.EXPIRY, 25
        case _:
            assert_never(action)
