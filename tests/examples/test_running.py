"""The promises about pods that run: a real agent on scripted GPUs, its slices, the kubelet's injection, the claim's status."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuvitals_sim.cluster import SimulatedCluster
from gpuvitals_sim.demo.wiring import demo_cluster
from gpuvitals_sim.hardware.mig import capability_minors
from gpuvitals_sim.kubelet import KubeletTimings
from gpuvitals_sim.scenario import Entry, Scenario, Step
from gpuvitals_sim.scenario.actions import Mark
from gpuvitals_sim.scenario.model import Nodes
from support.dra_objects import CLAIMS, SLICES, Json, condition, eventually
from support.worlds.example_cluster import STORES, objects, promised

pytestmark = pytest.mark.timeout(120)

SECONDS = 30.0
QUICK = replace(KubeletTimings(), registration_tick_seconds=0.1, termination_seconds=0.1)


@contextmanager
def cluster_of(gpus: int) -> Iterator[SimulatedCluster]:
    """One node whose agent has published its GPUs."""
    scenario = Scenario(
        name="examples",
        description="a place for the examples",
        nodes=Nodes(count=1, gpus=gpus),
        steps=(Step(title="nothing", do=(Entry(mark=Mark()),)),),
    )
    with (
        tempfile.TemporaryDirectory(prefix="gv-", dir="/tmp") as made,  # sockets lie in it: a short path
        demo_cluster(Path(made), scenario, QUICK) as cluster,
    ):
        eventually(lambda: len(published(cluster)) == gpus, "GPUs published", SECONDS)
        eventually(
            lambda: all(one["health/score"]["int"] > 90 for one in published(cluster).values()),
            "healthy",
            SECONDS,
        )
        yield cluster


def published(cluster: SimulatedCluster) -> dict[str, Json]:
    """The attributes of each published device."""
    return {
        device["name"]: device["attributes"]
        for item in cluster.client.list(SLICES)
        for device in item["spec"].get("devices") or ()
    }


def apply(cluster: SimulatedCluster, case: str, **renamed: str) -> None:
    """Creates the case's objects; with `pod` the pod alone, under that name."""
    for item in objects(case):
        if not renamed:
            cluster.client.create(STORES[item["kind"]], item)
        elif item["kind"] == "Pod":
            item["metadata"]["name"] = renamed["pod"]
            cluster.client.create("pods", item)


def running(cluster: SimulatedCluster, name: str, namespace: str = "default") -> Json:
    """The pod once it runs."""

    def seen() -> Json | None:
        found = cluster.client.get("pods", name, namespace)
        return found if found["status"].get("phase") == "Running" else None

    return eventually(seen, f"{name} running", SECONDS)


def claim_of(cluster: SimulatedCluster, pod: Json) -> Json:
    (reference,) = pod["spec"]["resourceClaims"]
    generated = pod["status"].get("resourceClaimStatuses") or [{}]
    name = reference.get("resourceClaimName") or generated[0]["resourceClaimName"]
    return cluster.client.get(CLAIMS, name, pod["metadata"]["namespace"])


def held(cluster: SimulatedCluster, pod: Json) -> list[str]:
    return [one["device"] for one in claim_of(cluster, pod)["status"]["allocation"]["devices"]["results"]]


def device_nodes(cluster: SimulatedCluster, pod: Json) -> list[str]:
    """The device nodes that the pod's container got."""
    (container,) = [
        one for one in cluster.nodes[0].kubelet.containers() if one.pod_uid == pod["metadata"]["uid"]
    ]
    return sorted(node["path"] for node in container.device_nodes)


def fail_first_gpu(cluster: SimulatedCluster) -> str:
    """XID 79 on GPU 0; its device name, once it is out of service."""
    node = cluster.nodes[0]
    node.gpus.xid(0, 79, "GPU has fallen off the bus.")
    name = node.device(0)
    eventually(
        lambda: published(cluster)[name]["health/state"]["string"] == "Unhealthy", "out of service", SECONDS
    )
    return name


def healthy_condition(cluster: SimulatedCluster, pod: Json) -> dict[str, Any]:
    (entry,) = claim_of(cluster, pod)["status"].get("devices") or [{}]
    return condition({"status": entry}, "Healthy")


def test_healthy_single_runs_outlives_the_fault_and_the_next_pod_goes_elsewhere() -> None:
    promised(
        "healthy-single",
        "The pod gets the first GPU in PCI order that is healthy, with its device node in the container.",
    )
    promised(
        "healthy-single",
        "After XID 79 that GPU is out of service: the pod keeps running on it, its claim says `Healthy=False`, "
        "and the next pod gets another GPU.",
    )
    with cluster_of(2) as cluster:
        apply(cluster, "healthy-single")
        pod = running(cluster, "healthy-single")
        first, second = cluster.nodes[0].device(0), cluster.nodes[0].device(1)
        assert held(cluster, pod) == [first]
        assert "/dev/nvidia0" in device_nodes(cluster, pod)
        assert "/dev/nvidia1" not in device_nodes(cluster, pod)

        assert fail_first_gpu(cluster) == first
        eventually(
            lambda: healthy_condition(cluster, pod).get("status") == "False", "the claim says so", SECONDS
        )
        assert healthy_condition(cluster, pod)["reason"] == "Xid79"
        apply(cluster, "healthy-single", pod="next")
        assert held(cluster, running(cluster, "next")) == [second]
        assert running(cluster, "healthy-single")["metadata"]["uid"] == pod["metadata"]["uid"]


def test_a_shared_claim_tells_both_pods_of_its_gpu() -> None:
    promised(
        "shared-claim",
        "When the GPU fails both pods run on, and the one claim says `Healthy=False` with the reason.",
    )
    with cluster_of(1) as cluster:
        apply(cluster, "shared-claim")
        pods = [running(cluster, name) for name in ("shared-one", "shared-two")]
        assert device_nodes(cluster, pods[0]) == device_nodes(cluster, pods[1])
        assert "/dev/nvidia0" in device_nodes(cluster, pods[0])

        fail_first_gpu(cluster)
        eventually(
            lambda: healthy_condition(cluster, pods[0]).get("status") == "False", "the claim says so", SECONDS
        )
        assert healthy_condition(cluster, pods[0])["reason"] == "Xid79"
        assert len(cluster.client.list(CLAIMS, "default")) == 1
        assert {running(cluster, pod["metadata"]["name"])["metadata"]["uid"] for pod in pods} == {
            pod["metadata"]["uid"] for pod in pods
        }


def test_mig_instances_of_one_gpu_run_two_pods_and_fail_alone() -> None:
    promised("mig-instance", "The pod gets an instance of the profile, not the whole GPU beside it.")
    promised(
        "mig-instance",
        "The container sees the node of its GPU and the two capability nodes of its instance, and those of no other.",
    )
    promised("mig-instance", "A second pod gets another instance of the same GPU.")
    promised(
        "mig-instance",
        "A fault that the driver blames on one instance is that one's alone: its claim names it, the other claim's reason stays `None`.",
    )
    promised(
        "mig-instance", "An instance that is destroyed under its claim is told there as `MigInstanceGone`."
    )
    with cluster_of(2) as cluster:
        gpus, whole = cluster.nodes[0].gpus, cluster.nodes[0].device(1)
        gpus.divide(1, "3g.40gb", "1g.10gb", "1g.10gb")
        eventually(lambda: len(published(cluster)) == 4, "divided", SECONDS)
        assert whole not in published(cluster)
        apply(cluster, "mig-instance")
        one = running(cluster, "mig-instance")
        apply(cluster, "mig-instance", pod="other")
        two = running(cluster, "other")
        assert (held(cluster, one), held(cluster, two)) == (
            [f"{whole}-mig-1g-10gb-0"],
            [f"{whole}-mig-1g-10gb-1"],
        )
        for pod, instance in ((one, 7), (two, 8)):
            own = [f"/dev/nvidia-caps/nvidia-cap{minor}" for minor in capability_minors(1, instance)]
            seen = device_nodes(cluster, pod)
            assert [path for path in seen if "nvidia-caps" in path] == sorted(own)
            assert "/dev/nvidia1" in seen
            assert "/dev/nvidia0" not in seen

        eventually(lambda: healthy_condition(cluster, one).get("reason") == "None", "prepared", SECONDS)
        gpus.contained(1, 8, 94, "Contained: SM (0x1).")
        eventually(lambda: healthy_condition(cluster, two).get("reason") == "Xid94", "told", SECONDS)
        assert healthy_condition(cluster, one)["reason"] == "None"
        gpus.destroy_instance(1, 7)
        eventually(
            lambda: healthy_condition(cluster, one).get("reason") == "MigInstanceGone", "told", SECONDS
        )
        assert healthy_condition(cluster, one)["status"] == "False"
        cluster.client.delete("pods", "mig-instance", "default")
        eventually(lambda: f"{whole}-mig-1g-10gb-0" not in published(cluster), "gone with its claim", SECONDS)


def test_admin_access_shows_a_failed_gpu_to_a_diagnosis_beside_its_holder() -> None:
    promised(
        "admin-access", "When one fails the pod gets it, with its device node, although another pod holds it."
    )
    with cluster_of(2) as cluster:
        apply(cluster, "healthy-single")
        holder = running(cluster, "healthy-single")
        failed = fail_first_gpu(cluster)
        apply(cluster, "admin-access")
        looking = running(cluster, "diagnosis", "gpu-diagnosis")

        assert held(cluster, looking) == held(cluster, holder) == [failed]
        assert "/dev/nvidia0" in device_nodes(cluster, looking)
        assert running(cluster, "healthy-single")["metadata"]["uid"] == holder["metadata"]["uid"]
