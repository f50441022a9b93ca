"""The slice on a real server: who edits or deletes it sees it back at once, and a restart of the agent writes nothing."""

import time
from collections.abc import Callable

import pytest

from cluster.agent import Agent
from cluster.cluster import NODE, Cluster
from cluster.objects import DRIVER, SLICES, Json, devices, health, slices
from support.raw_api import MERGE_PATCH, WatchStream

pytestmark = [pytest.mark.needs_go, pytest.mark.needs_root, pytest.mark.timeout(180)]


def test_a_slice_is_complete_owned_by_its_node_and_does_not_move(
    cluster: Cluster, start_agent: Callable[[Cluster], Agent]
) -> None:
    agent = start_agent(cluster)
    registered = "registered with the kubelet"
    cluster.wait("it is registered", lambda: agent.count(registered) == 1, seconds=20)
    cluster.wait("they are healthy", lambda: _all_healthy(cluster), seconds=20)
    (before,) = slices(cluster.api)
    (owner,) = before["metadata"]["ownerReferences"]
    node = cluster.api.get(f"/api/v1/nodes/{NODE}").body["metadata"]["uid"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Node", node, True)
    assert (before["spec"]["driver"], before["spec"]["nodeName"]) == (DRIVER, NODE)
    pool = before["spec"]["pool"]
    assert (pool["name"], pool["resourceSliceCount"]) == (NODE, 1)
    assert [each["name"] for each in before["spec"]["devices"]] == [agent.device(gpu) for gpu in range(4)]
    time.sleep(10)
    assert slices(cluster.api) == [before]


def _all_healthy(cluster: Cluster) -> bool:
    return all(health(cluster.api, name)[0] == "Healthy" for name in devices(cluster.api))


def test_a_deleted_slice_and_an_edited_one_are_repaired_within_a_second(
    cluster: Cluster, start_agent: Callable[[Cluster], Agent]
) -> None:
    start_agent(cluster)
    api = cluster.api
    (before,) = slices(api)
    with _watch(cluster) as watch:
        api.delete(f"{SLICES}/{before['metadata']['name']}")
        deleted = time.monotonic()
        assert watch.next()[0] == "DELETED"
        kind, back = watch.next()
        assert (kind, time.monotonic() - deleted < 1.0) == ("ADDED", True)
    assert back["spec"]["devices"] == before["spec"]["devices"]
    with _watch(cluster) as watch:
        fewer = {"spec": {"devices": back["spec"]["devices"][1:]}}
        assert api.patch(f"{SLICES}/{back['metadata']['name']}", MERGE_PATCH, fewer).status == 200
        edited = time.monotonic()
        assert len(watch.next()[1]["spec"]["devices"]) == 3
        repaired: Json = watch.next()[1]
        assert time.monotonic() - edited < 1.0
    assert repaired["spec"]["devices"] == before["spec"]["devices"]


def test_an_agent_that_is_stopped_and_started_again_writes_no_slice(
    cluster: Cluster, start_agent: Callable[[Cluster], Agent]
) -> None:
    """Stopped for less than 30 s, so the kubelet wipes nothing."""
    agent = start_agent(cluster)
    registered = "registered with the kubelet"
    cluster.wait("it is registered", lambda: agent.count(registered) == 1, seconds=20)
    published = [(item["metadata"]["resourceVersion"], item["spec"]) for item in slices(cluster.api)]
    agent.stop()
    agent.start()
    cluster.wait("it is registered again", lambda: agent.count(registered) == 2, seconds=20)
    time.sleep(2)
    assert published == [(item["metadata"]["resourceVersion"], item["spec"]) for item in slices(cluster.api)]


def _watch(cluster: Cluster) -> WatchStream:
    """A watch of all slices from now on."""
    return cluster.api.watch(SLICES, resourceVersion=cluster.api.get(SLICES).version)
