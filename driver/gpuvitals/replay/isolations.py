"""Whether an isolation would have been right, as far as the rest of the log can tell. Pure.

The definition, which docs/guides/replay.md gives in full: later evidence on the same GPU confirms it; applications that
work on with the GPU, with no such evidence and no reset in between, contradict it; silence decides nothing.
"""

from typing import assert_never

from gpuvitals.health.fault_classes import ASKS_FOR_RESET, FaultClass, recovery_action, xid_rule
from gpuvitals.health.policy import Policy
from gpuvitals.health.witnesses import FaultKind, fault_kind
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
from gpuvitals.replay.findings import Isolation, Outcome

_CLEANUPS = frozenset({43, 45})
_GPU_LOST = Reason("GpuLost")


def weigh_witnesses(isolation: Isolation, verdict: Verdict) -> None:
    """Two independent witnesses, or the driver's own advice, confirm at once and at any later time."""
    if isolation.outcome is Outcome.CONFIRMED or isolation.is_settled:
        return
    if verdict.confidence in (Confidence.CORROBORATED, Confidence.DRIVER):
        _settle(isolation, Outcome.CONFIRMED, f"confidence {verdict.confidence.value}")


def weigh(isolation: Isolation, signal: GpuSignal, policy: Policy) -> None:
    """What a later signal about the GPU says of its isolation. A contradiction can still be confirmed."""
    if isolation.outcome is Outcome.CONFIRMED or isolation.is_settled:
        return
    after = signal.seen.at - isolation.began.at
    match signal:
        case XidReport():
            _weigh_xid(isolation, signal, after, policy)
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
                _settle(isolation, Outcome.CONFIRMED, f"the GPU was initialised anew {_later(after)}")
        case Reading():
            if signal.status in (ReadStatus.LOST, ReadStatus.RESET_REQUIRED):
                _settle(isolation, Outcome.CONFIRMED, f"NVML said {signal.status.value} {_later(after)}")
        case Checkup() | PresenceReport() | ClearReport():
            pass
        case _:
            assert_never(signal)


def _weigh_xid(isolation: Isolation, signal: XidReport, after: float, policy: Policy) -> None:
    is_later = after >= policy.burst_silence_seconds
    rule = xid_rule(signal)
    match rule.fault_class:
        case FaultClass.A | FaultClass.B:
            if not _is_one_breakdown(isolation, rule.reason, after, policy):
                _settle(isolation, Outcome.CONFIRMED, f"XID {signal.code} {_later(after)}")
        case FaultClass.C | FaultClass.NONE:
            works = signal.pid is not None and signal.code not in _CLEANUPS
            if works and is_later and isolation.outcome is Outcome.UNDECIDED:
                text = f"a process worked on with the GPU (XID {signal.code} {_later(after)})"
                _settle(isolation, Outcome.CONTRADICTED, text)
        case FaultClass.B0:
            pass
        case _:
            assert_never(rule.fault_class)


def _is_one_breakdown(isolation: Isolation, reason: Reason, after: float, policy: Policy) -> bool:
    """Whether a line so long after the isolation may be printed by the same function of the driver.

    XID 79 and the line that the GPU has fallen off the bus are, and so are the lines of one memory error.
    """
    kinds = fault_kind(isolation.reason), fault_kind(reason)
    is_alike = isolation.reason == reason or (kinds[0] is kinds[1] and kinds[0] is not FaultKind.OTHER)
    return is_alike and after < policy.burst_silence_seconds


def _settle(isolation: Isolation, outcome: Outcome, because: str) -> None:
    isolation.outcome, isolation.because = outcome, because


def _later(seconds: float) -> str:
    return "at once" if seconds < 1 else f"{seconds:.0f} s later"
