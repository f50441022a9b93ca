"""Deletes pods whose devices have a NoExecute taint, from slices or DeviceTaintRules, and reports in the rules.

Place in the chain: reads the slices of the node agent and the rules of administrators or of our controller. Pods are
deleted and not evicted, without regard to PodDisruptionBudgets, as in the real cluster.
Source: kubernetes/kubernetes pkg/controller/devicetainteviction.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from gpuvitals_sim.apiserver import DeleteOptions, InProcessClient
from gpuvitals_sim.apiserver.json_types import Obj, dig, parse_time, timestamp
from gpuvitals_sim.apiserver.request import STRATEGIC_PATCH
from gpuvitals_sim.client import EventRecord, record_event
from gpuvitals_sim.controllers.pods import claim_names, is_finished
from gpuvitals_sim.controllers.taint_rule_status import RuleFacts, rule_condition

CLAIMS = "resourceclaims.resource.k8s.io"
SLICES = "resourceslices.resource.k8s.io"
RULES = "devicetaintrules.resource.k8s.io"
EVICTION_IN_PROGRESS = "EvictionInProgress"

_CONDITION: Obj = {
    "type": "DisruptionTarget",
    "status": "True",
    "reason": "DeletionByDeviceTaintManager",
    "message": "Device Taint manager: deleting due to NoExecute taint",
}
_MARKED = EventRecord(
    reason="DeviceTaintManagerEviction",
    message="Marking for deletion",
    component="device-taint-eviction-controller",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Eviction:
    """The time of a pod's deletion, and the rules that cause it."""

    when: datetime
    rules: frozenset[str] = field(default_factory=frozenset)


class TaintEvictionController:
    """Level-triggered: every pass computes the pods to delete and the times."""

    def __init__(self, client: InProcessClient, *, rule_status_seconds: float = 10.0) -> None:
        self._client = client
        self._rule_status = timedelta(seconds=rule_status_seconds)
        self._evicted_by_rule: dict[str, int] = {}
        self.kinds = frozenset(("pods", CLAIMS, SLICES, RULES))

    def reconcile(self) -> float | None:
        """Deletes the pods that are due, and updates the rules' conditions."""
        rules = self._client.peek(RULES) if self._client.serves(RULES) else []
        world = _World(
            claims={
                (claim["metadata"]["namespace"], claim["metadata"]["name"]): claim
                for claim in self._client.peek(CLAIMS)
                if dig(claim, "status", "allocation") is not None
            },
            taints=_device_taints(self._client.peek(SLICES)),
            rules=rules,
        )
        pods = self._client.peek("pods")
        # The rules' conditions count the pods before they are deleted.
        waits = [wait for rule in rules if (wait := self._report(rule, world, pods)) is not None]
        waits += [wait for pod in pods if (wait := self._evict_in_time(pod, world)) is not None]
        return min(waits, default=None)

    def _evict_in_time(self, pod: Obj, world: "_World") -> float | None:
        eviction = world.eviction_of(pod)
        if eviction is None or "deletionTimestamp" in pod["metadata"]:
            return None
        wait = (eviction.when - datetime.now(UTC)).total_seconds()
        if wait > 0:
            return wait
        self._evict(pod)
        for uid in eviction.rules:
            self._evicted_by_rule[uid] = self._evicted_by_rule.get(uid, 0) + 1
        return None

    def _evict(self, pod: Obj) -> None:
        metadata = pod["metadata"]
        where = metadata["namespace"], metadata["name"]
        record_event(self._client, pod, _MARKED, once=True)
        condition = {**_CONDITION, "lastProbeTime": None, "lastTransitionTime": timestamp()}
        patch = {"metadata": {"uid": metadata["uid"]}, "status": {"conditions": [condition]}}
        self._client.patch("pods", where, patch, patch_type=STRATEGIC_PATCH, subresource="status")
        self._client.delete("pods", metadata["name"], where[0], options=DeleteOptions(uid=metadata["uid"]))

    def _report(self, rule: Obj, world: "_World", pods: list[Obj]) -> float | None:
        """Writes the rule's condition if it changed. Returns seconds until it is computed again, or None."""
        now, generation = datetime.now(UTC), rule["metadata"].get("generation", 0)
        old = next(
            (
                entry
                for entry in dig(rule, "status", "conditions") or ()
                if entry["type"] == EVICTION_IN_PROGRESS
            ),
            None,
        )
        if old is not None and old.get("observedGeneration") == generation:
            age = now - parse_time(old["lastTransitionTime"])
            if rule["spec"]["taint"]["effect"] == "None":
                return None
            if age < self._rule_status:
                return (self._rule_status - age).total_seconds()
        facts = world.facts_about(rule, pods, self._evicted_by_rule.get(rule["metadata"]["uid"], 0))
        condition = rule_condition(rule["spec"]["taint"]["effect"], facts)
        condition |= {"type": EVICTION_IN_PROGRESS, "observedGeneration": generation}
        if old is not None and {**old, **condition} == old:
            return None
        condition["lastTransitionTime"] = timestamp(now)
        self._client.apply(
            RULES,
            {
                "apiVersion": "resource.k8s.io/v1",
                "kind": "DeviceTaintRule",
                "metadata": {"name": rule["metadata"]["name"], "uid": rule["metadata"]["uid"]},
                "status": {"conditions": [condition]},
            },
            subresource="status",
            force=True,
        )
        return self._rule_status.total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class _World:
    """The input of one pass: allocated claims, taints by (driver, pool, device), rules."""

    claims: dict[tuple[str, str], Obj]
    taints: dict[tuple[str, str, str], list[Obj]]
    rules: list[Obj]

    def eviction_of(self, pod: Obj, *, pretend: Obj | None = None) -> _Eviction | None:
        """The eviction of a running pod, or None; `pretend` is a rule whose effect counts as NoExecute."""
        if not pod["spec"].get("nodeName") or is_finished(pod):
            return None
        namespace, uid = pod["metadata"]["namespace"], pod["metadata"]["uid"]
        found: list[_Eviction] = []
        for name in claim_names(pod):
            claim = self.claims.get((namespace, name))
            consumers = dig(claim, "status", "reservedFor") or ()
            if claim is not None and any(entry.get("uid") == uid for entry in consumers):
                found += self._evictions(claim, pretend)
        if not found:
            return None
        rules = frozenset().union(*(eviction.rules for eviction in found))
        return _Eviction(when=min(eviction.when for eviction in found), rules=rules)

    def facts_about(self, rule: Obj, pods: list[Obj], evicted: int) -> RuleFacts:
        """The counts for the rule's condition."""
        pretend = rule if rule["spec"]["taint"]["effect"] == "None" else None
        pending = [pod for pod in pods if self._is_pending(pod, rule, pretend)]
        allocated = [
            result
            for claim in self.claims.values()
            for result in dig(claim, "status", "allocation", "devices", "results") or ()
            if _matches(rule, (result["driver"], result["pool"], result["device"]))
        ]
        return RuleFacts(
            published_devices=sum(1 for device in self.taints if _matches(rule, device)),
            allocated_devices=len(allocated),
            pending_pods=len(pending),
            namespaces=len({pod["metadata"]["namespace"] for pod in pending}),
            evicted_pods=evicted,
        )

    def _is_pending(self, pod: Obj, rule: Obj, pretend: Obj | None) -> bool:
        if "deletionTimestamp" in pod["metadata"]:
            return False
        eviction = self.eviction_of(pod, pretend=pretend)
        return eviction is not None and rule["metadata"]["uid"] in eviction.rules

    def _evictions(self, claim: Obj, pretend: Obj | None) -> Iterator[_Eviction]:
        for result in claim["status"]["allocation"]["devices"].get("results") or ():
            device = result["driver"], result["pool"], result["device"]
            tolerations = result.get("tolerations") or []
            for taint, rule in self._taints_of(device, pretend):
                when = _eviction_time(taint, tolerations)
                if when is not None:
                    yield _Eviction(when=when, rules=frozenset((rule,)) if rule else frozenset())

    def _taints_of(self, device: tuple[str, str, str], pretend: Obj | None) -> Iterator[tuple[Obj, str]]:
        for taint in self.taints.get(device, ()):
            if taint.get("effect") == "NoExecute":
                yield taint, ""
        for rule in self.rules:
            taint = rule["spec"]["taint"]
            if (taint["effect"] == "NoExecute" or rule is pretend) and _matches(rule, device):
                yield {**taint, "effect": "NoExecute"}, rule["metadata"]["uid"]


def _device_taints(slices: list[Obj]) -> dict[tuple[str, str, str], list[Obj]]:
    """Every published device and its taints, of the newest generation of each pool."""
    newest: dict[tuple[str, str], int] = {}
    for item in slices:
        pool = item["spec"]["driver"], item["spec"]["pool"]["name"]
        newest[pool] = max(newest.get(pool, 0), item["spec"]["pool"].get("generation", 0))
    found: dict[tuple[str, str, str], list[Obj]] = {}
    for item in slices:
        pool = item["spec"]["driver"], item["spec"]["pool"]["name"]
        if item["spec"]["pool"].get("generation", 0) == newest[pool]:
            for device in item["spec"].get("devices") or ():
                found[(*pool, device["name"])] = device.get("taints") or []
    return found


def _matches(rule: Obj, device: tuple[str, str, str]) -> bool:
    """A rule without a selector matches nothing, an empty selector everything."""
    selector = rule["spec"].get("deviceSelector")
    if selector is None:
        return False
    wanted = (selector.get("driver"), selector.get("pool"), selector.get("device"))
    return all(want in (None, have) for want, have in zip(wanted, device, strict=True))


def _eviction_time(taint: Obj, tolerations: list[Obj]) -> datetime | None:
    """The time of deletion of a pod with these tolerations; None if it tolerates the taint for ever."""
    added = parse_time(taint["timeAdded"]) if taint.get("timeAdded") else datetime.now(UTC)
    seconds: list[int] = []
    for toleration in tolerations:
        if _tolerates(toleration, taint):
            if toleration.get("tolerationSeconds") is None:
                return None
            seconds.append(max(int(toleration["tolerationSeconds"]), 0))
    return added + timedelta(seconds=min(seconds, default=0))


def _tolerates(toleration: Obj, taint: Obj) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("key") not in (None, "", taint["key"]):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return bool((toleration.get("value") or "") == (taint.get("value") or ""))
