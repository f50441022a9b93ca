"""When a verdict is worth a write: each slice update wakes every scheduler, so noise must cost nothing."""

from gpuvitals.health.policy import Policy
from gpuvitals.model.health import Verdict

_NOTHING_ASKED = ("None", "Unknown")
"""Recovery actions in which the driver asks for nothing that is known."""


def worth_publishing(
    published: Verdict | None, current: Verdict, seconds_since: float, policy: Policy
) -> bool:
    """Whether the cluster should be told. `seconds_since` is the time since it was last told about this GPU.

    State, class, reason, count and a new request of the driver are told at once. The rest is told not too often: the
    words for links and memory, and the score where it moved by a step; a rise, which ageing brings, less often still.
    What may drift goes along with something else.
    """
    if published is None or _immediate_fields(published) != _immediate_fields(current):
        return True
    asked = current.recovery_action not in (published.recovery_action, *_NOTHING_ASKED)
    if asked or (
        seconds_since >= policy.publish_interval_seconds
        and _delayed_fields(published) != _delayed_fields(current)
    ):
        return True
    moved = current.score - published.score
    if abs(moved) < policy.publish_step:
        return False
    interval = policy.decay_interval_seconds if moved > 0 else policy.publish_interval_seconds
    return seconds_since >= interval


def _immediate_fields(verdict: Verdict) -> tuple[object, ...]:
    return (
        verdict.uuid,
        verdict.state,
        verdict.phase,
        verdict.health_class,
        verdict.reason,
        verdict.definitive,
        verdict.xid_errors,
    )


def _delayed_fields(verdict: Verdict) -> tuple[object, ...]:
    """What a reading may turn and turn back, so that two writes a minute are the most that it costs."""
    return (
        verdict.last_xid,
        verdict.nvlink_status,
        verdict.row_remap,
        verdict.recovery_action,
        # That there are memory errors is news, one more of them is not.
        verdict.ecc_uncorrected > 0,
    )
