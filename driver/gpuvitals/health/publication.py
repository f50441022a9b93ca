"""Rate limit of published verdicts: each ResourceSlice update wakes every scheduler, so noise must cause no write."""

from gpuvitals.health.policy import Policy
from gpuvitals.model.health import Verdict

_NOTHING_ASKED = ("None", "Unknown")
"""Recovery actions without a known request."""


def worth_publishing(
    published: Verdict | None, current: Verdict, seconds_since: float, policy: Policy
) -> bool:
    """Whether to publish the verdict. `seconds_since` is the time since this GPU was last published.

    State, class, reason, XID count and a new recovery action are published at once. Link and memory attributes and a
    change of the score by `publish_step` wait for `publish_interval_seconds`, a rise of the score, caused by ageing, for
    `decay_interval_seconds`. Other attributes are published together with these.
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
    """The fields that readings can change back and forth; they cause at most one write per interval."""
    return (
        verdict.last_xid,
        verdict.nvlink_status,
        verdict.row_remap,
        verdict.recovery_action,
        # The first memory error is published, a growing count alone is not.
        verdict.ecc_uncorrected > 0,
    )
