"""The rules of XIDs: NVIDIA's resolution buckets, and the codes whose status words decide.

`fault_classes` defines the classes, `xid74` and `xid_nvlink5` decode the status words.
"""

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import assert_never

from gpuvitals.health.fault_classes import ISOLATING_CLASSES, CauseRule, Clearing, FaultClass
from gpuvitals.health.xid74 import Xid74Meaning, xid74_meaning
from gpuvitals.health.xid_catalog import CATALOG
from gpuvitals.health.xid_nvlink5 import Nvlink5Action, nvlink5_action, points_at_peer
from gpuvitals.model.clock import Moment
from gpuvitals.model.ids import Reason
from gpuvitals.model.signal import Source, XidReport

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
    if report.source is Source.DCGM and judged[0] in ISOLATING_CLASSES:
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


def if_reset_requested(rule: CauseRule) -> CauseRule:
    """The rule of an XID while the driver's recovery action requests a reset: 109 then has the class of its bucket."""
    return _xid_rule(109, _RESET_XID) if rule.reason == "Xid109" else rule


def _xid_rule(code: int, judged: tuple[FaultClass, Clearing, int]) -> CauseRule:
    entry = CATALOG.get(code)
    described = entry.description if entry is not None and not entry.unused else ""
    fault_class, clearing, severity = judged
    return CauseRule(
        reason=Reason(f"Xid{code}"),
        fault_class=fault_class,
        clearing=clearing,
        severity_percent=severity,
        meaning=described or "not in the catalogue",
    )


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
