"""A failed GPU leaves the slice where the server drops device taints or the configuration says so, and follows the server."""

from collections.abc import Callable, Iterator

import pytest

from cluster.agent import Agent
from cluster.cluster import Cluster
from cluster.objects import (
    CLAIMS,
    PODS,
    allocated,
    as_written,
    claim_condition,
    devices,
    health,
    is_gone,
    is_running,
    start_gpu_pod,
    taints,
)

pytestmark = [pytest.mark.needs_go, pytest.mark.needs_root, pytest.mark.timeout(240)]

Start = Callable[..., Agent]


def test_on_1_34_a_failed_gpu_leaves_the_slice_and_comes_back_after_a_reset(
    old_cluster: Cluster, start_agent: Start
) -> None:
    agent = start_agent(old_cluster, probation_seconds=4)
    _fails(old_cluster, agent)
    _comes_back(old_cluster, agent)


def test_on_1_34_a_failed_gpu_leaves_the_slice_although_taints_are_configured(
    old_cluster: Cluster, start_agent: Start
) -> None:
    _fails(old_cluster, start_agent(old_cluster, service_mode="taint"))


def test_a_configured_mode_withdraws_although_the_server_keeps_taints(
    cluster: Cluster, start_agent: Start
) -> None:
    _fails(cluster, start_agent(cluster, service_mode="withdraw"))


def _fails(cluster: Cluster, agent: Agent) -> None:
    api, failed = cluster.api, agent.device(0)
    start_gpu_pod(api, "train")
    cluster.wait("the pod runs", lambda: is_running(api, "train"), seconds=30)
    assert allocated(api, "train") == [failed]
    siblings = as_written(api, failed)
    agent.gpus.xid(0, 79, "GPU has fallen off the bus.")
    cluster.wait("the device is withdrawn", lambda: failed not in devices(api), seconds=2)
    assert as_written(api, failed) == siblings
    assert not any(taints(device) for device in devices(api).values())
    cluster.wait("the claim says so", lambda: claim_condition(api, "train") == ("False", "Xid79"), seconds=2)
    start_gpu_pod(api, "careful")
    cluster.wait("the next pod runs", lambda: is_running(api, "careful"), seconds=30)
    assert allocated(api, "careful") == [agent.device(1)]
    assert is_running(api, "train")


def _comes_back(cluster: Cluster, agent: Agent) -> None:
    api, failed = cluster.api, agent.device(0)
    api.delete(f"{PODS}/train")
    cluster.wait("the pod is gone", lambda: is_gone(api, "train"), seconds=30)
    api.delete(f"{CLAIMS}/train")
    agent.gpus.reset(0)
    cluster.wait("the device is back", lambda: failed in devices(api), seconds=30)
    cluster.wait("it is healthy", lambda: health(api, failed)[0] == "Healthy", seconds=30)
    assert next(iter(devices(api))) == failed
    start_gpu_pod(api, "again")
    cluster.wait("a careful pod runs", lambda: is_running(api, "again"), seconds=30)
    assert allocated(api, "again") == [failed]


@pytest.fixture
def moving(old_cluster: Cluster) -> Iterator[Cluster]:
    """A cluster whose control plane the test moves; afterwards it is the old one again."""
    yield old_cluster
    if old_cluster.api.get("/version").body["minor"] != "34":
        old_cluster.move_to("1.34")


def test_an_upgrade_of_the_server_is_followed_without_a_restart_and_a_rollback_too(
    moving: Cluster, start_agent: Start
) -> None:
    """1.34 to 1.37 and back, on the same etcd; the kubelet stays 1.34."""
    agent = start_agent(moving)
    api, failed, process = moving.api, agent.device(0), agent.process
    start_gpu_pod(api, "train")
    moving.wait("the pod runs", lambda: is_running(api, "train"), seconds=30)
    agent.gpus.xid(0, 79, "GPU has fallen off the bus.")
    moving.wait("the device is withdrawn", lambda: failed not in devices(api), seconds=5)
    siblings = as_written(api, failed)

    moving.move_to("1.37")
    moving.wait(
        "the device is tainted", lambda: failed in devices(api) and _taint(moving, failed), seconds=20
    )
    assert health(api, failed) == ("Unhealthy", "Xid79", 0)
    assert as_written(api, failed) == siblings
    start_gpu_pod(api, "careful", selector="true")
    moving.wait("the next pod runs", lambda: is_running(api, "careful"), seconds=60)
    assert allocated(api, "careful") == [agent.device(1)]

    moving.move_to("1.34")
    moving.wait("the device is withdrawn", lambda: failed not in devices(api), seconds=20)
    start_gpu_pod(api, "next", selector="true")
    moving.wait("the next pod runs", lambda: is_running(api, "next"), seconds=60)
    assert allocated(api, "next") == [agent.device(2)]
    assert is_running(api, "train")
    assert agent.process is process
    assert process.poll() is None


def _taint(cluster: Cluster, device: str) -> object:
    return taints(devices(cluster.api)[device]).get("gpu.vitals.internal/unhealthy")
