"""The examples in a small simulated cluster: its slices are projected from GPUs with real verdicts.

API server with CEL checks, controllers and scheduler; no kubelet and no agent, so pods are placed and do not run.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import yaml

from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.pool import pool
from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.kube.slices.codec import Placement, Stored, encode, generate_name, slice_body
from gpuvitals.kube.slices.metadata import NodeOwner
from gpuvitals.model.gpu import DeviceKind, MigInstance
from gpuvitals.model.health import HealthState, Verdict
from gpuvitals.model.ids import GpuUuid, NodeName
from gpuvitals.model.snapshot import GpuHealth, NodeFacts, Snapshot
from gpuvitals_sim.apiserver import InProcessClient
from gpuvitals_sim.cluster import control_plane
from gpuvitals_sim.cluster.driver_objects import device_classes
from gpuvitals_sim.scheduler import Scheduler
from support.dra_objects import (
    CLAIMS,
    CLASSES,
    SLICES,
    Json,
    condition,
    eventually,
    held_devices,
    ready_node,
)
from support.signals import GPU, fold, good, identity, judge, moment, xid
from support.worlds.snapshots import SINCE, gpu

ROOT = Path(__file__).parents[3] / "examples" / "claims"
CASES = sorted(path.name for path in ROOT.iterdir() if path.is_dir())
NAMESPACE = "default"

STORES = {
    "Pod": "pods",
    "Namespace": "namespaces",
    "Job": "jobs.batch",
    "DeviceClass": CLASSES,
    "ResourceClaim": CLAIMS,
    "ResourceClaimTemplate": "resourceclaimtemplates.resource.k8s.io",
}
"""The API client's name of each kind of the examples."""
_PATHS = {
    "Pod": "/api/v1/namespaces/{}/pods",
    "Namespace": "/api/v1/namespaces",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "DeviceClass": "/apis/resource.k8s.io/v1/deviceclasses",
    "ResourceClaim": "/apis/resource.k8s.io/v1/namespaces/{}/resourceclaims",
    "ResourceClaimTemplate": "/apis/resource.k8s.io/v1/namespaces/{}/resourceclaimtemplates",
}
_RESET = (good(1000), xid(79, 1001), identity(1010), good(1011), good(1041))
_VERDICTS = {
    "healthy": judge(fold(good(1000)), 1000),
    "degraded": judge(fold(good(1000), xid(94, 1001)), 1001),
    "failed": judge(fold(good(1000), xid(79, 1001)), 1001),
    "probation": judge(fold(*_RESET), 1042),
    "unknown": judge(fold(), 1000),
}


def manifests(case: str) -> list[Path]:
    """The case's files, namespaces and classes first."""
    order = ["namespace.yaml", "class.yaml", "claim.yaml", "job.yaml", "pod.yaml"]
    return sorted((ROOT / case).glob("*.yaml"), key=lambda path: order.index(path.name))


def objects(case: str) -> list[Json]:
    """The case's objects, in the order of their files; the default namespace is `default`."""
    found = [
        item for path in manifests(case) for item in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    ]
    for item in found:
        if item["kind"] not in ("Namespace", "DeviceClass"):
            item["metadata"].setdefault("namespace", NAMESPACE)
    return found


def promised(case: str, sentence: str) -> None:
    """Fails unless the case's README promises this."""
    text = " ".join((ROOT / case / "README.md").read_text(encoding="utf-8").split())
    assert f"- {sentence}" in text, f"{case}/README.md does not say: {sentence}"


def promises(case: str) -> set[str]:
    """Everything that the README promises."""
    text = (ROOT / case / "README.md").read_text(encoding="utf-8").partition("**You will see**")[2]
    return {" ".join(found.split()) for found in re.findall(r"^- (.*(?:\n  .*)*)", text, re.MULTILINE)}


def api_path(item: Json) -> str:
    """The URL path for the creation of the object."""
    return _PATHS[item["kind"]].format(item["metadata"].get("namespace", ""))


def entry(index: int, state: str = "healthy") -> GpuHealth:
    """The GPU of that index in PCI order with its verdict; a failed one is out of service."""
    return _judged(index, _VERDICTS[state])


def without_links(index: int) -> GpuHealth:
    """A healthy GPU of a model without NVLink."""
    state = fold(good(1000, links=()), state=replace(fold(), expected_links=0))
    found = _judged(index, judge(state, 1000))
    return replace(found, gpu=replace(found.gpu, product_name="NVIDIA L40S", expected_links=0))


def mig_instance(index: int, number: int, profile: str, state: str = "healthy") -> GpuHealth:
    """An instance of that GPU; its parent's fault is its own."""
    parent = _judged(index, _VERDICTS[state])
    mig = MigInstance(
        parent=parent.gpu.uuid,
        profile=profile,
        gpu_instance=number,
        compute_instance=0,
        placement=number,
    )
    uuid = GpuUuid(f"MIG-{index:04d}-{number}")
    instance = replace(parent.gpu, uuid=uuid, kind=DeviceKind.MIG, mig=mig, memory_bytes=10 << 30)
    return replace(parent, gpu=instance, verdict=replace(parent.verdict, uuid=uuid))


def _judged(index: int, verdict: Verdict) -> GpuHealth:
    assert GPU.expected_links == gpu(index).expected_links  # the verdicts are those of such a GPU
    return GpuHealth(
        gpu=gpu(index),
        verdict=replace(verdict, uuid=gpu(index).uuid),
        isolated=verdict.state is HealthState.UNHEALTHY,
        state_since=SINCE,
    )


class ExampleWorld:
    """One node, `node-a`, on which examples are applied."""

    def __init__(self, client: InProcessClient, scheduler: Scheduler) -> None:
        self.client = client
        self._scheduler = scheduler
        self._node = self._ready()
        self.known(client.create(CLASSES, device_classes(Naming())[0]))

    def known(self, item: Json) -> Json:
        """The object, once the scheduler has seen it: its watches are not in step."""
        eventually(partial(self._scheduler.knows, item), f"the scheduler knows {item['metadata']['name']}")
        return item

    def publish(self, *gpus: GpuHealth) -> None:
        """The node's slice is that of these GPUs from now on."""
        snapshot = Snapshot(
            revision=1,
            taken=moment(1000),
            node=NodeName("node-a"),
            gpus=gpus,
            facts=NodeFacts(expected_gpus=len(gpus)),
        )
        wanted = pool(snapshot, Naming(), ServiceMode.TAINT)
        owner = NodeOwner(name="node-a", uid=self._node["metadata"]["uid"])
        encoded = encode(
            slice_body(
                wanted.slices[0],
                wanted,
                owner,
                Placement(generation=1, count=1),
                Stored(foreign={}, times={}),
            )
        )
        body = json.loads(encoded)
        stored = self.client.list(SLICES)
        if stored:
            body["metadata"] |= {
                key: stored[0]["metadata"][key] for key in ("name", "uid", "resourceVersion")
            }
            self.known(self.client.update(SLICES, body))
            return
        body["metadata"]["name"] = f"{generate_name(0, wanted)}x"
        self.known(self.client.create(SLICES, body))

    def apply(self, case: str, change: Callable[[Json], object] = lambda _: None) -> None:
        """The case's objects, each after `change`; pods last, when everything that they name is known."""
        items = objects(case)
        for item in items:
            change(item)
        for item in sorted(items, key=lambda one: one["kind"] == "Pod"):
            stored = self.client.create(STORES[item["kind"]], item)
            if item["kind"] in ("DeviceClass", "ResourceClaim"):
                self.known(stored)

    def again(self, case: str, name: str) -> None:
        """The case's pod once more, under another name."""
        (item,) = [one for one in objects(case) if one["kind"] == "Pod"]
        item["metadata"]["name"] = name
        self.client.create("pods", item)

    def placed(self, name: str, namespace: str = NAMESPACE) -> list[str]:
        """The devices of a pod's claim once it has a node, as indexes in PCI order."""
        pod = eventually(partial(self._on_a_node, name, namespace), f"{name} placed")
        return [self.index(device) for device in held_devices(self.client, self._claim(pod))]

    def requests(self, name: str) -> list[str]:
        """The requests for which the placed pod's claim holds its devices."""
        self.placed(name)
        claim = self.client.get(CLAIMS, self._claim(self.client.get("pods", name, NAMESPACE)), NAMESPACE)
        return [one["request"] for one in claim["status"]["allocation"]["devices"]["results"]]

    def pending(self, name: str, namespace: str = NAMESPACE) -> tuple[str, str]:
        """Reason and message of a pod that the scheduler could not place."""

        def refused() -> Json | None:
            found: Json = condition(self.client.find("pods", name, namespace), "PodScheduled")
            lags = "not found" in found.get("message", "")  # one of the scheduler's watches is behind
            return found if found.get("status") == "False" and not lags else None

        found = eventually(refused, f"{name} refused")
        return found["reason"], found["message"]

    def index(self, device: str) -> str:
        """`3` for the fourth GPU, `3/1` for its instance at memory slice 1."""
        slot, _, instance = device.removeprefix("gpu-").partition("-mig-")
        number = int(slot.split("-")[1], 16)
        return f"{number}/{instance.split('-')[-1]}" if instance else str(number)

    def _ready(self) -> Json:
        """The node, after its Ready condition has removed its taints."""
        stored = ready_node(self.client, "node-a")
        status = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        self.client.patch("nodes", ("", "node-a"), status, subresource="status")

        def untainted() -> Json | None:
            found = self.client.get("nodes", "node-a")
            return found if not found["spec"].get("taints") else None

        return self.known(eventually(untainted, f"{stored['metadata']['name']} ready"))

    def _on_a_node(self, name: str, namespace: str) -> Json | None:
        pod = self.client.find("pods", name, namespace)
        return pod if pod is not None and pod["spec"].get("nodeName") else None

    def _claim(self, pod: Json) -> str:
        (reference,) = pod["spec"]["resourceClaims"]
        if "resourceClaimName" in reference:
            return str(reference["resourceClaimName"])
        return str(pod["status"]["resourceClaimStatuses"][0]["resourceClaimName"])


@contextmanager
def example_world() -> Iterator[ExampleWorld]:
    """A running world."""
    with control_plane() as control:
        yield ExampleWorld(control.server.client("test"), control.scheduler)
    assert control.failures == ()
