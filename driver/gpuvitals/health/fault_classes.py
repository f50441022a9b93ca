"""The table that answers "why was my GPU isolated": each cause, its class, and what makes it go away.

Class A is definitive and isolates at once. B isolates after a dwell or when it comes back. B0 degrades and never isolates
alone. C is the application's: it counts only where two different claims meet it. NONE is recorded only.
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
    """How far a cause may go. Ordered by `rank`."""

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
    """What ends a fault, besides an operator and, but for the last three, a new boot or driver load with clean readings.

    RESET: an observed reset. LEVEL: the level read good for a while. EXPIRY: an observed reset, or a day without the
    event. OPERATOR: nothing else, since neither a reset nor a boot repairs it. QUIET: hours that were watched and in
    which nothing took the GPU out; for what is told by the GPU's history alone. RETRACTED: the author of the
    report withdraws it, or it expires; an operator's clear does not end a report that still stands.
    """

    RESET = "reset"
    LEVEL = "level"
    EXPIRY = "expiry"
    OPERATOR = "operator"
    QUIET = "quiet"
    RETRACTED = "word"  # the value is stored in state files


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseRule:
    """One row: the reason it is published under, its class, its clearing, and its weight in the score in percent.

    `look_at` is where a person should look first, empty where the reason's own advice says it.
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
            "ResetRequired", FaultClass.A, Clearing.LEVEL, 75, "the driver refuses the GPU until it is reset"
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
        _rule("NvlinkDegraded", FaultClass.B0, Clearing.LEVEL, 0, "not every NVLink is up"),
        _rule("FabricDegraded", FaultClass.B0, Clearing.LEVEL, 0, "the NVLink fabric gives the GPU less"),
        _rule("NvlinkErrors", FaultClass.B0, Clearing.LEVEL, 0, "the NVLinks keep counting errors"),
        _rule("RowRemapPending", FaultClass.B0, Clearing.LEVEL, 0, "a remapped memory row waits for a reset"),
        _rule(
            "PageRetirementPending", FaultClass.B0, Clearing.LEVEL, 0, "a bad memory page waits for a reset"
        ),
        _rule("PagesRetired", FaultClass.B0, Clearing.LEVEL, 0, "nearly all spare memory pages are used up"),
        _rule("RepairPending", FaultClass.B0, Clearing.LEVEL, 0, "a repair of the chip waits for a reset"),
        _rule("MemoryUnrepairable", FaultClass.B0, Clearing.LEVEL, 0, "memory can't be repaired any more"),
        _rule("PcieDegraded", FaultClass.B0, Clearing.LEVEL, 0, "fewer PCIe lanes or a lower generation"),
        _rule("PcieReplays", FaultClass.B0, Clearing.LEVEL, 0, "too many PCIe packets are sent again"),
        _rule("PcieErrors", FaultClass.B0, Clearing.EXPIRY, 0, "a fatal PCIe error was counted"),
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
        _rule(
            "Flapping",
            FaultClass.B,
            Clearing.QUIET,
            100,
            "repaired again and again, and failed after each repair",
        ),
        _rule(
            "EarlierFault",
            FaultClass.A,
            Clearing.RESET,
            100,
            "an earlier agent took the GPU out of service for a cause that this one can't read",
        ),
        _rule("ReportedBad", FaultClass.A, Clearing.RETRACTED, 100, "a person says that the GPU is bad"),
        _rule(
            "ReportedDegraded", FaultClass.B0, Clearing.RETRACTED, 0, "a person says that the GPU is not well"
        ),
        _rule(
            "ProgramReportedBad",
            FaultClass.B,
            Clearing.RETRACTED,
            0,
            "a program on the node says that it is bad",
        ),
        _rule(
            "ProgramReportedDegraded",
            FaultClass.B0,
            Clearing.RETRACTED,
            0,
            "a program on the node says that the GPU is not well",
        ),
    )
}
"""Causes that are read as a level or reported without an XID, by reason. Flapping takes the class of what came back."""

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
"""NVML field 230: number -> (published name, reason of the fault it is). Source: nvml.h 13.5, nvmlDeviceGpuRecoveryAction_t."""

ASKS_FOR_RESET = frozenset({1, 2, 4, 6, 7})
"""The recovery actions that only a reset, of the GPU or of more, ends. Each is a cause of class A."""

DECODED_XIDS = frozenset({74, *range(144, 151)})
"""Their number decides nothing: the status words on the line do."""

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
    """The row of one XID: NVIDIA's bucket decides, but for the exceptions below.

    43 and 45 never count, whatever they name as their cause; 154 is followed through the recovery action. 63 and 94
    degrade. 109 degrades until the recovery action agrees: see `if_reset_requested`. 74 and 144..150 go by their decode, so that NVML's
    event, which has none, is recorded only. A code without a decided bucket degrades and never isolates. A report of
    the DCGM exporter alone degrades at most: its port has no authentication.
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
    """The row of an XID of which only the number is known, as if the kernel had logged it without status words."""
    moment = Moment(at=0.0, time=datetime.fromtimestamp(0, UTC))
    return xid_rule(XidReport(source=Source.KMSG, seen=moment, bus_id=None, code=code))


def xid_number(reason: str) -> int | None:
    """The XID in a reason: `Xid79` gives 79. None where the reason is no XID of 1 to 65535."""
    match = _XID.match(reason)
    code = 0 if match is None else int(match[1])
    return code if 1 <= code <= MAX_XID else None


def dcgm_only_rule(rule: CauseRule) -> CauseRule:
    """The row of a level while nobody but the DCGM exporter shows it: it degrades, and ends when it is shown good."""
    if rule.fault_class not in _ISOLATING:
        return rule
    return replace(rule, fault_class=FaultClass.B0, clearing=Clearing.LEVEL)


def if_reset_requested(rule: CauseRule) -> CauseRule:
    """The rule of an XID while the driver's recovery action asks for a reset: 109 is then what its bucket says."""
    return _xid_rule(109, _RESET_XID) if rule.reason == "Xid109" else rule


def recovery_action(number: int) -> tuple[str, Reason | None]:
    """The published name of a recovery action and the reason it is a fault under; any number has an answer."""
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
        # The event has no words, so whether it or the kernel's line is read first must decide nothing. Links and the
        # recovery action are read besides.
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
    """The word `Fatal` and the decode decide together: what the line itself calls non-fatal never isolates."""
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
