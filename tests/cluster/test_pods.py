"""Checks 16 to 33 of the kubelet's contract under a real kubelet: how pods with claims come, wait and go."""

import time
from functools import partial

import pytest

from cluster.agent import Agent
from cluster.cluster import NODE, Cluster
from cluster.objects import (
    CLAIMS,
    DRIVER,
    PODS,
    Json,
    claim,
    claim_uid,
    create,
    is_gone,
    is_running,
    pod,
    pod_health,
    touch,
)
from cluster.obstacles import frozen, locked_checkpoint, without_device_nodes
from cluster.pods import Pods
from support.raw_api import MERGE_PATCH

pytestmark = [pytest.mark.needs_go, pytest.mark.needs_root, pytest.mark.timeout(300)]

NOW = {"gracePeriodSeconds": 0}


@pytest.fixture
def pods(cluster: Cluster, agent: Agent, empty: None) -> Pods:
    return Pods(cluster, agent)


def test_a_plain_pod_is_prepared_once_and_no_claim_stays_in_use(pods: Pods) -> None:
    (uid,) = pods.start("plain")
    pods.running("plain")
    assert pods.in_use() == 1
    pods.api.delete(f"{PODS}/plain")
    pods.gone("plain")
    pods.cluster.wait("no claim is in use", lambda: pods.in_use() == 0, seconds=20)
    assert pods.agent.calls(uid) == ["prepared", "unprepared"]


def test_a_claim_that_no_container_uses_is_prepared_all_the_same(pods: Pods) -> None:
    create(pods.api, CLAIMS, claim("unused"))
    body = pod("unused", claims=("unused",))
    del body["spec"]["containers"][0]["resources"]
    create(pods.api, PODS, body)
    pods.running("unused")
    assert pods.agent.calls(claim_uid(pods.api, "unused")) == ["prepared"]


def test_devices_and_configs_reach_the_containers_and_init_containers_of_a_request(pods: Pods) -> None:
    names = ("r0", "r1", "r2")
    wanted = claim("three")
    devices = wanted["spec"]["devices"]
    (first,) = devices["requests"]
    devices["requests"] = [{**first, "name": name} for name in names]
    devices["config"] = [_config(name.upper(), name) for name in names]
    create(pods.api, CLAIMS, wanted)
    create(pods.api, PODS, _pod_of_requests("three", init="r1", containers=("r0", "r2")))
    pods.running("three")
    seen = {name: pods.log("three", name) for name in names}
    assert {name: words[0] for name, words in seen.items()} == {"r0": "R0", "r1": "R1", "r2": "R2"}
    assert sorted(node for words in seen.values() for node in words[1:]) == [
        "/dev/nvidia0",
        "/dev/nvidia1",
        "/dev/nvidia2",
    ]
    assert pods.agent.calls(claim_uid(pods.api, "three")) == ["prepared"]


def _config(value: str, request: str) -> Json:
    """Opaque parameters that set one variable."""
    parameters = {
        "apiVersion": "vitals.internal/v1alpha1",
        "kind": "GpuConfig",
        "env": {"NCCL_DEBUG": value},
    }
    return {"requests": [request], "opaque": {"driver": DRIVER, "parameters": parameters}}


def _pod_of_requests(name: str, *, init: str, containers: tuple[str, ...]) -> Json:
    """A pod whose containers have the names of the requests that they use, and tell what they got."""
    look = "echo $NCCL_DEBUG; ls /dev/nvidia[0-9]*"
    body = pod(name, claims=(name,))
    (first,) = body["spec"]["containers"]

    def container(request: str, command: str) -> Json:
        used = {"claims": [{"name": name, "request": request}]}
        return {**first, "name": request, "resources": used, "command": ["sh", "-c", command]}

    body["spec"]["initContainers"] = [container(init, look)]
    body["spec"]["containers"] = [container(each, f"{look}; exec sleep 3600") for each in containers]
    return body


def test_a_claim_that_is_not_allocated_keeps_its_pod_waiting_and_is_never_prepared(pods: Pods) -> None:
    """No scheduler has seen the pod: it names its node itself."""
    create(pods.api, CLAIMS, claim("early"))
    body = pod("early", claims=("early",))
    body["spec"]["nodeName"] = NODE
    create(pods.api, PODS, body)
    pods.told("early", "Failed to prepare dynamic resources")
    assert not is_running(pods.api, "early")
    assert pods.agent.calls(claim_uid(pods.api, "early")) == []


def test_a_claim_of_the_same_name_waits_until_the_old_one_is_unprepared(pods: Pods) -> None:
    (old,) = pods.start("same")
    pods.running("same")
    pods.api.patch(f"{CLAIMS}/same", MERGE_PATCH, {"metadata": {"finalizers": None}})
    pods.api.delete(f"{CLAIMS}/same")
    pods.cluster.wait(
        "the old claim is gone", lambda: pods.api.get(f"{CLAIMS}/same").status == 404, seconds=10
    )
    create(pods.api, CLAIMS, claim("same"))
    new = claim_uid(pods.api, "same")
    create(pods.api, PODS, pod("next", claims=("same",)))
    pods.told("next", "old ResourceClaim with same name same and different UID")
    assert pods.agent.prepared() == [old]
    pods.api.delete(f"{PODS}/same")
    pods.gone("same")
    touch(pods.api, "next")
    pods.running("next")
    assert pods.agent.calls(old) == ["prepared", "unprepared"]
    assert pods.agent.prepared() == [new]


def test_a_prepare_that_fails_is_made_again_by_the_same_kubelet_and_by_the_next(pods: Pods) -> None:
    with without_device_nodes(pods.agent):
        uids = pods.start("patient", "restarted")
        for name in ("patient", "restarted"):
            pods.told(name, "NodePrepareResources failed for ResourceClaim")
        assert pods.agent.cdi_files() == []
    touch(pods.api, "patient")
    pods.running("patient")
    assert not is_running(pods.api, "restarted")
    pods.cluster.node.stop_kubelet()
    pods.cluster.node.start_kubelet()
    pods.running("restarted", seconds=60)
    for uid in uids:
        assert pods.agent.calls(uid) == ["prepare refused", "prepared"]


def test_a_prepare_in_progress_when_the_kubelet_restarts_is_made_again(pods: Pods) -> None:
    with locked_checkpoint(pods.agent):
        (uid,) = pods.start("cut")
        pods.cluster.wait("its devices are chosen", pods.agent.cdi_files, seconds=20)
        pods.cluster.node.stop_kubelet()
        assert pods.agent.calls(uid) == []
    pods.called(uid, "prepare refused")
    assert pods.agent.prepared() == []
    pods.cluster.node.start_kubelet()
    pods.running("cut", seconds=60)
    assert pods.agent.calls(uid)[-1] == "prepared"


def test_an_unprepare_that_fails_keeps_the_pod_until_it_succeeds(pods: Pods) -> None:
    (uid,) = pods.start("stuck")
    pods.running("stuck")
    with locked_checkpoint(pods.agent):
        pods.api.delete(f"{PODS}/stuck")
        pods.called(uid, "unprepare refused")
        assert not is_gone(pods.api, "stuck")
    pods.gone("stuck")
    assert pods.agent.calls(uid)[-1] == "unprepared"
    assert pods.agent.prepared() == []


def test_an_unfinished_unprepare_is_repeated_after_a_kubelet_restart(
    pods: Pods,
) -> None:
    """While the second try waits for the lock the kubelet goes."""
    (uid,) = pods.start("leaving")
    pods.running("leaving")
    with locked_checkpoint(pods.agent):
        pods.api.delete(f"{PODS}/leaving")
        pods.called(uid, "unprepare refused")
        time.sleep(2.5)
        pods.cluster.node.stop_kubelet()
        pods.cluster.node.start_kubelet()
        assert not is_gone(pods.api, "leaving")
    pods.gone("leaving", seconds=60)
    assert pods.agent.calls(uid)[-1] == "unprepared"


def test_a_pod_deleted_by_force_is_unprepared_within_a_minute(pods: Pods) -> None:
    (uid,) = pods.start("forced")
    pods.running("forced")
    pods.api.delete(f"{PODS}/forced", NOW)
    assert is_gone(pods.api, "forced")
    pods.called(uid, "unprepared", seconds=60)
    assert pods.agent.cdi_files() == []


def test_pods_of_before_a_kubelet_and_a_prepare_that_hangs_past_the_deadline(pods: Pods) -> None:
    """While the kubelet is down a pod is deleted by force, one comes and goes, one comes and stays.

    The first is nobody's pod then, and the kubelet looks for such only once a minute: time for a call that hangs.
    Until then its GPU is in use, whatever the scheduler believes, so each pod names another one.
    """
    (forced,) = pods.start("forced")
    pods.running("forced")
    pods.cluster.node.stop_kubelet()
    pods.api.delete(f"{PODS}/forced", NOW)
    (late,) = pods.start("late", selector=_gpu(1))
    (waiting,) = pods.start("waiting", selector=_gpu(2))
    for name in ("late", "waiting"):
        pods.cluster.wait(f"{name} is bound", partial(pods.is_bound, name), seconds=20)
    pods.api.delete(f"{PODS}/late")
    assert not is_gone(pods.api, "late")
    pods.cluster.node.start_kubelet()
    pods.running("waiting", seconds=60)
    pods.gone("late")
    assert "prepared" not in pods.agent.calls(late)

    with frozen(pods.agent):
        (hanging,) = pods.start("hanging", selector=_gpu(3))
        pods.told("hanging", "code = DeadlineExceeded desc = context deadline exceeded", seconds=70)
    touch(pods.api, "hanging")
    pods.running("hanging", seconds=60)

    pods.called(forced, "unprepared", seconds=130)
    assert sorted(pods.agent.prepared()) == sorted([waiting, hanging])
    assert len(pods.agent.cdi_files()) == 2


def _gpu(minor: int) -> str:
    """The selector of one GPU."""
    return f'device.attributes["{DRIVER}"].minor == {minor}'


def test_a_shared_claim_is_prepared_once_and_unprepared_after_its_last_pod(pods: Pods) -> None:
    create(pods.api, CLAIMS, claim("shared"))
    uid = claim_uid(pods.api, "shared")
    for name in ("one", "two"):
        create(pods.api, PODS, pod(name, claims=("shared",)))
        pods.running(name)
    pods.api.delete(f"{PODS}/one")
    pods.gone("one")
    assert pods.agent.calls(uid) == ["prepared"]
    pods.api.delete(f"{PODS}/two")
    pods.gone("two")
    assert pods.agent.calls(uid) == ["prepared", "unprepared"]


def test_a_pod_may_join_a_prepared_claim_and_bring_a_new_one(pods: Pods) -> None:
    (known,) = pods.start("known")
    pods.running("known")
    create(pods.api, CLAIMS, claim("new"))
    create(pods.api, PODS, pod("joining", claims=("known", "new")))
    pods.running("joining")
    new = claim_uid(pods.api, "new")
    assert pods.agent.calls(known) == pods.agent.calls(new) == ["prepared"]
    assert len(pods.agent.cdi_files()) == 2


def test_pods_at_once_get_a_gpu_each_and_leak_nothing_when_they_go_again(pods: Pods) -> None:
    """Two are gone before anybody knows how far they have come."""
    names = ("a", "b", "c", "d")
    pods.start(*names)
    for name in ("c", "d"):
        pods.api.delete(f"{PODS}/{name}")
    pods.running("a", "b")
    for name in ("a", "b"):
        pods.cluster.wait(
            "its GPU is well", lambda name=name: pod_health(pods.api, name)[0] == "Healthy", seconds=15
        )
        pods.api.delete(f"{PODS}/{name}")
    pods.gone(*names)
    pods.cluster.wait("no claim is in use", lambda: pods.in_use() == 0, seconds=20)
    assert pods.agent.cdi_files() == []
    assert pods.agent.prepared() == []
