"""One case's part of a shared cluster: a namespace, nodes, a driver and a class that no other case uses.

Slices are bound to the case's nodes and its pods select them by label, so no case sees the devices of another one. Nodes
stay when a case ends: a scheduler that counts nodes has to count the same ones as the case.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from support.raw_api import MERGE_PATCH, STRATEGIC_PATCH, Json, RawApi
from support.realkube.answers import stored

T = TypeVar("T")

RESOURCE = "/apis/resource.k8s.io/v1"
NODES = "/api/v1/nodes"
SECONDS = 30.0
_TRIES = 20
LABEL = "contract.example.com/case"
NO_DEVICES = "cannot allocate all claims"
_ELSEWHERE = "node(s) didn't match Pod's node affinity/selector"
_NO_VICTIMS = "No preemption victims found for incoming pod"
_UNHELPFUL = "Preemption is not helpful for scheduling"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The objects of one case; all contain its unique `name`."""

    name: str
    api: RawApi
    made: list[str] = field(default_factory=list)

    @property
    def driver(self) -> str:
        return f"{self.name}.example.com"

    @property
    def rules(self) -> str:
        return f"{RESOURCE}/devicetaintrules"

    @property
    def slices(self) -> str:
        return f"{RESOURCE}/resourceslices"

    @property
    def classes(self) -> str:
        return f"{RESOURCE}/deviceclasses"

    @property
    def claims(self) -> str:
        return f"{RESOURCE}/namespaces/{self.name}/resourceclaims"

    @property
    def templates(self) -> str:
        return f"{RESOURCE}/namespaces/{self.name}/resourceclaimtemplates"

    @property
    def pods(self) -> str:
        return f"/api/v1/namespaces/{self.name}/pods"

    def create(self, path: str, body: Json) -> Json:
        """Creates the object, which goes when the case ends."""
        made = stored(self.api.post(path, body))
        self.made.append(f"{path}/{made['metadata']['name']}")
        return made

    def node(self, suffix: str = "a", **allocatable: str) -> str:
        """A Ready node of the case; returns its name."""
        name = f"{self.name}-{suffix}"
        labels = {LABEL: self.name, "kubernetes.io/hostname": name}
        stored(self.api.post(NODES, {"metadata": {"name": name, "labels": labels}}))
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}
        room = {"pods": "100", "cpu": "64", "memory": "64Gi", **allocatable}
        status = {"conditions": [ready], "allocatable": room, "capacity": room}
        stored(self.api.patch(f"{NODES}/{name}/status", STRATEGIC_PATCH, {"status": status}))
        stored(self.api.patch(f"{NODES}/{name}", MERGE_PATCH, {"spec": {"taints": None}}))
        return name

    def publish(self, *devices: Json, suffix: str = "a", name: str = "", pool: str = "", **more: Any) -> Json:
        """A slice of the node `suffix`; `more` overrides the pool's generation and resourceSliceCount."""
        node = f"{self.name}-{suffix}"
        spec: Json = {
            "driver": self.driver,
            "nodeName": node,
            "pool": {"name": pool or node, "generation": 1, "resourceSliceCount": 1, **more},
            "devices": list(devices),
        }
        return self.create(self.slices, {"metadata": {"name": name or f"{self.name}-{suffix}"}, "spec": spec})

    def replace(self, path: str, item: Json) -> Json:
        """Writes the changed object."""
        return stored(self.api.put(f"{path}/{item['metadata']['name']}", item))

    def device_class(self, *selectors: str, suffix: str = "", is_filtered: bool = True, **spec: Any) -> str:
        """A class of the case's driver; returns its name. Without filter it has the given selectors only."""
        expressions = (f'device.driver == "{self.driver}"',) if is_filtered else ()
        name = self.name + suffix
        body: Json = {"selectors": [cel(text) for text in (*expressions, *selectors)], **spec}
        self.create(self.classes, {"metadata": {"name": name}, "spec": body})
        return name

    def exactly(self, name: str = "gpu", *selectors: str, **more: Any) -> Json:
        """One exact request for the case's class."""
        return {"name": name, "exactly": self.asked(*selectors, **more)}

    def choice(self, name: str, *selectors: str, **more: Any) -> Json:
        """One entry of `firstAvailable`."""
        return {"name": name, **self.asked(*selectors, **more)}

    def asked(self, *selectors: str, **more: Any) -> Json:
        found: Json = {"deviceClassName": self.name, **more}
        if selectors:
            found["selectors"] = [cel(text) for text in selectors]
        return found

    def claim(self, name: str, *requests: Json, **devices: Any) -> Json:
        """A claim; without requests for one device of the class."""
        return self.create(
            self.claims, {"metadata": {"name": name}, "spec": self.wants(*requests, **devices)}
        )

    def wants(self, *requests: Json, **devices: Any) -> Json:
        return {"devices": {"requests": list(requests) or [self.exactly()], **devices}}

    def pod(self, name: str, *claims: str, templates: Sequence[str] = (), **spec: Any) -> Json:
        """A pod of one container that uses all of these claims, for the case's nodes."""
        references: list[Json] = [
            {"name": f"c{n}", "resourceClaimName": used} for n, used in enumerate(claims)
        ]
        references += [
            {"name": f"t{n}", "resourceClaimTemplateName": used} for n, used in enumerate(templates)
        ]
        uses = [{"name": reference["name"]} for reference in references]
        body: Json = {
            "containers": [{"name": "main", "image": "work", "resources": {"claims": uses}}],
            "nodeSelector": {LABEL: self.name},
            **({"resourceClaims": references} if references else {}),
            **spec,
        }
        return self.create(self.pods, {"metadata": {"name": name}, "spec": body})

    def submit(self, name: str, *requests: Json, **devices: Any) -> None:
        """A claim and a pod that uses it, both of this name."""
        self.claim(name, *requests, **devices)
        self.pod(name, name)

    def again_until(self, prefix: str, wanted: Sequence[str]) -> str:
        """Submits claims for one device each until one gets these devices; since the scheduler's watches may lag."""
        for number in range(_TRIES):
            name = f"{prefix}-{number}"
            self.submit(name)
            if self.taken(name) == list(wanted):
                return name
            self.delete_pod(name)
            self.freed(name)
        raise AssertionError(f"{wanted} not given to any of {_TRIES} claims")

    def placed(self, name: str) -> Json:
        """The pod once it is bound."""
        return eventually(lambda: self._bound(name), lambda: f"{name} bound; {self.scheduled(name)}")

    def held(self, name: str) -> list[tuple[str, str]]:
        """(request, device) of each result of the claim of this name, once the pod of this name is bound."""
        self.placed(name)
        return [(result["request"], result["device"]) for result in self.results(name)]

    def taken(self, name: str) -> list[str]:
        """The devices that the pod's claim holds once it is bound."""
        return [device for _, device in self.held(name)]

    def results(self, name: str) -> list[Json]:
        found: list[Json] = self.status(name)["allocation"]["devices"]["results"]
        return found

    def status(self, name: str) -> Json:
        found: Json = stored(self.api.get(f"{self.claims}/{name}")).get("status") or {}
        return found

    def scheduled(self, name: str) -> tuple[str, str, str]:
        """Status, reason and message of PodScheduled."""
        found = condition(stored(self.api.get(f"{self.pods}/{name}")), "PodScheduled")
        return found.get("status", ""), found.get("reason", ""), found.get("message", "")

    def refused(self, name: str, reason: str, message: str) -> None:
        """Waits until the pod's condition says this, and an event too: the first attempt may see less."""
        wanted = ("False", reason, message)
        eventually(
            lambda: self.scheduled(name) == wanted, lambda: f"{wanted} for {name}, but {self.scheduled(name)}"
        )
        self.told(name, ("Warning", "FailedScheduling", message[:1024], "default-scheduler"))

    def waits(self, name: str, counted: dict[str, int] | None = None, *, without_victims: int = 0) -> None:
        """Waits until the pod is Unschedulable for these reasons on the case's nodes.

        On `without_victims` of the nodes it would fit if less important pods went, and there are none.
        """
        self.refused(name, "Unschedulable", self.unfit(counted or {NO_DEVICES: 1}, without_victims))

    def is_held_back(self, name: str) -> None:
        """The scheduler says nothing about this pod, although it has placed a later one."""
        self.pod(f"after-{name}")
        self.placed(f"after-{name}")
        assert self.scheduled(name) == ("", "", "")
        assert [event for event in self.events(name) if event[3] == "default-scheduler"] == []

    def broken(self, name: str, message: str) -> None:
        """Waits until the scheduler gives up on the pod with an error of the claims' plugin."""
        self.refused(name, "SchedulerError", f'running "DynamicResources" filter plugin: {message}')

    def unfit(self, counted: dict[str, int], without_victims: int = 0) -> str:
        """The condition's text with these reasons; all other nodes are not selected."""
        total = len(self.api.get(NODES).body["items"])
        others = total - sum(counted.values())
        reasons = [f"{count} {why}" for why, count in counted.items()]
        reasons += [f"{others} {_ELSEWHERE}"] if others else []
        return self.blocked(", ".join(sorted(reasons)), without_victims)

    def blocked(self, why: str, without_victims: int = 0) -> str:
        """The condition's text for this reason."""
        total = len(self.api.get(NODES).body["items"])
        counts = ((without_victims, _NO_VICTIMS), (total - without_victims, _UNHELPFUL))
        end = ", ".join(f"{count} {why}" for count, why in counts if count)
        none = f"0/{total} nodes are available"
        return f"{none}: {why}. preemption: {none}: {end}."

    def told(self, name: str, event: tuple[str, str, str, str]) -> None:
        """Waits for the event (type, reason, message, component) about the object."""
        eventually(lambda: event in self.events(name), lambda: f"{event} for {name}, but {self.events(name)}")

    def events(self, name: str) -> list[tuple[str, str, str, str]]:
        """(type, reason, message, component) of each event about the object of this name."""
        items = stored(self.api.get(f"/api/v1/namespaces/{self.name}/events"))["items"]
        return [
            (item["type"], item["reason"], item["message"], item.get("reportingComponent", ""))
            for item in items
            if item["involvedObject"]["name"] == name
        ]

    def end(self, name: str) -> None:
        """The pod has run to its end."""
        stored(
            self.api.patch(f"{self.pods}/{name}/status", STRATEGIC_PATCH, {"status": {"phase": "Succeeded"}})
        )

    def delete_pod(self, name: str) -> None:
        """The pod is gone at once, as when its kubelet has ended it."""
        self.api.delete(f"{self.pods}/{name}", gracePeriodSeconds=0)

    def freed(self, claim: str) -> None:
        """Waits until the claim holds nothing."""
        eventually(lambda: not self.status(claim), lambda: f"{claim} freed, but {self.status(claim)}")

    def evicted(self, name: str) -> Json:
        """The pod once it is marked for deletion."""

        def marked() -> Json | None:
            found = stored(self.api.get(f"{self.pods}/{name}"))
            return found if found["metadata"].get("deletionTimestamp") else None

        return eventually(marked, lambda: f"{name} deleted")

    def gone(self, path: str) -> None:
        """Waits until there is no such object."""
        eventually(lambda: self.api.get(path).status == 404, lambda: f"{path} gone")

    def clear(self) -> None:
        """Deletes the objects of the case, pods first, since they hold claims."""
        for path in reversed(self.made):
            self.api.delete(path, gracePeriodSeconds=0)

    def _bound(self, name: str) -> Json | None:
        found = stored(self.api.get(f"{self.pods}/{name}"))
        return found if found["spec"].get("nodeName") else None


def eventually(check: Callable[[], T | None], what: Callable[[], str], seconds: float = SECONDS) -> T:
    """The first result of `check` that is neither None nor False. Fails with `what` after the timeout."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found is not None and found is not False:
            return found
        assert time.monotonic() < deadline, f"not seen in {seconds} s: {what()}"
        time.sleep(0.02)


def cel(expression: str) -> Json:
    return {"cel": {"expression": expression}}


def gpu(
    name: str, score: int = 100, taints: Sequence[Json] = (), capacity: Json | None = None, **more: Json
) -> Json:
    """A device with a health score; further attributes by keyword."""
    device: Json = {"name": name, "attributes": {"health/score": {"int": score}, **more}}
    if taints:
        device["taints"] = [dict(taint) for taint in taints]
    if capacity:
        device["capacity"] = {key: {"value": value} for key, value in capacity.items()}
    return device


def condition(item: Json, kind: str) -> Json:
    """A status condition, empty while there is none."""
    conditions = (item.get("status") or {}).get("conditions") or ()
    return next((entry for entry in conditions if entry["type"] == kind), {})
