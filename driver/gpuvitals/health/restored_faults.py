"""Restores a fault from the published verdict, for use if the agent's state file can't be read.

The verdict comes from the stored ResourceSlice, or from the readable part of a state file. The restored fault ends by
the same rules as the original: a reset, a new boot with clean readings, an operator.
"""

from dataclasses import dataclass, replace

from gpuvitals.health.fault_classes import EARLIER_FAULT, LEVELS, CauseRule, Clearing, FaultClass
from gpuvitals.health.faults import with_fault
from gpuvitals.health.policy import Policy
from gpuvitals.health.state import (
    MAX_EPISODES,
    MAX_XIDS,
    Fault,
    GpuState,
    Standing,
    XidRecord,
    with_identity_logged,
)
from gpuvitals.health.unusable import FILE_REASONS, INSTANCE_GONE
from gpuvitals.health.verdict import NO_EVIDENCE, PROBATION
from gpuvitals.health.xid_rules import MAX_XID, xid_number, xid_rule_by_number
from gpuvitals.model.clock import Moment
from gpuvitals.model.health import NO_REASON, HealthState
from gpuvitals.model.ids import GpuUuid, Reason
from gpuvitals.model.signal import Source

_NO_FAULT = (NO_REASON, NO_EVIDENCE, PROBATION, INSTANCE_GONE, *FILE_REASONS)
_SOURCES = {
    Reason("ReportedBad"): Source.OPERATOR,
    Reason("ReportedDegraded"): Source.OPERATOR,
    Reason("ProgramReportedBad"): Source.DROP_IN,
    Reason("ProgramReportedDegraded"): Source.DROP_IN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedVerdict:
    """The verdict that an earlier agent published for a device. `state` and `reason` may be values of a newer version.

    `isolated`: the device was out of service. `boot_id` is the boot of that time, empty if unknown. `origin` names the
    source of this verdict in messages.
    """

    uuid: GpuUuid
    state: str
    reason: str
    isolated: bool
    origin: str
    boot_id: str = ""
    last_xid: int = 0


def with_published_fault(
    state: GpuState, shown: PublishedVerdict, now: Moment, policy: Policy, *, same_boot: bool
) -> GpuState:
    """`state` with the fault that the verdict was based on; unchanged if the verdict names no fault.

    A fault that `state` has already is kept, and becomes CURRENT if the verdict is from this boot.
    """
    if same_boot and 0 < shown.last_xid <= MAX_XID:
        state = _with_xid(state, shown.last_xid, now)
    if shown.reason == PROBATION and state.probation_until is None:
        return replace(state, probation_until=now.at + policy.probation_seconds)
    rule = _rule(shown)
    if rule is None:
        return state
    if xid_number(rule.reason) is not None:
        state = with_identity_logged(state, now.at)
    known = state.fault(rule.reason)
    if known is not None:
        standing = Standing.CURRENT if same_boot else known.standing
        return with_fault(state, replace(known, standing=standing))
    return with_fault(_suspected(state, rule, now, policy), _fault(shown, rule, now, policy, same_boot))


def _rule(shown: PublishedVerdict) -> CauseRule | None:
    """The rule of the fault that the verdict names, None if it names none."""
    is_known_state = shown.state in {each.value for each in HealthState}
    is_bad = shown.state == HealthState.UNHEALTHY.value or (shown.isolated and not is_known_state)
    if shown.reason in _NO_FAULT or not (is_bad or shown.state == HealthState.DEGRADED.value):
        return None
    rule = _known_rule(shown.reason) or EARLIER_FAULT
    if not is_bad:
        return replace(rule, fault_class=FaultClass.B0) if rule is EARLIER_FAULT else rule
    if rule.fault_class in (FaultClass.A, FaultClass.B):
        return rule
    # The evidence that raised the class (status words, a recovery action) is lost.
    clearing = Clearing.RESET if rule.clearing is Clearing.EXPIRY else rule.clearing
    return replace(rule, fault_class=FaultClass.A, clearing=clearing, severity_percent=100)


def _known_rule(reason: str) -> CauseRule | None:
    listed = LEVELS.get(Reason(reason))
    if listed is not None:
        return listed
    code = xid_number(reason)
    return None if code is None else xid_rule_by_number(code)


def _fault(shown: PublishedVerdict, rule: CauseRule, now: Moment, policy: Policy, same_boot: bool) -> Fault:
    """The restored fault. Its dwell is over, since the GPU was out of service."""
    is_logged = xid_number(rule.reason) is not None or rule.reason == "GpuLost"
    source = Source.KMSG if is_logged else _SOURCES.get(rule.reason, Source.NVML_POLL)
    return Fault(
        rule=rule,
        standing=Standing.CURRENT if same_boot else Standing.BEFORE_BOOT,
        first_at=now.at - policy.dwell_seconds,
        last_at=now.at,
        last_time=now.time,
        episodes=(now.at,) * min(policy.dwell_episodes, MAX_EPISODES),
        good_since=None,
        sources=frozenset({source}),
        detail=f"{rule.meaning}; restored from {shown.origin}",
    )


def _suspected(state: GpuState, rule: CauseRule, now: Moment, policy: Policy) -> GpuState:
    """`state` with a class B level that has been bad for its dwell."""
    if rule.fault_class is not FaultClass.B or rule.clearing not in (Clearing.LEVEL, Clearing.RETRACTED):
        return state
    since = now.at - policy.dwell_seconds
    return state if state.suspect_since is not None else replace(state, suspect_since=since)


def _with_xid(state: GpuState, code: int, now: Moment) -> GpuState:
    if len(state.xids) >= MAX_XIDS or any(record.code == code for record in state.xids):
        return state
    record = XidRecord(
        code=code,
        unit="",
        rule=xid_rule_by_number(code),
        episode_at=now.at,
        last_at=now.at,
        last_time=now.time,
        meetings=(),
        resolved=False,
        counted_at=now.at,
    )
    return with_identity_logged(replace(state, xids=(*state.xids, record)), now.at)
