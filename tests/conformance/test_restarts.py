"""Restarts of the kubelet, of the agent, and of a second agent beside it; slices and claims stay."""

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conformance.cluster import QUICK, NodeCluster, node_cluster
from gpuvitals_sim.cluster import AgentProgram
from support.dra_objects import CLAIMS, DRIVER, SLICES, Json, claim, pod
from support.fakes.dra_plugin import Behaviour, TinyPlugin
from support.health_messages import words
from support.pod_status import HELD_UP, WAITING, nobody_listens, shown
from support.worlds.agent_node import AgentNode, agent_node, serving

pytestmark = pytest.mark.timeout(120)

PREPARE, UNPREPARE = "NodePrepareResources", "NodeUnprepareResources"
_HANDOVER_SECONDS = 1.0
"""An older instance looks twice a second whether there is a newer one."""
_PATIENT_SECONDS = 6.0
"""The kubelet's patience with a driver that is away; an agent starts in a third of it, on a busy machine too."""


@pytest.fixture
def cluster() -> Iterator[NodeCluster]:
    with node_cluster() as built:
        yield built


def identities(cluster: NodeCluster) -> dict[str, tuple[str, str]]:
    """Each slice's UID and version, which are equal if nothing was written."""
    return {
        one["metadata"]["name"]: (one["metadata"]["uid"], one["metadata"]["resourceVersion"])
        for one in cluster.slices()
    }


def sockets(cluster: NodeCluster) -> list[str]:
    """Public sockets of the driver, in both directories."""
    places = (cluster.folder / "plugins_registry", cluster.agent.state_directory)
    return sorted(
        path.name
        for place in places
        for path in place.iterdir()
        if path.is_socket() and not path.name.startswith(".") and path.name != "debug.sock"
    )


def instances(cluster: NodeCluster) -> int:
    return sum(one.connected for one in cluster.kubelet.plugins())


@contextmanager
def second_agent(cluster: NodeCluster) -> Iterator[AgentProgram]:
    """A newer instance beside the first, registered."""
    newer = cluster.another_agent()
    newer.start()
    try:
        cluster.wait(lambda: instances(cluster) == 2, "both registered")
        yield newer
    finally:
        newer.stop()


def test_a_slice_of_the_node_is_complete_owned_and_does_not_move(cluster: NodeCluster) -> None:
    before = identities(cluster)
    (stored,) = cluster.slices()
    node = cluster.client.get("nodes", "node-a")
    (owner,) = stored["metadata"]["ownerReferences"]
    spec = stored["spec"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Node", node["metadata"]["uid"], True)
    assert (spec["driver"], spec["nodeName"]) == (DRIVER, "node-a")
    assert (spec["pool"]["name"], spec["pool"]["resourceSliceCount"]) == ("node-a", 1)
    assert len(spec["devices"]) == len(cluster.gpus.gpus)
    time.sleep(5)
    assert identities(cluster) == before


def test_a_kubelet_restart_wipes_and_the_agent_registers_and_publishes_again(cluster: NodeCluster) -> None:
    cluster.create("train")
    cluster.running("train")
    uid, before = cluster.uid("train"), identities(cluster)
    cluster.kubelet.restart()
    cluster.registered()
    cluster.wait(lambda: set(identities(cluster)) != set(before) and cluster.slices(), "published anew")
    cluster.published()
    cluster.create("next")
    cluster.running("next")
    assert cluster.calls(PREPARE, uid) == ["OK"]
    assert cluster.runs("train")


@pytest.mark.parametrize("order", ["wipe first", "registration first"])
def test_slices_come_back_within_a_second_whichever_way_round_a_kubelet_starts(order: str) -> None:
    """A kubelet calls GetInfo before or after it deletes the node's slices; both were observed."""
    with serving() as server, agent_node(server) as node:
        steps = [lambda: _wipe(node), node.agent.register]
        for step in steps if order == "wipe first" else reversed(steps):
            step()
        began = time.monotonic()
        node.agent.wait(lambda: len(node.devices()) == 8)
        assert time.monotonic() - began < 1


def _wipe(node: AgentNode) -> None:
    for one in node.agent.slices():
        node.agent.client.delete(SLICES, one["metadata"]["name"])


def test_an_agent_that_is_back_in_time_finds_its_slices_untouched() -> None:
    with node_cluster(timings=replace(QUICK, wiping_delay_seconds=_PATIENT_SECONDS)) as cluster:
        _restart_in_time(cluster)


def _restart_in_time(cluster: NodeCluster) -> None:
    cluster.create("train")
    cluster.running("train")
    before, registered = identities(cluster), cluster.kubelet.plugins()[0].registered_at
    cluster.agent.stop()
    assert identities(cluster) == before
    assert sockets(cluster) == []
    cluster.agent.start()
    cluster.wait(
        lambda: any(one.connected and one.registered_at > registered for one in cluster.kubelet.plugins()),
        "registered again",
    )
    time.sleep(_PATIENT_SECONDS)
    assert identities(cluster) == before
    cluster.delete("train")
    cluster.nothing_is_left()


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_slices_of_an_agent_that_stays_away_are_wiped_and_come_back_with_it(
    cluster: NodeCluster, how: str
) -> None:
    if how == "stopped":
        cluster.agent.stop()
    else:
        cluster.agent.kill()
        assert len(sockets(cluster)) == 2
    cluster.wait(lambda: cluster.slices() == [], "wiped")
    cluster.agent.start()
    cluster.published()


def test_health_is_unknown_without_the_agent_and_known_again_with_it(cluster: NodeCluster) -> None:
    cluster.create("train")
    cluster.running("train")
    cluster.shows("train", "Healthy")
    cluster.agent.stop()
    cluster.shows("train", "Unknown")
    cluster.agent.start()
    cluster.shows("train", "Healthy")


def test_a_pod_that_was_there_before_the_driver_runs_once_it_publishes() -> None:
    with node_cluster(start=False) as cluster:
        cluster.create("early")
        time.sleep(0.5)
        assert not cluster.runs("early")
        cluster.agent.start()
        cluster.running("early")


def test_a_rolling_update_writes_no_slice_and_hands_claims_over(cluster: NodeCluster) -> None:
    cluster.create("train")
    cluster.running("train")
    cluster.shows("train", "Healthy")
    before = identities(cluster)
    with second_agent(cluster) as newer:
        cluster.agent.stop()
        cluster.wait(lambda: instances(cluster) == 1, "the older one gone")
        cluster.create("next")
        cluster.running("next")
        cluster.shows("next", "Healthy")
        assert identities(cluster) == before
        cluster.delete("train")
        cluster.delete("next")
        cluster.nothing_is_left()
        cluster.gpus.xid(0, 79, "GPU has fallen off the bus.")
        cluster.wait(
            lambda: (
                cluster.devices()[cluster.device(0)]["attributes"]["health/state"]["string"] == "Unhealthy"
            ),
            "the newer one publishes",
        )
        newer.stop()


def test_an_update_that_fails_leaves_slices_and_claims_to_the_older_agent(cluster: NodeCluster) -> None:
    cluster.create("train")
    cluster.running("train")
    before = identities(cluster)
    with second_agent(cluster) as newer:
        newer.kill()
        cluster.wait(lambda: instances(cluster) == 1, "the newer one gone")
    assert identities(cluster) == before
    cluster.create("next")
    cluster.running("next")
    cluster.gpus.xid(3, 79, "GPU has fallen off the bus.")
    cluster.wait(
        lambda: cluster.devices()[cluster.device(3)]["attributes"]["health/state"]["string"] == "Unhealthy",
        "the older one publishes again",
    )


def test_two_agents_beside_each_other_speak_with_one_voice(cluster: NodeCluster) -> None:
    """Both streams feed one cache in the kubelet: two opinions would make the pod's status flap."""
    with second_agent(cluster), ThreadPoolExecutor(2) as pool:
        endpoints = [Path(one.endpoint) for one in cluster.kubelet.plugins()]
        time.sleep(2 * _HANDOVER_SECONDS)
        older, newer = pool.map(lambda endpoint: words(endpoint, 6.0), endpoints)
        assert older == 0
        assert newer >= 2
        cluster.agent.stop()
        assert words(endpoints[1], 6.0) >= 2


def test_unprepare_reaches_the_process_that_followed(cluster: NodeCluster) -> None:
    cluster.create("train")
    cluster.running("train")
    uid = cluster.uid("train")
    cluster.agent.kill()
    cluster.client.delete("pods", "train", "default")
    time.sleep(0.5)
    assert cluster.pod("train") is not None
    cluster.agent.start()
    cluster.wait(lambda: cluster.pod("train") is None, "gone")
    assert cluster.calls(UNPREPARE, uid)[-1] == "OK"
    cluster.nothing_is_left()


def test_what_pods_show_while_the_agent_is_dead(cluster: NodeCluster) -> None:
    """The same words as the real kubelet's: tests/cluster/test_instances.py holds that one to them."""
    cluster.create("train")
    cluster.running("train")
    cluster.shows("train", "Healthy")
    (plugin,) = cluster.kubelet.plugins()
    cluster.agent.kill()
    cluster.client.delete("pods", "train", "default")
    cluster.create("next")
    cluster.event(nobody_listens(plugin.endpoint))
    cluster.wait(lambda: shown(cluster.pod("train") or {}) == HELD_UP, "held up")
    assert shown(cluster.pod("next") or {}) == WAITING
    cluster.agent.start()
    cluster.wait(lambda: cluster.pod("train") is None, "gone")
    cluster.running("next")


def test_a_reboot_prepares_again_with_a_new_cdi_file(cluster: NodeCluster) -> None:
    cluster.create("train")
    cluster.running("train")
    uid = cluster.uid("train")
    cluster.agent.kill()
    for name in cluster.cdi_files():
        (cluster.folder / "cdi" / name).unlink()
    cluster.gpus.boot_id_file.write_text("11111111-2222-3333-4444-555555555555\n")
    cluster.kubelet.reboot()
    cluster.agent.start()
    cluster.wait(lambda: len(cluster.calls(PREPARE, uid)) >= 2, "prepared again")
    cluster.running("train")
    cluster.wait(lambda: cluster.container("train"), "container")
    assert len(cluster.cdi_files()) == 1


def test_a_lost_cdi_file_comes_back_for_a_running_pod_that_nobody_prepares_again(
    cluster: NodeCluster,
) -> None:
    cluster.create("train")
    cluster.running("train")
    uid = cluster.uid("train")
    (name,) = cluster.cdi_files()
    (cluster.folder / "cdi" / name).unlink()
    cluster.kubelet.crash_container("default", "train", "main")
    cluster.wait(lambda: cluster.container("train"), "started again")
    assert cluster.calls(PREPARE, uid) == ["OK"]


def test_a_claim_that_went_away_with_the_agent_down_is_not_held_for_ever(cluster: NodeCluster) -> None:
    """The kubelet still knows the claim and unprepares it once the agent is there."""
    cluster.create("train")
    cluster.running("train")
    cluster.agent.stop()
    cluster.delete("train", force=True)
    cluster.client.patch(CLAIMS, ("default", "train"), {"metadata": {"finalizers": None}})
    cluster.client.delete(CLAIMS, "train", "default")
    cluster.agent.start()
    cluster.nothing_is_left()
    cluster.published()
    cluster.create("next")
    cluster.running("next")
    assert cluster.held("next") == [cluster.device(0)]


def test_sigterm_finishes_the_call_in_flight_and_removes_the_sockets(cluster: NodeCluster) -> None:
    slow = cluster.server.faults.delay(0.7)
    cluster.create("train")
    cluster.wait(lambda: slow.hits, "a request in flight")
    before = cluster.slices()
    process = cluster.agent._process
    assert process is not None
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(10) == 0
    slow.end()
    assert sockets(cluster) == []
    assert [one["metadata"]["uid"] for one in cluster.slices()] == [one["metadata"]["uid"] for one in before]


@pytest.mark.parametrize("failing", ["prepare", "unprepare"])
def test_of_two_drivers_one_fails_and_the_other_tolerates_the_replay(
    cluster: NodeCluster, failing: str
) -> None:
    does = Behaviour(driver="nic.example.com", device="nic-0", requests=("nic",))
    setattr(does, failing, lambda _uid: "not yet")
    other = TinyPlugin(cluster.folder, "node-a", cluster.folder / "cdi", "nic", does)
    try:
        cluster.wait(lambda: instances(cluster) == 2, "both drivers")
        _two_driver_pod(cluster)
        if failing == "prepare":
            cluster.event("not yet")
            does.prepare = lambda _uid: ""
        cluster.running("both")
        uid = cluster.uid("both")
        assert set(cluster.calls(PREPARE, uid)) == {"OK"}
        assert len(cluster.cdi_files()) == 1
        cluster.client.delete("pods", "both", "default")
        if failing == "unprepare":
            cluster.wait(lambda: other.calls.count("unprepare") >= 2, "tried again")
            assert cluster.pod("both") is not None
            does.unprepare = lambda _uid: ""
        cluster.wait(lambda: cluster.pod("both") is None, "gone")
        cluster.nothing_is_left()
    finally:
        other.stop()


def _two_driver_pod(cluster: NodeCluster) -> None:
    """A pod on the node whose claim holds a device of each driver."""
    device: Json = {"name": "nic-0"}
    pool = {"name": "nics", "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": "nic.example.com", "nodeName": "node-a", "pool": pool, "devices": [device]}
    cluster.client.create(SLICES, {"metadata": {"name": "nics"}, "spec": spec})
    selector = {"cel": {"expression": 'device.driver == "nic.example.com"'}}
    cluster.client.create(
        "deviceclasses.resource.k8s.io", {"metadata": {"name": "nic"}, "spec": {"selectors": [selector]}}
    )
    nic: Any = {"name": "nic", "exactly": {"deviceClassName": "nic"}}
    gpu: Any = {"name": "gpu", "exactly": {"deviceClassName": "gpu"}}
    cluster.client.create(CLAIMS, claim("both", gpu, nic))
    cluster.client.create("pods", pod("both", "both", grace_seconds=1))


def test_names_outlive_restarts_and_the_pool_is_called_after_its_node(cluster: NodeCluster) -> None:
    def shown() -> str:
        return json.dumps([(one["name"], one["attributes"]["uuid"]) for one in _devices(cluster)])

    before = shown()
    cluster.agent.stop()
    cluster.wait(lambda: cluster.slices() == [], "wiped")
    cluster.agent.start()
    cluster.published()
    assert shown() == before
    (one,) = cluster.slices()
    assert one["spec"]["pool"]["name"] == one["spec"]["nodeName"]
    assert one["metadata"]["name"].startswith("00000-gpu.vitals.internal-node-a-")


def _devices(cluster: NodeCluster) -> list[Json]:
    return [device for one in cluster.slices() for device in one["spec"]["devices"]]
