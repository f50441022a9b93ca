"""Rates an isolation as confirmed, contradicted or undecided by the log lines that follow it. Pure.

docs/guides/replay.md has the full definition: later evidence on the same GPU confirms it. Applications that keep using
the GPU contradict it, if there is no such evidence and no reset in between. Without further lines it is undecided.
"""

from typing import assert_never

from gpuvitals.health.fault_classes import ASKS_FOR_RESET, FaultClass, recovery_action
from gpuvitals.health.policy import Policy
from gpuvitals.health.witnesses import FaultKind, fault_kind
from gpuvitals.health.xid_rules import xid_rule
from gpuvitals.model.health import Confidence, Verdict
from gpuvitals.model.ids import Reason
from gpuvitals.model.signal import (
    Checkup,
    ClearReport,
    GpuSignal,
    IdentityReport,
    InitFailureReport,
    OffBusReport,
    PresenceReport,
    Reading,
    ReadStatus,
    RecoveryActionReport,
    XidReport,
)
from gpuvitals.replay.timeline import Isolation, Outcome

_CLEANUPS = frozenset({43, 45})
_GPU_LOST = Reason("GpuLost")


def apply_confidence(isolation: Isolation, verdict: Verdict) -> None:
    """Confirms the isolation once the verdict has two independent witnesses or the driver's own recovery action."""
    if isolation.outcome is Outcome.CONFIRMED or isolation.is_settled:
        return
    if verdict.confidence in (Confidence.CORROBORATED, Confidence.DRIVER):
        _settle(isolation, Outcome.CONFIRMED, f"confidence {verdict.confidence.value}")


def apply_signal(isolation: Isolation, signal: GpuSignal, policy: Policy) -> None:
    """Updates the outcome by a later signal of the GPU. A contradicted isolation can still be confirmed."""
    if isolation.outcome is Outcome.CONFIRMED or isolation.is_settled:
        return
    after = signal.seen.at - isolation.began.at
    match signal:
        case XidReport():
            _apply_xid(isolation, signal, after, policy)
        case OffBusReport():
            if not _is_one_breakdown(isolation, _GPU_LOST, after, policy):
                _settle(isolation, Outcome.CONFIRMED, f"the GPU fell off the bus {_later(after)}")
        case InitFailureReport():
            if isolation.reason != "InitFailed" or after >= policy.burst_silence_seconds:
                _settle(
                    isolation, Outcome.CONFIRMED, f"the driver could not initialise the GPU {_later(after)}"
                )
        case RecoveryActionReport():
            if signal.action_to in ASKS_FOR_RESET:
                name = recovery_action(signal.action_to)[0]
                _settle(isolation, Outcome.CONFIRMED, f"the driver asked for {name} {_later(after)}")
        case IdentityReport():
            if after > 0:
                _settle(isolation, Outcome.CONFIRMED, f"the GPU was initialised again {_later(after)}")
        case Reading():
            if signal.status in (ReadStatus.LOST, ReadStatus.RESET_REQUIRED):
                _settle(isolation, Outcome.CONFIRMED, f"NVML reported {signal.status.value} {_later(after)}")
        case Checkup() | PresenceReport() | ClearReport():
            pass
        case _:
            assert_never(signal)


def _apply_xid(isolation: Isolation, signal: XidReport, after: float, policy: Policy) -> None:
    is_later = after >= policy.burst_silence_seconds
    rule = xid_rule(signal)
    match rule.fault_class:
        case FaultClass.A | FaultClass.B:
            if not _is_one_breakdown(isolation, rule.reason, after, policy):
                _settle(isolation, Outcome.CONFIRMED, f"XID {signal.code} {_later(after)}")
        case FaultClass.C | FaultClass.NONE:
            in_use = signal.pid is not None and signal.code not in _CLEANUPS
            if in_use and is_later and isolation.outcome is Outcome.UNDECIDED:
                text = f"a process kept using the GPU (XID {signal.code} {_later(after)})"
                _settle(isolation, Outcome.CONTRADICTED, text)
        case FaultClass.B0:
            pass
        case _:
            assert_never(rule.fault_class)


def _is_one_breakdown(isolation: Isolation, reason: Reason, after: float, policy: Policy) -> bool:
    """Whether the line can be part of the fault that caused the isolation, `after` seconds later.

    One function of the driver logs XID 79 and "GPU has fallen off the bus", one handler several XIDs of a memory error.
    """
    kinds = fault_kind(isolation.reason), fault_kind(reason)
    is_alike = isolation.reason == reason or (kinds[0] is kinds[1] and kinds[0] is not FaultKind.OTHER)
    return is_alike and after < policy.burst_silence_seconds


def _settle(isolation: Isolation, outcome: Outcome, because: str) -> None:
    isolation.outcome, isolation.because = outcome, because


def _later(seconds: float) -> str:
    return "at once" if seconds < 1 else f"{seconds:.0f} s later"
