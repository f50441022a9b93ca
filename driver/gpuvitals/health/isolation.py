"""Which GPUs of a node leave service: a verdict isolates its own GPU, and a crowd of suspects isolates nobody."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import assert_never

from gpuvitals.health.policy import Policy
from gpuvitals.model.health import HealthState, Verdict
from gpuvitals.model.ids import GpuUuid

Parents = Mapping[GpuUuid, GpuUuid]
"""The GPU of each MIG instance; a UUID that is not in it is a GPU's own."""
_NO_INSTANCES: Parents = MappingProxyType({})


def isolated(
    verdicts: Sequence[Verdict],
    policy: Policy,
    already: frozenset[GpuUuid] = frozenset(),
    parents: Parents = _NO_INSTANCES,
) -> frozenset[GpuUuid]:
    """The devices to take out of service, given all verdicts of a node and who is out `already`.

    Definitive evidence always isolates. The rest isolates while no more than the policy's share of the node's GPUs is
    out, a GPU with its instances being one, and one at least (docs/adr/024): beyond it the fault is the node's. Who is
    out stays out, then the UUID settles it: a new suspect brings no other suspect back.
    """

    def gpu_of(uuid: GpuUuid) -> GpuUuid:
        return parents.get(uuid, uuid)

    out = [verdict for verdict in verdicts if _leaves_service(verdict.state, policy)]
    definitive = frozenset(verdict.uuid for verdict in out if verdict.definitive)
    suspects = [verdict.uuid for verdict in out if not verdict.definitive]
    gone, stays = set(map(gpu_of, definitive)), set(map(gpu_of, already))
    room = isolation_limit(len({gpu_of(verdict.uuid) for verdict in verdicts}), policy) - len(gone)
    in_turn = sorted(set(map(gpu_of, suspects)) - gone, key=lambda gpu: (gpu not in stays, gpu))
    gone.update(in_turn[: max(0, room)])
    return definitive | {uuid for uuid in suspects if gpu_of(uuid) in gone}


def is_capped(verdicts: Sequence[Verdict], policy: Policy, parents: Parents = _NO_INSTANCES) -> bool:
    """Whether the cap keeps an unhealthy GPU in service: a fact of the node that its report names."""
    wanted = sum(_leaves_service(verdict.state, policy) for verdict in verdicts)
    return wanted > len(isolated(verdicts, policy, parents=parents))


def isolation_limit(gpus: int, policy: Policy) -> int:
    """How many of a node's GPUs may leave service on evidence that is not definitive."""
    share = gpus * policy.isolation_cap_percent // 100
    return max(1, share) if policy.isolation_cap_percent else 0


def _leaves_service(state: HealthState, policy: Policy) -> bool:
    match state:
        case HealthState.UNHEALTHY:
            return True
        case HealthState.UNKNOWN:
            return bool(policy.isolate_unknown)
        case HealthState.HEALTHY | HealthState.DEGRADED:
            return False
        case _:
            assert_never(state)
