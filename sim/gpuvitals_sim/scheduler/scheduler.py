"""The scheduling loop: every change wakes it, then each waiting pod is tried once.

Place in the chain: informers -> decision -> binder. One thread decides and writes, so no device is allocated twice; its
own writes are assumed until the informers show them.
"""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from gpuvitals_sim.apiserver import ApiError
from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.client import HttpClient, Informer
from gpuvitals_sim.scheduler.allocation import allocated_devices
from gpuvitals_sim.scheduler.binder import bind, create_extended, deallocate, delete_extended, refuse
from gpuvitals_sim.scheduler.decision import ClusterSnapshot, Placed, Refused, decide
from gpuvitals_sim.scheduler.extended_resources import ExtendedResourceClaim, extended_resources, left_over
from gpuvitals_sim.scheduler.pod_claims import NotSchedulableYet, claims_of
from gpuvitals_sim.scheduler.pools import DeviceId, Inventory

log = logging.getLogger(__name__)

NAME = "default-scheduler"
_RETRY_SECONDS = 1.0
_JOIN_SECONDS = 15.0
_INFORMER_SECONDS = 5.0
_ENDED = ("Succeeded", "Failed")


class Scheduler:
    """Schedules the pods of `default-scheduler` on the API server at the URL `server`."""

    def __init__(self, server: str) -> None:
        self._client = HttpClient(server)
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._inventory = Inventory()
        self._bound: set[str] = set()
        self._assumed: dict[str, _Assumed] = {}
        self._pods = self._informer("pods")
        self._nodes = self._informer("nodes")
        self._claims = self._informer("resourceclaims.resource.k8s.io")
        self._slices = self._informer("resourceslices.resource.k8s.io")
        self._classes = self._informer("deviceclasses.resource.k8s.io")
        self._rules = self._informer("devicetaintrules.resource.k8s.io")
        self._thread = threading.Thread(target=self._run, name="sim-scheduler")

    def start(self) -> None:
        """Starts watching and scheduling."""
        for informer in self._informers():
            informer.start()
        self._thread.start()

    def stop(self) -> None:
        """Ends every thread; a bind in flight is finished first."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(_JOIN_SECONDS)
        for informer in self._informers():
            informer.stop()
        self._client.close()

    def knows(self, item: Obj) -> bool:
        """Whether the informers have this version of the object, or a later one. Their watches are independent."""
        informers = {
            "Pod": self._pods,
            "Node": self._nodes,
            "ResourceClaim": self._claims,
            "ResourceSlice": self._slices,
            "DeviceClass": self._classes,
            "DeviceTaintRule": self._rules,
        }
        metadata = item["metadata"]
        seen = informers[item["kind"]].find(metadata.get("namespace", ""), metadata["name"])
        return seen is not None and int(seen["metadata"]["resourceVersion"]) >= int(
            metadata["resourceVersion"]
        )

    def _informer(self, kind: str) -> Informer:
        return Informer(self._client, kind, lambda _kind, _item: self._wake.set())

    def _informers(self) -> tuple[Informer, ...]:
        return (self._pods, self._nodes, self._claims, self._slices, self._classes, self._rules)

    def _run(self) -> None:
        for informer in self._informers():
            while not self._stop.is_set() and not informer.wait_synced(0.1):
                continue
        while not self._stop.is_set():
            self._wake.clear()
            retry = self._round()
            self._wake.wait(_RETRY_SECONDS if retry else None)
        self._client.close()

    def _round(self) -> bool:
        """Tries every waiting pod. True if a request failed and its pod must be tried again."""
        retry = False
        for pod in self._waiting():
            if self._stop.is_set():
                break
            try:
                self._schedule(pod)
            except NotSchedulableYet:
                continue
            except ApiError as error:
                log.debug("scheduler: pod %s: %s; tried again", pod["metadata"]["name"], error)
                retry = True
            except Exception:  # an error with one pod must not stop the others
                log.exception("scheduler: pod %s: not scheduled; tried again", pod["metadata"]["name"])
                retry = True
        return retry

    def _waiting(self) -> list[Obj]:
        """Pods without a node, most important and oldest first."""
        pods = self._pods.all()
        unbound = {pod["metadata"]["uid"] for pod in pods if not pod["spec"].get("nodeName")}
        self._bound &= unbound
        waiting = [pod for pod in pods if _is_ours(pod) and pod["metadata"]["uid"] in unbound - self._bound]
        return sorted(waiting, key=_urgency)

    def _schedule(self, pod: Obj) -> None:
        claims = [self._known(claim) for claim in claims_of(pod, self._claims.find)]
        left = left_over(pod, self._claims.all()) if extended_resources(pod) else None
        if left is not None:
            delete_extended(self._client, left)
            raise NotSchedulableYet(
                "an earlier attempt left its claim; the pod is tried again when that is gone"
            )
        decision = decide(self._snapshot(), pod, claims)
        if isinstance(decision, Refused):
            refuse(self._client, pod, decision)
            if decision.idle is not None:
                deallocate(self._client, decision.idle)
        elif decision.extended is None:
            self._bind(pod, claims, decision)
        else:
            self._bind_with_extended(pod, claims, decision, decision.extended)

    def _bind(self, pod: Obj, claims: list[Obj], placed: Placed) -> None:
        written: dict[str, int] = {}
        try:
            bind(self._client, pod, claims, placed, written)
        finally:
            self._assume(placed, written)
        self._bound.add(pod["metadata"]["uid"])

    def _bind_with_extended(
        self, pod: Obj, claims: list[Obj], placed: Placed, extended: ExtendedResourceClaim
    ) -> None:
        """Creates the claim first and waits until the informer has it: its devices are in use from then on."""
        made = create_extended(self._client, extended)
        where, uid = (made["metadata"]["namespace"], made["metadata"]["name"]), made["metadata"]["uid"]
        try:
            deadline = time.monotonic() + _INFORMER_SECONDS
            while self._claims.find(*where) is None:
                if time.monotonic() > deadline or self._stop.wait(0.002):
                    raise NotSchedulableYet("the informer does not have the new claim yet")
            allocations = {**placed.allocations, uid: placed.extended_allocation}
            self._bind(pod, [*claims, made], replace(placed, allocations=allocations))
        except (ApiError, NotSchedulableYet):
            delete_extended(self._client, made)
            raise

    def _assume(self, placed: Placed, written: dict[str, int]) -> None:
        present = {claim["metadata"]["uid"] for claim in self._claims.all()}
        self._assumed = {uid: value for uid, value in self._assumed.items() if uid in present}
        for uid, allocation in placed.allocations.items():
            if uid in written:
                self._assumed[uid] = _Assumed(written[uid], allocation)

    def _snapshot(self) -> ClusterSnapshot:
        self._inventory.update(self._slices.all(), self._rules.all())
        bound: dict[str, list[Obj]] = {}
        for pod in self._pods.all():
            if pod["spec"].get("nodeName") and (pod.get("status") or {}).get("phase") not in _ENDED:
                bound.setdefault(pod["spec"]["nodeName"], []).append(pod)
        return ClusterSnapshot(
            nodes=self._nodes.all(),
            classes={item["metadata"]["name"]: item for item in self._classes.all()},
            inventory=self._inventory,
            in_use=frozenset(self._in_use()),
            bound=bound,
        )

    def _in_use(self) -> Iterator[DeviceId]:
        for claim in self._claims.all():
            for device, result in allocated_devices(self._known(claim)):
                if not result.get("adminAccess"):
                    yield device

    def _known(self, claim: Obj) -> Obj:
        """The claim, with its assumed allocation while the informer does not have it yet."""
        assumed = self._assumed.get(claim["metadata"]["uid"])
        if assumed is None:
            return claim
        if int(claim["metadata"]["resourceVersion"]) >= assumed.version:
            del self._assumed[claim["metadata"]["uid"]]
            return claim
        return {**claim, "status": {**(claim.get("status") or {}), "allocation": assumed.allocation}}


@dataclass(frozen=True, slots=True)
class _Assumed:
    """An allocation that was written; assumed until the informer has this version of the claim or a later one."""

    version: int
    allocation: Obj


def _is_ours(pod: Obj) -> bool:
    return (
        pod["spec"].get("schedulerName", NAME) == NAME
        and not pod["metadata"].get("deletionTimestamp")
        and not pod["spec"].get("schedulingGates")
        and (pod.get("status") or {}).get("phase", "Pending") == "Pending"
    )


def _urgency(pod: Obj) -> tuple[int, str, str, str]:
    metadata = pod["metadata"]
    return (
        -int(pod["spec"].get("priority") or 0),
        metadata["creationTimestamp"],
        metadata["namespace"],
        metadata["name"],
    )
