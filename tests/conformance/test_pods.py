"""Checks 16 to 51 as pods see them: the real agent under the simulated kubelet, in one cluster for the whole module."""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from conformance.cluster import AGENT, QUICK, NodeCluster, node_cluster
from gpuvitals_sim.apiserver import Match
from support.dra_objects import (
    CLAIMS,
    CLASSES,
    DRIVER,
    Json,
    choice,
    claim,
    device_class,
    exactly,
    pod,
)

pytestmark = pytest.mark.timeout(120)

PREPARE, UNPREPARE = "NodePrepareResources", "NodeUnprepareResources"
CLAIM_READS = Match(user_agent=AGENT.user_agent, resource="resourceclaims", verbs=("get",))


@pytest.fixture(scope="module")
def shared() -> Iterator[NodeCluster]:
    with node_cluster() as built:
        yield built


@pytest.fixture
def cluster(shared: NodeCluster) -> Iterator[NodeCluster]:
    """The module's cluster; every test leaves it empty."""
    yield shared
    shared.server.faults.clear()
    for one in shared.client.list("pods", "default"):
        shared.delete(one["metadata"]["name"])
    for one in shared.client.list(CLAIMS, "default"):
        shared.client.delete(CLAIMS, one["metadata"]["name"], "default")
    shared.nothing_is_left()
    shared.wait(lambda: shared.client.list(CLAIMS, "default") == [], "no claim")
    for one in shared.client.list("events", "default"):
        shared.client.delete("events", one["metadata"]["name"], "default")


@contextmanager
def without_node(cluster: NodeCluster, gpu: int = 0) -> Iterator[None]:
    """The GPU's device node is not there yet, as on a node whose driver has just come up."""
    path = cluster.gpus.driver_root / "dev" / f"nvidia{gpu}"
    path.unlink()
    try:
        yield
    finally:
        path.touch()


@contextmanager
def locked(cluster: NodeCluster) -> Iterator[None]:
    """Somebody else holds the lock of the checkpoint, so nothing can be recorded."""
    path = next(cluster.agent.state_directory.glob("checkpoint*.lock"))
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def environment(cluster: NodeCluster, name: str, container: str = "main") -> dict[str, str]:
    got = cluster.container(name, container)
    assert got is not None
    return dict(one.split("=", 1) for one in got.env)


def gpu_config(value: str, *requests: str, driver: str = DRIVER) -> Json:
    """Opaque parameters that set one variable."""
    parameters = {
        "apiVersion": "vitals.internal/v1alpha1",
        "kind": "GpuConfig",
        "env": {"NCCL_DEBUG": value},
    }
    return {"requests": list(requests), "opaque": {"driver": driver, "parameters": parameters}}


def device_node(gpu: int) -> str:
    return f"/dev/nvidia{gpu}"


def nodes_of(cluster: NodeCluster, name: str, container: str = "main") -> set[str]:
    got = cluster.container(name, container)
    assert got is not None
    return {node["path"] for node in got.device_nodes if node["path"][len("/dev/nvidia") :].isdigit()}


def test_a_plain_pod_is_prepared_once_and_unprepared_once(cluster: NodeCluster) -> None:
    cluster.create("plain")
    cluster.running("plain")
    uid = cluster.uid("plain")
    assert cluster.kubelet.claims_in_use() == (("default", "plain"),)
    assert nodes_of(cluster, "plain") == {device_node(0)}
    cluster.delete("plain")
    cluster.nothing_is_left()
    assert cluster.calls(PREPARE, uid) == ["OK"]
    assert cluster.calls(UNPREPARE, uid) == ["OK"]


def test_prepare_fails_while_device_nodes_are_missing_and_succeeds_when_they_come(
    cluster: NodeCluster,
) -> None:
    with without_node(cluster):
        cluster.create("early")
        cluster.event("DeviceNodesMissing")
        assert cluster.cdi_files() == []
        assert not cluster.runs("early")
    cluster.running("early")
    assert nodes_of(cluster, "early") == {device_node(0)}
    assert len(cluster.calls(PREPARE, cluster.uid("early"))) >= 2


def test_an_unprepare_that_fails_keeps_the_pod_until_it_succeeds(cluster: NodeCluster) -> None:
    cluster.create("stuck")
    cluster.running("stuck")
    uid = cluster.uid("stuck")
    with locked(cluster):
        cluster.client.delete("pods", "stuck", "default")
        cluster.wait(lambda: "DEADLINE_EXCEEDED" in cluster.calls(UNPREPARE, uid), "unprepare failed")
        assert cluster.pod("stuck") is not None
    cluster.wait(lambda: cluster.pod("stuck") is None, "gone")
    cluster.nothing_is_left()


def test_a_prepare_that_is_blocked_past_the_deadline_is_retried(cluster: NodeCluster) -> None:
    blocked = cluster.server.faults.delay(3.0, match=CLAIM_READS)
    cluster.create("blocked")
    cluster.wait(lambda: cluster.client.find(CLAIMS, "blocked", "default"), "claim")
    uid = cluster.uid("blocked")
    cluster.wait(lambda: "DEADLINE_EXCEEDED" in cluster.calls(PREPARE, uid), "deadline")
    assert not cluster.runs("blocked")
    blocked.end()
    cluster.running("blocked")
    assert len(cluster.cdi_files()) == 1


def test_a_prepare_is_retried_across_a_kubelet_restart(cluster: NodeCluster) -> None:
    with without_node(cluster):
        cluster.create("patient")
        cluster.event("DeviceNodesMissing")
        cluster.kubelet.restart()
    cluster.running("patient")


def test_an_unprepare_is_retried_across_a_kubelet_restart(cluster: NodeCluster) -> None:
    cluster.create("leaving")
    cluster.running("leaving")
    uid = cluster.uid("leaving")
    with locked(cluster):
        cluster.client.delete("pods", "leaving", "default")
        cluster.wait(lambda: cluster.calls(UNPREPARE, uid), "unprepare failed")
        cluster.kubelet.restart()
    cluster.wait(lambda: cluster.pod("leaving") is None, "gone")
    cluster.nothing_is_left()
    assert cluster.calls(UNPREPARE, uid)[-1] == "OK"


@pytest.mark.parametrize("restarted", [False, True], ids=["same kubelet", "new kubelet"])
def test_a_pod_deleted_by_force_is_unprepared(cluster: NodeCluster, restarted: bool) -> None:
    cluster.create("forced")
    cluster.running("forced")
    uid = cluster.uid("forced")
    if restarted:
        cluster.kubelet.stop()
    cluster.delete("forced", force=True)
    if restarted:
        cluster.wait(lambda: cluster.pod("forced") is None, "object gone")
        cluster.kubelet.start()
    cluster.wait(lambda: cluster.calls(UNPREPARE, uid) == ["OK"], "unprepared")
    cluster.nothing_is_left()


def test_the_next_pod_on_the_gpu_of_one_deleted_by_force_starts_without_a_refusal() -> None:
    """Finding K11: the kubelet asks again only a minute later, and the GPU is released within seconds."""
    timings = replace(
        QUICK,
        call_seconds=45.0,
        pod_sync_min_seconds=60.0,
        pod_sync_max_seconds=80.0,
        termination_seconds=2.0,
    )
    with node_cluster(gpus=1, timings=timings) as cluster:
        cluster.create("forced")
        cluster.running("forced")
        cluster.create("next")
        cluster.delete("forced", force=True)
        cluster.running("next")
        (prepared,) = (one for one in cluster.kubelet.calls(PREPARE) if cluster.uid("next") in one.claims)
        (released,) = cluster.kubelet.calls(UNPREPARE)
        assert prepared.outcome == "OK"
        assert prepared.started_at < released.started_at < prepared.started_at + prepared.seconds


def test_a_pod_deleted_while_the_kubelet_was_down_is_never_prepared(cluster: NodeCluster) -> None:
    cluster.kubelet.stop()
    cluster.create("late")
    uid = cluster.uid("late")
    cluster.wait(lambda: (cluster.pod("late") or {})["spec"].get("nodeName"), "bound")
    cluster.client.delete("pods", "late", "default")
    cluster.kubelet.start()
    cluster.wait(lambda: cluster.pod("late") is None, "gone")
    assert cluster.calls(PREPARE, uid) == []


def test_a_pod_created_while_the_kubelet_was_down_runs(cluster: NodeCluster) -> None:
    cluster.kubelet.stop()
    cluster.create("waiting")
    cluster.kubelet.start()
    cluster.running("waiting")


@pytest.mark.parametrize("call", ["prepare", "unprepare"])
def test_a_call_in_progress_when_the_kubelet_restarts_is_made_again(cluster: NodeCluster, call: str) -> None:
    slow = cluster.server.faults.delay(1.0, match=CLAIM_READS) if call == "prepare" else None
    cluster.create("cut")
    uid = cluster.uid("cut")
    if slow is not None:
        cluster.wait(lambda: slow.hits, "prepare in progress")
        cluster.kubelet.restart()
        slow.end()
        cluster.running("cut")
        assert cluster.calls(PREPARE, uid)[-1] == "OK"
    else:
        cluster.running("cut")
        with locked(cluster):
            cluster.client.delete("pods", "cut", "default")
            threading.Event().wait(0.3)
            cluster.kubelet.restart()
        cluster.wait(lambda: cluster.pod("cut") is None, "gone")
        assert cluster.calls(UNPREPARE, uid)[-1] == "OK"


def test_a_claim_of_the_same_name_waits_until_the_old_one_is_unprepared(cluster: NodeCluster) -> None:
    cluster.create("same")
    cluster.running("same")
    old = cluster.uid("same")
    with locked(cluster):
        cluster.delete("same", force=True)
        cluster.client.patch(CLAIMS, ("default", "same"), {"metadata": {"finalizers": None}})
        cluster.client.delete(CLAIMS, "same", "default")
        cluster.wait(lambda: cluster.client.find(CLAIMS, "same", "default") is None, "claim gone")
        cluster.create("same")
        cluster.event("old ResourceClaim with same name same and different UID")
        assert not cluster.runs("same")
        assert [old in name for name in cluster.cdi_files()] == [True]
    cluster.running("same")
    new = cluster.uid("same")
    assert [new in name for name in cluster.cdi_files()] == [True]
    assert new != old


def test_a_claim_that_no_container_uses_is_prepared_all_the_same(cluster: NodeCluster) -> None:
    cluster.client.create(CLAIMS, claim("unused"))
    body = pod("unused", "unused", grace_seconds=1)
    body["spec"]["containers"][0]["resources"] = {}
    cluster.client.create("pods", body)
    cluster.running("unused")
    assert cluster.calls(PREPARE, cluster.uid("unused")) == ["OK"]
    assert nodes_of(cluster, "unused") == set()


def two_containers(cluster: NodeCluster, name: str, wanted: Json, *requests: str) -> None:
    """A pod whose containers use one request each."""
    cluster.client.create(CLAIMS, wanted)
    body = pod(name, name, grace_seconds=1)
    (first,) = body["spec"]["containers"]
    body["spec"]["containers"] = [
        {**first, "name": request, "resources": {"claims": [{"name": "c0", "request": request}]}}
        for request in requests
    ]
    cluster.client.create("pods", body)
    cluster.running(name)


def test_devices_and_configs_reach_the_containers_of_their_requests(cluster: NodeCluster) -> None:
    names = ("r0", "r1", "r2")
    wanted = claim(
        "three",
        *(exactly(name) for name in names),
        config=tuple(gpu_config(name.upper(), name) for name in names),
    )
    two_containers(cluster, "three", wanted, "r0", "r2")
    assert environment(cluster, "three", "r0")["NCCL_DEBUG"] == "R0"
    assert environment(cluster, "three", "r2")["NCCL_DEBUG"] == "R2"
    first, last = nodes_of(cluster, "three", "r0"), nodes_of(cluster, "three", "r2")
    assert (len(first), len(last)) == (1, 1)
    assert first.isdisjoint(last)
    assert len(cluster.held("three")) == 3


def test_a_subrequest_is_stripped_for_the_kubelet_and_its_config_is_taken(cluster: NodeCluster) -> None:
    request = {
        "name": "any",
        "firstAvailable": [choice("big", 'device.attributes["health"].score > 200'), choice("small")],
    }
    wanted = claim(
        "choice",
        request,
        config=(
            gpu_config("BIG", "any/big"),
            gpu_config("SMALL", "any/small"),
            gpu_config("FOREIGN", driver="other.example.com"),
        ),
    )
    two_containers(cluster, "choice", wanted, "any")
    found = cluster.client.get(CLAIMS, "choice", "default")
    (result,) = found["status"]["allocation"]["devices"]["results"]
    assert result["request"] == "any/small"
    assert environment(cluster, "choice", "any")["NCCL_DEBUG"] == "SMALL"
    assert nodes_of(cluster, "choice", "any") == {device_node(0)}


def test_a_shared_claim_is_prepared_once_and_unprepared_after_its_last_pod(cluster: NodeCluster) -> None:
    cluster.client.create(CLAIMS, claim("shared"))
    for name in ("one", "two", "three"):
        cluster.client.create("pods", pod(name, "shared", grace_seconds=1))
        cluster.running(name)
    uid = cluster.uid("shared")
    assert cluster.calls(PREPARE, uid) == ["OK"]
    assert nodes_of(cluster, "one") == nodes_of(cluster, "two") == nodes_of(cluster, "three")
    cluster.delete("one")
    cluster.delete("two")
    assert cluster.calls(UNPREPARE, uid) == []
    assert len(cluster.cdi_files()) == 1
    cluster.delete("three")
    assert cluster.calls(UNPREPARE, uid) == ["OK"]


def test_a_pod_may_join_a_prepared_claim_and_bring_a_new_one(cluster: NodeCluster) -> None:
    cluster.create("known")
    cluster.running("known")
    cluster.client.create(CLAIMS, claim("new"))
    cluster.client.create("pods", pod("joining", "known", "new", grace_seconds=1))
    cluster.running("joining")
    assert cluster.calls(PREPARE, cluster.uid("known")) == ["OK"]
    assert cluster.calls(PREPARE, cluster.uid("new")) == ["OK"]
    assert nodes_of(cluster, "joining") == {device_node(0), device_node(1)}


def test_pods_that_come_and_go_quickly_leak_nothing(cluster: NodeCluster) -> None:
    for turn in range(3):
        names = [f"quick-{turn}-{number}" for number in range(4)]
        for name in names:
            cluster.create(name)
        for number, name in enumerate(names):
            if number % 2:
                cluster.running(name)
            cluster.client.delete("pods", name, "default")
        for name in names:
            cluster.wait(lambda gone=name: cluster.pod(gone) is None, f"{name} gone")  # type: ignore[misc]  # bound now
            cluster.client.delete(CLAIMS, name, "default")
    cluster.nothing_is_left()


def test_three_pods_are_prepared_over_one_connection_beside_the_health_stream(
    cluster: NodeCluster,
) -> None:
    names = ["a", "b", "c"]
    for name in names:
        cluster.create(name)
    for name in names:
        cluster.running(name)
    for name in names:
        cluster.shows(name, "Healthy")
    assert len({device for name in names for device in cluster.held(name)}) == 3
    assert {one.endpoint for one in cluster.kubelet.calls()[-3:]} == {cluster.kubelet.plugins()[0].endpoint}
    assert accepted_connections(cluster) == 1


def accepted_connections(cluster: NodeCluster) -> int:
    """Established connections to the DRA socket, as the kernel counts them."""
    private = [str(path) for path in cluster.agent.state_directory.glob(".*.sock")]
    with open("/proc/net/unix", encoding="utf-8") as table:
        rows = [line.split() for line in table]
    established = "03"
    return sum(len(row) == 8 and row[5] == established and row[7] in private for row in rows)


def test_admin_access_reaches_a_device_that_a_pod_holds(cluster: NodeCluster) -> None:
    labels = {"resource.kubernetes.io/admin-access": "true"}
    cluster.client.create("namespaces", {"metadata": {"name": "monitoring", "labels": labels}})
    cluster.create("holder", exactly(count=4))
    cluster.running("holder")
    wanted: Any = claim("look", exactly(adminAccess=True, allocationMode="All"))
    looking = pod("look", "look", grace_seconds=1)
    for body in (wanted, looking):
        body["metadata"]["namespace"] = "monitoring"
    cluster.client.create(CLAIMS, wanted)
    cluster.client.create("pods", looking)

    def runs() -> bool:
        return cluster.client.get("pods", "look", "monitoring")["status"].get("phase") == "Running"

    cluster.wait(runs, "monitor running")
    assert nodes_of(cluster, "look") == nodes_of(cluster, "holder")
    assert environment(cluster, "look")["GPUVITALS_ADMIN_ACCESS"] == "true"
    assert "GPUVITALS_ADMIN_ACCESS" not in environment(cluster, "holder")
    cluster.client.delete("pods", "look", "monitoring")
    cluster.wait(lambda: cluster.client.find("pods", "look", "monitoring") is None, "monitor gone")
    cluster.client.delete(CLAIMS, "look", "monitoring")
    assert cluster.runs("holder")


def test_a_pod_that_asks_for_an_extended_resource_gets_a_gpu_and_leaves_nothing(cluster: NodeCluster) -> None:
    """The scheduler makes the claim, with names of its own; to the driver it is a claim like any other."""
    resource = "vitals.internal/gpu"
    counted = device_class(name="counted")
    counted["spec"]["extendedResourceName"] = resource
    cluster.client.create(CLASSES, counted)
    body = pod("extended", grace_seconds=1)
    (first,) = body["spec"]["containers"]
    body["spec"]["containers"] = [
        {**first, "resources": {"limits": {resource: "2"}}},
        {**first, "name": "beside", "resources": {}},
    ]
    cluster.client.create("pods", body)
    status = cluster.running("extended")["status"]["extendedResourceClaimStatus"]
    name = status["resourceClaimName"]
    assert cluster.calls(PREPARE, cluster.uid(name)) == ["OK"]
    assert nodes_of(cluster, "extended") == {device_node(0), device_node(1)}
    assert nodes_of(cluster, "extended", "beside") == set()
    cluster.delete("extended")
    cluster.nothing_is_left()
    cluster.wait(lambda: cluster.client.find(CLAIMS, name, "default") is None, "claim gone")
    cluster.client.delete(CLASSES, "counted")
