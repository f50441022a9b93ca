"""One attempt to schedule one pod: its node and devices, or the reasons of refusal.

Place in the chain: pure over a ClusterSnapshot, which the scheduler builds from its informers; the binder writes the
decision.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.scheduler.allocation import allocation_from
from gpuvitals_sim.scheduler.allocator import AllocationError, NodeError, Picked, Search
from gpuvitals_sim.scheduler.extended_resources import (
    ExtendedResourceClaim,
    ResourceClasses,
    extended_resource_claim,
    extended_resources,
    shortage,
)
from gpuvitals_sim.scheduler.node_filter import node_name, refusal, selector_matches
from gpuvitals_sim.scheduler.pools import DeviceId, Inventory
from gpuvitals_sim.scheduler.requests import ClaimRequests, claim_requests

NO_DEVICES = "cannot allocate all claims"
ELSEWHERE = "resourceclaim not available on the node"
_UNHELPFUL = "Preemption is not helpful for scheduling"
_NO_VICTIMS = "No preemption victims found for incoming pod"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSnapshot:
    """The input of an attempt. `bound` are the pods of each node that have not ended."""

    nodes: Sequence[Obj]
    classes: Mapping[str, Obj]
    inventory: Inventory
    in_use: frozenset[DeviceId]
    bound: Mapping[str, Sequence[Obj]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """The pod fits: its node, and the allocation of each claim that has none yet, by claim UID.

    `extended` is a claim for extended resources that must be created first, and `extended_allocation` its devices.
    """

    node: str
    allocations: Mapping[str, Obj]
    extended: ExtendedResourceClaim | None = None
    extended_allocation: Obj = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The pod does not fit: reason and message of its PodScheduled condition.

    `idle` is a claim that no other pod uses and whose allocation excludes all nodes.
    """

    reason: str
    message: str
    idle: Obj | None = None


Decision = Placed | Refused


def decide(snapshot: ClusterSnapshot, pod: Obj, claims: Sequence[Obj]) -> Decision:
    """The decision for the pod. `claims` are all that it references."""
    wanted = tuple(claim_requests(claim) for claim in claims if not _allocated(claim))
    missing = _missing_class(snapshot, wanted)
    if missing:
        return Refused(reason="Unschedulable", message=_unschedulable(len(snapshot.nodes), missing, 0))
    attempt = _Attempt(snapshot, pod, claims, wanted)
    try:
        for node in sorted(snapshot.nodes, key=node_name):
            attempt.try_node(node)
    except AllocationError as error:
        return Refused(reason="SchedulerError", message=f'running "DynamicResources" filter plugin: {error}')
    return attempt.outcome()


@dataclass(frozen=True, slots=True)
class _Fit:
    """A node on which the pod fits, and with which devices."""

    node: Obj
    wanted: Sequence[ClaimRequests]
    picked: list[list[Picked]]
    extended: ExtendedResourceClaim | None


class _Attempt:
    """The attempt, node by node."""

    def __init__(
        self, snapshot: ClusterSnapshot, pod: Obj, claims: Sequence[Obj], wanted: Sequence[ClaimRequests]
    ) -> None:
        self._snapshot, self._pod, self._claims, self._wanted = snapshot, pod, claims, wanted
        self._resources = extended_resources(pod)
        self._resource_classes = ResourceClasses(snapshot.classes if self._resources else {})
        self._refusals: list[str] = []
        self._without_victims = 0
        self._idle: Obj | None = None
        self._fitting: list[_Fit] = []

    def try_node(self, node: Obj) -> None:
        """Records whether the pod fits on the node. Raises AllocationError."""
        why = refusal(self._pod, node) or self._short(node) or self._claimed(node)
        if why:
            self._refusals.append(why)

    def outcome(self) -> Decision:
        """The best of the fitting nodes, or the refusal."""
        if not self._fitting:
            reasons = ", ".join(sorted(f"{count} {why}" for why, count in Counter(self._refusals).items()))
            message = _unschedulable(len(self._refusals), reasons, self._without_victims)
            return Refused(reason="Unschedulable", message=message, idle=self._idle)
        best = min(self._fitting, key=self._rank)
        name = node_name(best.node)
        made = [
            allocation_from(one.claim, picks, self._snapshot.classes, name)
            for one, picks in zip(best.wanted, best.picked, strict=True)
        ]
        uids = [one.claim["metadata"]["uid"] for one in self._wanted]
        return Placed(
            node=name,
            allocations=dict(zip(uids, made, strict=False)),
            extended=best.extended,
            extended_allocation=made[-1] if best.extended else {},
        )

    def _short(self, node: Obj) -> str:
        if not self._resources:
            return ""
        bound = self._snapshot.bound.get(node_name(node), ())
        found = shortage(node, self._resources, bound, self._resource_classes)
        if found is None:
            return ""
        self._without_victims += not found.is_hopeless
        return f"Insufficient {found.resource}"

    def _claimed(self, node: Obj) -> str:
        """The reason why the claims exclude the node, or an empty text."""
        extended = (
            extended_resource_claim(self._pod, node, self._resources, self._resource_classes)
            if self._resources
            else None
        )
        wanted = [*self._wanted, *([claim_requests(extended.claim)] if extended else [])]
        pools = self._snapshot.inventory.pools(node) if wanted else ()
        search = Search(
            pools=pools, classes=self._snapshot.classes, in_use=self._snapshot.in_use, wanted=wanted
        )
        try:
            picked = search.run()
        except NodeError as error:
            return str(error)
        if picked is None:
            return NO_DEVICES
        elsewhere = [claim for claim in self._claims if _is_elsewhere(claim, node)]
        if elsewhere:
            self._idle = next((claim for claim in elsewhere if _is_idle(claim, self._pod)), self._idle)
            return ELSEWHERE
        self._fitting.append(_Fit(node, wanted, picked, extended))
        return ""

    def _rank(self, fit: _Fit) -> tuple[int, int, str]:
        """The sort key; smaller is better: first choices of prioritized lists, then the emptier node, then the name."""
        name = node_name(fit.node)
        later = sum(pick.rank for claim in fit.picked for pick in claim)
        return later, len(self._snapshot.bound.get(name, ())), name


def _allocated(claim: Obj) -> bool:
    return bool((claim.get("status") or {}).get("allocation"))


def _is_elsewhere(claim: Obj, node: Obj) -> bool:
    """Whether the claim is already allocated, and not for this node."""
    return _allocated(claim) and not selector_matches(claim["status"]["allocation"].get("nodeSelector"), node)


def _is_idle(claim: Obj, pod: Obj) -> bool:
    """Whether the allocation is reserved for no pod, or for this pod alone."""
    return all(entry["uid"] == pod["metadata"]["uid"] for entry in claim["status"].get("reservedFor") or ())


def _missing_class(snapshot: ClusterSnapshot, wanted: Sequence[ClaimRequests]) -> str:
    for one in wanted:
        for choice in (choice for request in one.requests for choice in request.choices):
            if choice.class_name not in snapshot.classes:
                return f"request {choice.name}: device class {choice.class_name} does not exist"
    return ""


def _unschedulable(total: int, why: str, without_victims: int) -> str:
    if not total:
        return "no nodes available to schedule pods"
    counts = ((without_victims, _NO_VICTIMS), (total - without_victims, _UNHELPFUL))
    end = ", ".join(sorted(f"{count} {text}" for count, text in counts if count))
    none = f"0/{total} nodes are available"
    return f"{none}: {why}. preemption: {none}: {end}."
