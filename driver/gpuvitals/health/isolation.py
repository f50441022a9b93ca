"""The GPUs of a node that leave service, with a cap on isolations without definitive evidence."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import assert_never

from gpuvitals.health.policy import Policy
from gpuvitals.model.health import HealthState, Verdict
from gpuvitals.model.ids import GpuUuid

Parents = Mapping[GpuUuid, GpuUuid]
"""The parent GPU of each MIG instance. Other UUIDs are physical GPUs."""
_NO_INSTANCES: Parents = MappingProxyType({})


def isolated(
    verdicts: Sequence[Verdict],
    policy: Policy,
    already: frozenset[GpuUuid] = frozenset(),
    parents: Parents = _NO_INSTANCES,
) -> frozenset[GpuUuid]:
    """The devices to take out of service, given all verdicts of a node and the devices that are `already` out.

    Definitive evidence always isolates. Other evidence isolates up to the policy's share of the node's GPUs, but at least
    one GPU (docs/adr/024); beyond that the fault is the node's. A GPU counts once with its instances. Devices that are
    already out come first, then the order of UUIDs: a new suspect returns no other suspect to service.
    """

    def gpu_of(uuid: GpuUuid) -> GpuUuid:
        return parents.get(uuid, uuid)

    out = [verdict for verdict in verdicts if _leaves_service(verdict.state, policy)]
    definitive = frozenset(verdict.uuid for verdict in out if verdict.definitive)
    suspects = [verdict.uuid for verdict in out if not verdict.definitive]
    isolated_gpus, already_out = set(map(gpu_of, definitive)), set(map(gpu_of, already))
    limit = isolation_limit(len({gpu_of(verdict.uuid) for verdict in verdicts}), policy)
    candidates = sorted(
        set(map(gpu_of, suspects)) - isolated_gpus, key=lambda gpu: (gpu not in already_out, gpu)
    )
    isolated_gpus.update(candidates[: max(0, limit - len(isolated_gpus))])
    return definitive | {uuid for uuid in suspects if gpu_of(uuid) in isolated_gpus}


def is_capped(verdicts: Sequence[Verdict], policy: Policy, parents: Parents = _NO_INSTANCES) -> bool:
    """Whether the cap keeps an unhealthy GPU in service. The node report shows it."""
    wanted = sum(_leaves_service(verdict.state, policy) for verdict in verdicts)
    return wanted > len(isolated(verdicts, policy, parents=parents))


def isolation_limit(gpus: int, policy: Policy) -> int:
    """The most GPUs of a node that may leave service without definitive evidence."""
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
