"""One attempt to schedule one pod: which node, which devices, or why not.

Place in the chain: pure over a World; the scheduler builds the World from its mirrors and carries the Decision out.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpuvitals.sim.rest import Json
from gpuvitals.sim.scheduler.allocation import allocated_devices, allocation_from
from gpuvitals.sim.scheduler.allocator import AllocationError, Picked, Search
from gpuvitals.sim.scheduler.nodes import node_name, refusal, selector_matches, tolerated
from gpuvitals.sim.scheduler.pools import DeviceId, Inventory
from gpuvitals.sim.scheduler.requests import Wanted, wanted_from

NO_DEVICES = "cannot allocate all claims"
ELSEWHERE = "resourceclaim not available on the node"
_UNHELPFUL = "Preemption is not helpful for scheduling"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What an attempt sees. `pods_on` counts the pods of a node."""

    nodes: Sequence[Json]
    classes: Mapping[str, Json]
    inventory: Inventory
    in_use: frozenset[DeviceId]
    pods_on: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """The pod fits: its node, and the allocation of each claim that has none yet, by claim UID."""

    node: str
    allocations: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The pod does not fit: reason and message of its PodScheduled condition."""

    reason: str
    message: str


Decision = Placed | Refused


def decide(world: World, pod: Json, claims: Sequence[Json]) -> Decision:
    """Where the pod goes. `claims` are all that it references."""
    wanted = [wanted_from(claim) for claim in claims if not _allocated(claim)]
    refusals: list[str] = []
    fitting: list[tuple[tuple[int, int, str], Json, list[list[Picked]]]] = []
    for node in sorted(world.nodes, key=node_name):
        why = refusal(pod, node) or _elsewhere(world, claims, node)
        if why:
            refusals.append(why)
            continue
        search = Search(
            pools=world.inventory.pools(node), classes=world.classes, in_use=world.in_use, wanted=wanted
        )
        try:
            picked = search.run()
        except AllocationError as error:
            return Refused(
                reason="SchedulerError", message=f'running "DynamicResources" filter plugin: {error}'
            )
        if picked is None:
            refusals.append(NO_DEVICES)
        else:
            fitting.append((_rank(world, node, picked), node, picked))
    if not fitting:
        return Refused(reason="Unschedulable", message=_unschedulable(refusals))
    _, node, picked = min(fitting, key=lambda entry: entry[0])
    return Placed(node=node_name(node), allocations=_allocations(world, wanted, picked, node_name(node)))


def _allocated(claim: Json) -> bool:
    return bool((claim.get("status") or {}).get("allocation"))


def _elsewhere(world: World, claims: Sequence[Json], node: Json) -> str:
    """Why claims that are allocated already keep the pod off the node."""
    for claim in claims:
        if not _allocated(claim):
            continue
        if not selector_matches(claim["status"]["allocation"].get("nodeSelector"), node):
            return ELSEWHERE
        if any(_evicting(world, device, result) for device, result in allocated_devices(claim)):
            return NO_DEVICES
    return ""


def _evicting(world: World, device: DeviceId, result: Json) -> bool:
    """A device that evicts its pods takes no new one; NoSchedule alone does not stop further pods of a claim."""
    published = world.inventory.find(device)
    taints = published.taints if published is not None else ()
    tolerations = result.get("tolerations") or ()
    return any(taint.get("effect") == "NoExecute" and not tolerated(taint, tolerations) for taint in taints)


def _rank(world: World, node: Json, picked: list[list[Picked]]) -> tuple[int, int, str]:
    """Better is smaller: first choices of prioritized lists, then the emptier node, then the name."""
    name = node_name(node)
    return sum(pick.rank for claim in picked for pick in claim), world.pods_on.get(name, 0), name


def _allocations(
    world: World, wanted: Sequence[Wanted], picked: list[list[Picked]], node: str
) -> dict[str, Json]:
    return {
        claim.claim["metadata"]["uid"]: allocation_from(claim.claim, picks, world.classes, node)
        for claim, picks in zip(wanted, picked, strict=True)
    }


def _unschedulable(refusals: list[str]) -> str:
    total = len(refusals)
    if not total:
        return "no nodes available to schedule pods"
    counted = ", ".join(sorted(f"{count} {why}" for why, count in Counter(refusals).items()))
    preemption = f"preemption: 0/{total} nodes are available: {total} {_UNHELPFUL}."
    return f"0/{total} nodes are available: {counted}. {preemption}"
