"""Caches verdicts, so that a fault of one GPU does not cost an evaluation of all the others."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from gpuvitals.health.evaluate import advance
from gpuvitals.health.policy import Policy
from gpuvitals.health.state import GpuState
from gpuvitals.health.verdict import next_change_at, verdict
from gpuvitals.inventory.policy_match import EffectivePolicy
from gpuvitals.model.clock import Moment
from gpuvitals.model.health import Verdict
from gpuvitals.model.ids import GpuUuid

_VALID_SECONDS = 5.0
"""The longest validity of the verdict of an unchanged state; ageing takes hours."""


@dataclass(frozen=True, slots=True)
class CachedVerdict:
    """A state advanced to an instant, and its verdict, which is valid until the boot-clock instant `until`."""

    state: GpuState
    verdict: Verdict
    policy: Policy
    until: float


class VerdictCache:
    """Owned by the agent's thread."""

    def __init__(self) -> None:
        self._cached: dict[GpuUuid, CachedVerdict] = {}

    def verdict_of(self, state: GpuState, now: Moment, policy: Policy) -> CachedVerdict:
        """The state advanced to `now`, with its verdict under `policy`."""
        known = self._cached.get(state.uuid)
        if known is None or known.state is not state or known.policy is not policy or now.at >= known.until:
            self._cached[state.uuid] = known = _evaluated(state, now, policy)
        return known

    def keep(self, uuids: Collection[GpuUuid]) -> None:
        """Drops the verdicts of all other devices."""
        if len(self._cached) > len(uuids):
            self._cached = {uuid: cached for uuid, cached in self._cached.items() if uuid in uuids}


def node_policy(effective: Collection[EffectivePolicy]) -> Policy:
    """The policy for the node as a whole: for values that differ among its GPUs, the most careful one."""
    policies = [each.health for each in effective] or [Policy()]
    return replace(
        policies[0],
        isolation_cap_percent=min(policy.isolation_cap_percent for policy in policies),
        isolate_unknown=min(policy.isolate_unknown for policy in policies),
    )


def _evaluated(state: GpuState, now: Moment, policy: Policy) -> CachedVerdict:
    state = advance(state, now.at, policy)
    valid_until = now.at + _VALID_SECONDS
    changes_at = next_change_at(state, now.at, policy)
    return CachedVerdict(
        state=state,
        verdict=verdict(state, now, policy),
        policy=policy,
        until=valid_until if changes_at is None else min(valid_until, changes_at),
    )
