"""Verdicts that are remembered as long as they hold, so that a lone fault does not have all the other GPUs judged."""

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

_BELIEVED_SECONDS = 5.0
"""How long the verdict of an unchanged state is believed: what ages does so by the hour."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A state that time has brought to an instant, and its verdict, which holds until the boot-clock instant `until`."""

    state: GpuState
    verdict: Verdict
    policy: Policy
    until: float


class VerdictCache:
    """Used by the agent's thread only."""

    def __init__(self) -> None:
        self._judged: dict[GpuUuid, Judged] = {}

    def judged(self, state: GpuState, now: Moment, policy: Policy) -> Judged:
        """The state as it is at `now`, judged by `policy`."""
        known = self._judged.get(state.uuid)
        if known is None or known.state is not state or known.policy is not policy or now.at >= known.until:
            self._judged[state.uuid] = known = _judged(state, now, policy)
        return known

    def keep(self, uuids: Collection[GpuUuid]) -> None:
        """Drops the verdicts of devices that are not known any more."""
        if len(self._judged) > len(uuids):
            self._judged = {uuid: judged for uuid, judged in self._judged.items() if uuid in uuids}


def node_policy(rules: Collection[EffectivePolicy]) -> Policy:
    """The policy for the node as a whole: of values that differ among its GPUs, the most careful."""
    ruling = [rule.health for rule in rules] or [Policy()]
    return replace(
        ruling[0],
        isolation_cap_percent=min(policy.isolation_cap_percent for policy in ruling),
        isolate_unknown=min(policy.isolate_unknown for policy in ruling),
    )


def _judged(state: GpuState, now: Moment, policy: Policy) -> Judged:
    state = advance(state, now.at, policy)
    believed = now.at + _BELIEVED_SECONDS
    turns = next_change_at(state, now.at, policy)
    return Judged(
        state=state,
        verdict=verdict(state, now, policy),
        policy=policy,
        until=believed if turns is None else min(believed, turns),
    )
