"""Which GPUs of a node leave service: a verdict isolates its own GPU, and a crowd of suspects isolates nobody."""

from collections.abc import Sequence

from gpuvitals.health.policy import Policy
from gpuvitals.model.health import HealthState, Verdict
from gpuvitals.model.ids import GpuUuid


def isolated(verdicts: Sequence[Verdict], policy: Policy) -> frozenset[GpuUuid]:
    """The GPUs to take out of service, given all verdicts of a node.

    Definitive evidence always isolates. The rest isolates while no more than the policy's share of the node is out:
    beyond it the fault is the node's. Which of the suspects are out is settled by UUID, so it does not flicker.
    """
    out = [verdict for verdict in verdicts if verdict.state is HealthState.UNHEALTHY]
    definitive = [verdict.uuid for verdict in out if verdict.definitive]
    suspects = sorted(verdict.uuid for verdict in out if not verdict.definitive)
    room = len(verdicts) * policy.isolation_cap_percent // 100 - len(definitive)
    return frozenset([*definitive, *suspects[: max(0, room)]])


def is_capped(verdicts: Sequence[Verdict], policy: Policy) -> bool:
    """Whether the cap keeps an unhealthy GPU in service: a fact of the node that its report names."""
    unhealthy = {verdict.uuid for verdict in verdicts if verdict.state is HealthState.UNHEALTHY}
    return unhealthy != isolated(verdicts, policy)
