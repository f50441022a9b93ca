"""When a verdict is worth a write: each slice update wakes every scheduler, so noise must cost nothing."""

from dataclasses import replace

from gpuvitals.health.policy import Policy
from gpuvitals.model.health import Confidence, Verdict


def worth_publishing(
    published: Verdict | None, current: Verdict, seconds_since: float, policy: Policy
) -> bool:
    """Whether the cluster should be told. `seconds_since` is the time since it was last told about this GPU.

    State, class, reason, counts and what the driver asks for are told at once. The score alone is told when it moved
    by a step, and not too often: a rise, which ageing brings, less often still. Everything else goes along.
    """
    if published is None:
        return True
    if _steady(published) != _steady(current):
        return True
    moved = current.score - published.score
    if abs(moved) < policy.publish_step:
        return False
    interval = policy.decay_interval_seconds if moved > 0 else policy.publish_interval_seconds
    return seconds_since >= interval


def _steady(verdict: Verdict) -> Verdict:
    """The verdict without what may drift: it is told only along with something else."""
    return replace(
        verdict,
        score=0,
        message="",
        last_fault_time=None,
        nvlink_bandwidth_percent=0,
        # That there are memory errors is news, one more of them is not.
        ecc_uncorrected=min(verdict.ecc_uncorrected, 1),
        coverage=0,
        confidence=Confidence.NONE,
    )
