"""What is beside the agent: an instance of itself in a rolling update, and another driver in the same pod."""

import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster.agent import Agent
from cluster.cluster import NODE, Cluster
from cluster.objects import (
    CLAIMS,
    CLASSES,
    DRIVER,
    PODS,
    SLICES,
    claim,
    claim_uid,
    create,
    devices,
    is_gone,
    is_running,
    messages,
    pod,
    pod_health,
    slices,
    start_gpu_pod,
    taints,
    touch,
)
from cluster.obstacles import frozen
from cluster.pods import Pods
from cluster.release import versions
from support.fakes.dra_plugin import Behaviour, TinyPlugin
from support.health_messages import words
from support.pod_status import HELD_UP, WAITING, as_of, nobody_listens, shown

pytestmark = [pytest.mark.needs_go, pytest.mark.needs_root, pytest.mark.timeout(240)]

Start = Callable[..., Agent]
REGISTERED, PUBLISHES = "registered with the kubelet", "this instance publishes"
NIC = "nic.example.com"


@contextmanager
def beside(older: Agent, cluster: Cluster) -> Iterator[Agent]:
    """A newer instance, which the kubelet has registered and which has taken over."""
    newer = older.newer()
    newer.start()
    try:
        cluster.wait("it is registered", lambda: newer.count(REGISTERED) == 1, seconds=30)
        cluster.wait("it has taken over", lambda: newer.count(PUBLISHES) == 1, seconds=10)
        yield newer
    finally:
        newer.stop()


def listen(*agents: Agent) -> list[int]:
    """How many lists each one's health stream gives in six seconds; a heartbeat comes every four."""
    with tempfile.TemporaryDirectory(prefix="gv-", dir="/tmp") as made, ThreadPoolExecutor(2) as pool:
        near = Path(made) / "state"
        near.symlink_to(agents[0].state)  # the path of a socket has to be short
        return list(pool.map(lambda one: words(near / one.endpoint.name, 6.0), agents))


def test_in_a_rolling_update_one_speaks_and_pods_come_and_go_throughout(
    cluster: Cluster, start_agent: Start
) -> None:
    older = start_agent(cluster)
    pods, api = Pods(cluster, older), cluster.api
    (train,) = pods.start("train")
    pods.running("train")
    cluster.wait("its GPU is well", lambda: pod_health(api, "train")[0] == "Healthy", seconds=15)
    before = versions(cluster)
    with beside(older, cluster) as newer:
        assert older.count("not publishing any more") == 1
        assert older.process.poll() is None
        (together,) = pods.start("together")
        pods.running("together")
        assert newer.calls(together) == ["prepared"]
        silent, speaking = listen(older, newer)
        assert silent == 0
        assert speaking >= 2
        assert pod_health(api, "train")[0] == "Healthy"
        older.stop()
        (after,) = pods.start("after")
        pods.running("after")
        assert set(newer.prepared()) == {train, together, after}
        for name in ("train", "together"):
            api.delete(f"{PODS}/{name}")
            pods.gone(name)
        assert newer.calls(train) == ["unprepared"]
        assert newer.prepared() == [after]
        assert versions(cluster) == before
        newer.gpus.xid(3, 79, "GPU has fallen off the bus.")
        cluster.wait("it publishes", lambda: taints(devices(api)[newer.device(3)]), seconds=5)


def test_an_update_that_fails_leaves_slices_and_claims_to_the_older_instance(
    cluster: Cluster, start_agent: Start
) -> None:
    older = start_agent(cluster)
    pods, api = Pods(cluster, older), cluster.api
    (train,) = pods.start("train")
    pods.running("train")
    before = versions(cluster)
    with beside(older, cluster) as newer:
        newer.kill()
        cluster.wait("the older one is back", lambda: older.count(PUBLISHES) == 2, seconds=10)
    (after,) = pods.start("after")
    pods.running("after")
    assert older.calls(after) == ["prepared"]
    assert set(older.prepared()) == {train, after}
    assert versions(cluster) == before
    cluster.wait("its GPU is well", lambda: pod_health(api, "train")[0] == "Healthy", seconds=15)
    older.gpus.xid(3, 79, "GPU has fallen off the bus.")
    cluster.wait("it publishes", lambda: taints(devices(api)[older.device(3)]), seconds=5)


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_health_is_unknown_without_the_agent_and_known_again_with_it(
    cluster: Cluster, start_agent: Start, how: str
) -> None:
    """The kubelet looks again when a pod changes, else with its periodic sync after 60 to 80 s."""
    agent = start_agent(cluster)
    pods, api = Pods(cluster, agent), cluster.api
    pods.start("train")
    pods.running("train")
    cluster.wait("its GPU is well", lambda: pod_health(api, "train")[0] == "Healthy", seconds=15)
    agent.stop() if how == "stopped" else agent.kill()
    touch(api, "train")
    cluster.wait("nobody knows", lambda: pod_health(api, "train")[0] == "Unknown", seconds=10)
    agent.start()
    cluster.wait("its GPU is well again", lambda: pod_health(api, "train")[0] == "Healthy", seconds=20)
    assert is_running(api, "train")


def test_what_pods_show_while_the_agent_is_dead(cluster: Cluster, start_agent: Start) -> None:
    agent = start_agent(cluster)
    pods, api = Pods(cluster, agent), cluster.api
    pods.start("train")
    pods.running("train")
    cluster.wait("its GPU is well", lambda: pod_health(api, "train")[0] == "Healthy", seconds=15)
    agent.kill()
    api.delete(f"{PODS}/train")
    pods.start("next")
    # The first call may still meet the connection of the process that was killed.
    cluster.wait("it dials in vain", lambda: _asked(cluster, "next", str(agent.endpoint)), seconds=30)
    cluster.wait(
        "the pod is held up",
        lambda: shown(api.get(f"{PODS}/train").body) == as_of(cluster.release, HELD_UP),
        seconds=20,
    )
    assert shown(api.get(f"{PODS}/next").body) == as_of(cluster.release, WAITING)
    agent.start()
    pods.gone("train", seconds=60)
    touch(api, "next")
    pods.running("next")


def _asked(cluster: Cluster, name: str, socket: str) -> bool:
    """Has the kubelet try the pod once more; whether it has met nobody at the socket by now."""
    touch(cluster.api, name)
    time.sleep(1)
    return any(nobody_listens(socket) in text for text in messages(cluster.api, name))


def test_a_registration_that_is_not_answered_in_time_is_made_again(
    cluster: Cluster, start_agent: Start
) -> None:
    """The kubelet waits a second for the plugin's answer when it starts."""
    agent = start_agent(cluster)
    cluster.wait("it is registered", lambda: agent.count(REGISTERED) == 1, seconds=20)
    cluster.node.stop_kubelet()
    with frozen(agent):
        cluster.node.start_kubelet()
        time.sleep(3)
        assert slices(cluster.api) == []
    cluster.wait("it is registered again", lambda: agent.count(REGISTERED) == 2, seconds=20)
    cluster.wait("its slice is back", lambda: slices(cluster.api), seconds=10)


def test_a_pod_that_was_there_before_the_driver_runs_once_it_publishes(
    cluster: Cluster, start_agent: Start
) -> None:
    start_gpu_pod(cluster.api, "early")
    time.sleep(1)
    assert not is_running(cluster.api, "early")
    start_agent(cluster)
    # Where the scheduler is faster than the registration, the kubelet looks again after 60 to 80 s.
    cluster.wait("the pod runs", lambda: is_running(cluster.api, "early"), seconds=100)


def test_a_container_that_starts_again_finds_the_cdi_file_that_was_lost(
    cluster: Cluster, start_agent: Start
) -> None:
    agent = start_agent(cluster)
    pods = Pods(cluster, agent)
    (uid,) = pods.start("train")
    pods.running("train")
    files = agent.cdi_files()
    agent.lose_cdi_files()
    cluster.node.kill_containers("train", sandbox=False)
    cluster.wait("it was started anew", lambda: _restarts(cluster, "train") >= 1, seconds=30)
    pods.running("train")
    assert agent.cdi_files() == files
    assert agent.calls(uid) == ["prepared"]


def test_a_reboot_prepares_again_with_a_new_cdi_file(cluster: Cluster, start_agent: Start) -> None:
    """As far as a machine can be rebooted that has to go on: processes, /run and the boot's id."""
    agent = start_agent(cluster)
    pods = Pods(cluster, agent)
    (uid,) = pods.start("train")
    pods.running("train")
    files = agent.cdi_files()
    cluster.node.stop_kubelet()
    agent.kill()
    cluster.node.kill_containers("train", sandbox=True)
    agent.lose_cdi_files()
    agent.gpus.boot_id_file.write_text("11111111-2222-3333-4444-555555555555\n", encoding="utf-8")
    cluster.node.start_kubelet()
    agent.start()
    cluster.wait("it is prepared again", lambda: agent.calls(uid).count("prepared") == 2, seconds=100)
    cluster.wait("it was started anew", lambda: _restarts(cluster, "train") >= 1, seconds=60)
    pods.running("train")
    assert agent.cdi_files() == files


def _restarts(cluster: Cluster, name: str) -> int:
    (status,) = cluster.api.get(f"{PODS}/{name}").body["status"]["containerStatuses"]
    return int(status["restartCount"])


@pytest.fixture
def nic(cluster: Cluster) -> Iterator[TinyPlugin]:
    """Another driver on the node, with one device and a class of its own."""
    does = Behaviour(driver=NIC, device="nic-0", requests=("nic",), cdi=False)
    plugin = TinyPlugin(cluster.machine.kubelet_root, NODE, cluster.folder / "nic-cdi", "nic", does)
    pool = {"name": NODE, "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": NIC, "nodeName": NODE, "pool": pool, "devices": [{"name": "nic-0"}]}
    selector = {"cel": {"expression": f'device.driver == "{NIC}"'}}
    try:
        cluster.wait("it is registered", lambda: plugin.calls.count("notify True"), seconds=20)
        create(cluster.api, SLICES, {"metadata": {"name": "nics"}, "spec": spec})
        create(cluster.api, CLASSES, {"metadata": {"name": NIC}, "spec": {"selectors": [selector]}})
        yield plugin
    finally:
        plugin.stop()
        for path in (f"{SLICES}/nics", f"{CLASSES}/{NIC}"):
            cluster.api.delete(path)


def test_of_two_drivers_one_fails_and_the_other_tolerates_the_replay(
    cluster: Cluster, nic: TinyPlugin, start_agent: Start
) -> None:
    agent = start_agent(cluster)
    pods, api = Pods(cluster, agent), cluster.api
    nic.does.prepare = lambda _uid: "not yet"
    _two_driver_pod(cluster)
    pods.told("both", "not yet")
    uid = claim_uid(api, "both")
    nic.does.prepare = lambda _uid: ""
    touch(api, "both")
    pods.running("both")
    assert set(agent.calls(uid)) == {"prepared"}
    assert agent.prepared() == [uid]
    nic.does.unprepare = lambda _uid: "not yet"
    api.delete(f"{PODS}/both")
    cluster.wait("it has failed", lambda: nic.calls.count("unprepare"), seconds=20)
    assert not is_gone(api, "both")
    nic.does.unprepare = lambda _uid: ""
    pods.gone("both", seconds=40)
    assert set(agent.calls(uid)) == {"prepared", "unprepared"}
    assert agent.prepared() == []


def _two_driver_pod(cluster: Cluster) -> None:
    """A pod whose one claim holds a device of each driver."""
    body = claim("both")
    requests: list[Any] = body["spec"]["devices"]["requests"]
    requests.append({"name": "nic", "exactly": {"deviceClassName": NIC}})
    create(cluster.api, CLAIMS, body)
    create(cluster.api, PODS, pod("both", claims=("both",)))


def test_neither_a_start_nor_a_stop_is_an_error_to_the_kubelet(cluster: Cluster, start_agent: Start) -> None:
    """The kubelet looks at whatever appears in its folder of sockets."""
    log = cluster.workspace.log("kubelet")
    skip = log.stat().st_size
    agent = start_agent(cluster)
    cluster.wait("it is registered", lambda: agent.count(REGISTERED) == 1, seconds=20)
    agent.kill()  # its sockets stay, and the next start finds them
    agent.start()
    cluster.wait("it is registered again", lambda: agent.count(REGISTERED) == 2, seconds=20)
    time.sleep(1)
    with log.open("rb") as file:
        file.seek(skip)
        said = file.read().decode(errors="replace").splitlines()
    about = [line for line in said if "plugins_registry" in line or DRIVER in line]
    assert about
    assert [line for line in about if line.startswith("E") and "plugins_registry" in line] == []
