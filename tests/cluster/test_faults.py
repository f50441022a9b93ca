"""A fault on a real cluster: one GPU leaves service, everybody hears of it, and nothing that restarts forgets it."""

import time
from collections.abc import Callable
from functools import partial

import pytest

from cluster.agent import Agent
from cluster.cluster import Cluster
from cluster.objects import (
    CLAIMS,
    DRIVER,
    PODS,
    SLICES,
    Json,
    allocated,
    as_written,
    claim_condition,
    devices,
    health,
    is_gone,
    is_running,
    pod_health,
    slices,
    start_gpu_pod,
    taints,
)

pytestmark = [pytest.mark.needs_go, pytest.mark.needs_root, pytest.mark.timeout(180)]

UNHEALTHY = f"{DRIVER}/unhealthy"
Start = Callable[..., Agent]


def test_xid_79_takes_that_gpu_out_and_says_so_in_slice_claim_and_pod(
    cluster: Cluster, start_agent: Start
) -> None:
    agent = start_agent(cluster)
    api, failed = cluster.api, agent.device(0)
    _run_train(cluster, agent)
    siblings = as_written(api, failed)
    agent.gpus.xid(0, 79, "GPU has fallen off the bus.")
    taint = cluster.wait("the device is tainted", lambda: _taint(cluster, agent), seconds=2)
    assert (taint["value"], taint["effect"]) == ("Xid79", "NoSchedule")
    assert health(api, failed) == ("Unhealthy", "Xid79", 0)
    cluster.wait("the claim says so", lambda: claim_condition(api, "train") == ("False", "Xid79"), seconds=2)
    cluster.wait("the pod says so", lambda: pod_health(api, "train")[0] == "Unhealthy", seconds=10)
    assert "79" in pod_health(api, "train")[1]
    assert as_written(api, failed) == siblings
    start_gpu_pod(api, "careful")
    cluster.wait("the next pod runs", lambda: is_running(api, "careful"), seconds=30)
    assert allocated(api, "careful") == [agent.device(1)]
    assert is_running(api, "train")


def test_a_kubelet_restart_restores_the_slice_with_taint_and_time_in_a_second(
    cluster: Cluster, start_agent: Start
) -> None:
    """The kubelet deletes every slice of its node when it starts; nobody may slip through to the failed GPU."""
    agent = start_agent(cluster)
    api = cluster.api
    _run_train(cluster, agent)
    agent.gpus.xid(0, 79, "GPU has fallen off the bus.")
    before = cluster.wait("the device is tainted", lambda: _taint(cluster, agent), seconds=2)
    container = _container(cluster, "train")
    cluster.wait("the pod says so", lambda: pod_health(api, "train")[0] == "Unhealthy", seconds=10)
    cluster.node.stop_kubelet()
    time.sleep(1.1)  # a time that is stamped anew would differ: it has whole seconds
    with api.watch(SLICES, resourceVersion=api.get(SLICES).version) as watch:
        cluster.node.launch_kubelet()
        kind, _ = watch.next()
        wiped = time.monotonic()
        assert kind == "DELETED"
        kind, restored = watch.next()
        took = time.monotonic() - wiped
    assert kind == "ADDED"
    assert took < 1.0
    assert [device["name"] for device in restored["spec"]["devices"]] == list(devices(api))
    assert taints(_named(restored, agent.device(0)))[UNHEALTHY] == before
    cluster.wait("the pod says so again", lambda: pod_health(api, "train")[0] == "Unhealthy", seconds=15)
    assert _container(cluster, "train") == container
    start_gpu_pod(api, "careful")
    cluster.wait("the next pod runs", lambda: is_running(api, "careful"), seconds=30)
    assert allocated(api, "careful") == [agent.device(1)]


def test_a_killed_agent_comes_back_with_all_it_knew(cluster: Cluster, start_agent: Start) -> None:
    agent = start_agent(cluster)
    api = cluster.api
    _run_train(cluster, agent)
    agent.gpus.xid(0, 79, "GPU has fallen off the bus.")
    cluster.wait("the device is tainted", lambda: _taint(cluster, agent), seconds=2)
    cluster.wait("the claim says so", lambda: claim_condition(api, "train") == ("False", "Xid79"), seconds=2)
    written, container = _spec_of_slices(cluster), _container(cluster, "train")
    prepared, files = agent.prepared(), agent.cdi_files()
    agent.kill()
    agent.start()
    # A pod that the kubelet meets before waits for its next look at it, 60 to 80 s later.
    cluster.wait(
        "it is registered again", lambda: agent.count("registered with the kubelet") == 2, seconds=20
    )
    start_gpu_pod(api, "careful")
    cluster.wait("the next pod runs", lambda: is_running(api, "careful"), seconds=30)
    assert allocated(api, "careful") == [agent.device(1)]
    assert _spec_of_slices(cluster) == written
    assert claim_condition(api, "train") == ("False", "Xid79")
    assert set(prepared) < set(agent.prepared())
    assert set(files) < set(agent.cdi_files())
    assert _container(cluster, "train") == container
    for name in ("train", "careful"):
        api.delete(f"{PODS}/{name}")
        cluster.wait("the pod is gone", partial(is_gone, api, name), seconds=30)
    assert agent.cdi_files() == []
    assert agent.prepared() == []


def test_a_reset_that_was_observed_leads_through_probation_to_healthy(
    cluster: Cluster, start_agent: Start
) -> None:
    agent = start_agent(cluster, probation_seconds=4)
    api, failed = cluster.api, agent.device(0)
    _run_train(cluster, agent)
    agent.gpus.xid(0, 79, "GPU has fallen off the bus.")
    cluster.wait("the device is tainted", lambda: _taint(cluster, agent), seconds=2)
    api.delete(f"{PODS}/train")
    cluster.wait("the pod is gone", lambda: is_gone(api, "train"), seconds=30)
    api.delete(f"{CLAIMS}/train")
    agent.gpus.reset(0)
    cluster.wait("it is on probation", lambda: health(api, failed)[1] == "Probation", seconds=15)
    state, _, score = health(api, failed)
    assert state == "Degraded"
    assert isinstance(score, int)
    assert 0 < score <= 69
    assert UNHEALTHY not in taints(devices(api)[failed])
    cluster.wait("it is healthy", lambda: health(api, failed)[0] == "Healthy", seconds=15)
    assert not taints(devices(api)[failed])
    start_gpu_pod(api, "again")
    cluster.wait("a careful pod runs", lambda: is_running(api, "again"), seconds=30)
    assert allocated(api, "again") == [failed]


def _run_train(cluster: Cluster, agent: Agent) -> None:
    """A pod on the first GPU, and its health is known to the kubelet."""
    start_gpu_pod(cluster.api, "train")
    cluster.wait("the pod runs", lambda: is_running(cluster.api, "train"), seconds=30)
    assert allocated(cluster.api, "train") == [agent.device(0)]
    cluster.wait("its GPU is well", lambda: pod_health(cluster.api, "train")[0] == "Healthy", seconds=15)


def _taint(cluster: Cluster, agent: Agent) -> Json | None:
    return taints(devices(cluster.api)[agent.device(0)]).get(UNHEALTHY)


def _container(cluster: Cluster, name: str) -> tuple[str, int]:
    """Which container the pod runs and how often it was started anew."""
    (status,) = cluster.api.get(f"{PODS}/{name}").body["status"]["containerStatuses"]
    return status["containerID"], status["restartCount"]


def _named(item: Json, name: str) -> Json:
    found: Json = next(device for device in item["spec"]["devices"] if device["name"] == name)
    return found


def _spec_of_slices(cluster: Cluster) -> list[Json]:
    return [item["spec"] for item in slices(cluster.api)]
