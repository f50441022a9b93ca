"""Which GPUs of a node leave service: a verdict isolates its own GPU, and a crowd of suspects isolates nobody."""

from collections.abc import Sequence
from typing import assert_never

from gpuvitals.health.policy import Policy
from gpuvitals.model.health import HealthState, Verdict
from gpuvitals.model.ids import GpuUuid


def isolated(
    verdicts: Sequence[Verdict], policy: Policy, already: frozenset[GpuUuid] = frozenset()
) -> frozenset[GpuUuid]:
    """The GPUs to take out of service, given all verdicts of a node and who is out `already`.

    Definitive evidence always isolates. The rest isolates while no more than the policy's share of the node is out:
    beyond it the fault is the node's. Who is out stays out, then the UUID settles it: a new suspect brings no other
    suspect back.
    """
    out = [verdict for verdict in verdicts if _is_out(verdict.state, policy)]
    definitive = [verdict.uuid for verdict in out if verdict.definitive]
    suspects = sorted(
        (verdict.uuid for verdict in out if not verdict.definitive),
        key=lambda uuid: (uuid not in already, uuid),
    )
    room = len(verdicts) * policy.isolation_cap_percent // 100 - len(definitive)
    return frozenset([*definitive, *suspects[: max(0, room)]])


def is_capped(verdicts: Sequence[Verdict], policy: Policy) -> bool:
    """Whether the cap keeps an unhealthy GPU in service: a fact of the node that its report names."""
    wanted = sum(_is_out(verdict.state, policy) for verdict in verdicts)
    return wanted > len(isolated(verdicts, policy))


def _is_out(state: HealthState, policy: Policy) -> bool:
    match state:
        case HealthState.UNHEALTHY:
            return True
        case HealthState.UNKNOWN:
            return bool(policy.isolate_unknown)
        case HealthState.HEALTHY | HealthState.DEGRADED:
            return False
        case _:
            assert_never(state)
