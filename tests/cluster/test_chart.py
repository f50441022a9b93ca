"""The agent installed by its chart on a real cluster, as a user installs it: what it hears, survives and leaves."""

import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from chart.agents import AsToken
from cluster.cluster import NODE, Cluster
from cluster.heartbeat import Heartbeat
from cluster.objects import (
    CLAIMS,
    CLASSES,
    DRIVER,
    PODS,
    SLICES,
    Json,
    allocated,
    claim_condition,
    devices,
    health,
    is_gone,
    is_running,
    pod,
    pod_health,
    slices,
    start_gpu_pod,
    taints,
)
from cluster.release import AGENTS, CDI, STATE, Release, restarts, versions

pytestmark = [pytest.mark.needs_go, pytest.mark.needs_root, pytest.mark.timeout(240)]

UNHEALTHY = f"{DRIVER}/unhealthy"
BELIEVE = "--accept-user-kernel-lines"
_GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "install.md"


@pytest.mark.parametrize("host_network", [False, True], ids=["pod-network", "host-network"])
def test_an_installed_agent_is_ready_has_published_and_stays(
    cluster: Cluster, release: Release, host_network: bool
) -> None:
    release.install(hostNetwork=host_network)
    pod = release.wait_until_ready()
    cluster.wait("its GPUs are published", release.has_published, seconds=10)
    classes = [item["metadata"]["name"] for item in cluster.api.get(CLASSES).body["items"]]
    assert sorted(classes) == [DRIVER, f"healthy.{DRIVER}"]
    if not host_network:
        time.sleep(30)  # by then the admission policies are in force too
        _check_rights(cluster, release, pod)
    later = release.wait_until_ready()
    assert later["metadata"]["uid"] == pod["metadata"]["uid"]
    assert restarts(later) == restarts(pod) == 0


def test_a_real_kernel_line_reaches_slice_kubelet_and_pod_and_a_reset_reverts_it(
    cluster: Cluster, release: Release
) -> None:
    """The line names a PCI domain that this machine doesn't have, so nobody else can take it for a fault of theirs."""
    release.install(flags=[BELIEVE], config={"policy": {"probation_seconds": 4}})
    release.wait_until_ready()
    failed, api = release.device(0), cluster.api
    _run(cluster, release, "train")
    cluster.wait("its GPU is well", lambda: pod_health(api, "train")[0] == "Healthy", seconds=15)

    script = release.gpus.gpus[0]
    where = script.bus_id.rsplit(".", 1)[0]
    told = cluster.machine.kubelet_root / "dra_health_state"
    assert failed in told.read_text(encoding="utf-8")
    assert not _knows(told, failed)
    _write_to_kernel_log(f"NVRM: Xid (PCI:{where}): 79, GPU has fallen off the bus.")
    cluster.wait("the kubelet knows", lambda: _knows(told, failed), seconds=1)
    cluster.wait("the device is tainted", lambda: taints(devices(api)[failed]).get(UNHEALTHY), seconds=2)
    assert health(api, failed) == ("Unhealthy", "Xid79", 0)
    cluster.wait("the pod says so", lambda: pod_health(api, "train")[0] == "Unhealthy", seconds=10)
    assert "79" in pod_health(api, "train")[1]

    release.gpus.reset(0)
    _write_to_kernel_log(f"NVRM: GPU at PCI:{where}: {script.uuid}")
    _write_to_kernel_log(f"NVRM: GPU Board Serial Number: {script.serial}")
    cluster.wait("it is healthy", lambda: health(api, failed)[0] == "Healthy", seconds=30)
    cluster.wait("the pod says so", lambda: pod_health(api, "train")[0] == "Healthy", seconds=10)


def test_a_person_with_a_kubeconfig_has_the_agent_of_a_node_explain_its_gpu(
    cluster: Cluster, release: Release
) -> None:
    """Finding U2: the verb finds the pod of that node and runs its own explanation there."""
    release.install(flags=[BELIEVE])
    release.wait_until_ready()
    cluster.wait("its GPUs are published", release.has_published, seconds=10)
    verb = [sys.executable, "-m", "gpuvitals.cli.main", "explain", NODE, release.device(0)]
    done = subprocess.run(
        [*verb, f"--kubeconfig={cluster.kubeconfig}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "no claim is prepared with it" in done.stdout
    assert "the API server shows" not in done.stdout


def test_an_upgrade_keeps_live_claims_and_an_uninstall_leaves_only_the_memory(
    cluster: Cluster, release: Release
) -> None:
    release.install(flags=[BELIEVE])
    old = release.wait_until_ready()["metadata"]["uid"]
    api, failed = cluster.api, release.device(0)
    _run(cluster, release, "train")
    where = release.gpus.gpus[0].bus_id.rsplit(".", 1)[0]
    _write_to_kernel_log(f"NVRM: Xid (PCI:{where}): 79, GPU has fallen off the bus.")
    cluster.wait("the device is tainted", lambda: taints(devices(api)[failed]).get(UNHEALTHY), seconds=5)
    cluster.wait("the claim says so", lambda: claim_condition(api, "train")[1] == "Xid79", seconds=5)
    before, files, container = versions(cluster), release.cdi_files(), _container(cluster, "train")

    release.upgrade("config.pollSeconds=2")
    release.wait_until_ready(but=old)
    start_gpu_pod(api, "careful")
    cluster.wait("the next pod runs", lambda: is_running(api, "careful"), seconds=30)
    assert allocated(api, "careful") == [release.device(1)]
    assert versions(cluster) == before
    assert set(files) < set(release.cdi_files())
    assert _container(cluster, "train") == container
    assert claim_condition(api, "train") == ("False", "Xid79")
    for name in ("train", "careful"):
        api.delete(f"{PODS}/{name}")
        cluster.wait("the pod is gone", lambda name=name: is_gone(api, name), seconds=30)
        api.delete(f"{CLAIMS}/{name}")
    assert release.cdi_files() == []

    release.uninstall()
    cluster.wait("the kubelet has removed the slices", lambda: not slices(api), seconds=40)
    assert _left_on_node(release) == {
        "checkpoint.json",
        "health.journal",
        "health.json",
        "policies.json",
        "statements.json",
        "taints.json",
    }


def test_an_uninstall_with_live_claims_leaves_their_cdi_files_to_the_guide(
    cluster: Cluster, release: Release
) -> None:
    release.install()
    release.wait_until_ready()
    _run(cluster, release, "train")
    files, container = release.cdi_files(), _container(cluster, "train")
    assert len(files) == 1
    release.uninstall()
    assert release.cdi_files() == files
    assert _container(cluster, "train") == container

    cluster.api.delete(f"{PODS}/train")
    cluster.wait("its container has ended", lambda: not _runs(cluster, "train"), seconds=30)
    for command in _clean_up():
        release.on_node("sh", "-c", command)
    assert release.cdi_files() == []
    assert release.on_node("sh", "-c", f"ls {STATE.parent}").split() == []

    release.install()
    release.wait_until_ready()
    cluster.wait("the pod is gone", lambda: is_gone(cluster.api, "train"), seconds=100)


def test_an_agent_whose_loop_stands_still_is_restarted_by_its_probe(
    cluster: Cluster, release: Release
) -> None:
    heart = Heartbeat(release.gpus.directory / "heartbeat")
    release.install(environment={"PYTHONPATH": str(heart.folder)})
    first = release.wait_until_ready()
    _run(cluster, release, "train")
    cluster.wait("its GPU is well", lambda: pod_health(cluster.api, "train")[0] == "Healthy", seconds=15)
    heart.stop()
    cluster.wait("its probe says so", lambda: "has not turned for" in _livez(release), seconds=15)
    cluster.wait(
        "the pod says nobody knows", lambda: pod_health(cluster.api, "train")[0] == "Unknown", seconds=15
    )
    cluster.wait(
        "the container was started anew",
        lambda: any(restarts(each) == 1 for each in release.pods()),
        seconds=60,
    )
    heart.go_on()
    assert release.wait_until_ready()["metadata"]["uid"] == first["metadata"]["uid"]
    assert is_running(cluster.api, "train")
    cluster.wait("its GPU is well", lambda: pod_health(cluster.api, "train")[0] == "Healthy", seconds=15)


def _check_rights(cluster: Cluster, release: Release, agent: Json) -> None:
    """With the very token that the kubelet has put into the agent's pod."""
    uid = agent["metadata"]["uid"]
    token = release.on_node("sh", "-c", f"cat {STATE.parent.parent}/pods/{uid}/volumes/*/*/token")
    api = AsToken(cluster.server.url, cluster.server.pki.ca, token.strip())
    (own,) = slices(cluster.api)
    spec = {key: own["spec"][key] for key in ("driver", "nodeName", "pool")} | {"devices": []}
    wanted: Json = {"metadata": {"name": "made"}, "spec": spec}
    other_node = {**spec, "nodeName": "node-b", "pool": spec["pool"] | {"name": "node-b"}}
    assert api.post(SLICES, wanted, dryRun="All").status == 201
    for path, body in (
        (SLICES, {**wanted, "spec": other_node}),
        (SLICES, {**wanted, "spec": {**spec, "driver": "nic.example.com"}}),
        (SLICES, {**wanted, "spec": {**spec, "nodeName": None, "allNodes": True}}),
        ("/api/v1/nodes", {"metadata": {"name": "node-b"}}),
        (PODS, pod("made")),
    ):
        answer = api.post(path, body, dryRun="All")
        assert answer.status == 403, (path, answer.body)
    assert api.delete(f"/api/v1/nodes/{NODE}", dryRun="All").status == 403
    assert api.delete(f"{AGENTS}/{agent['metadata']['name']}", dryRun="All").status == 403


def _livez(release: Release) -> str:
    """What the agent answers by the way that the guide shows: events of a probe have its status code only."""
    port = release.probe_port
    with release.kubectl("port-forward", "daemonset/gpuvitals-agent", f":{port}") as forward:
        assert forward.stdout is not None
        try:
            local = int(forward.stdout.readline().rpartition(" ->")[0].rpartition(":")[2])
            with urllib.request.urlopen(f"http://127.0.0.1:{local}/livez", timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return error.read().decode()
        finally:
            forward.terminate()


def _write_to_kernel_log(text: str) -> None:
    """As any process of root may; the kernel gives it the facility of users.

    A record without its newline could still be continued, and is shown to no reader before the next one.
    """
    with Path("/dev/kmsg").open("wb", buffering=0) as log:
        log.write(f"{text}\n".encode())


def _knows(told: Path, device: str) -> bool:
    """Whether the kubelet's own record shows the device as unhealthy."""
    text = told.read_text(encoding="utf-8").replace("\\", "")
    return re.search(rf"{device}[^{{}}]*Unhealthy", text) is not None


def _run(cluster: Cluster, release: Release, name: str) -> None:
    """A pod on the first GPU."""
    start_gpu_pod(cluster.api, name)
    cluster.wait("the pod runs", lambda: is_running(cluster.api, name), seconds=30)
    assert allocated(cluster.api, name) == [release.device(0)]


def _container(cluster: Cluster, name: str) -> tuple[str, int]:
    """Which container the pod runs and how often it was started anew."""
    (status,) = cluster.api.get(f"{PODS}/{name}").body["status"]["containerStatuses"]
    return status["containerID"], status["restartCount"]


def _runs(cluster: Cluster, name: str) -> bool:
    (status,) = cluster.api.get(f"{PODS}/{name}").body["status"]["containerStatuses"]
    return "running" in status["state"]


def _left_on_node(release: Release) -> set[str]:
    """What is left of the driver on the node: names without those of second slots and locks."""
    sockets = release.on_node("sh", "-c", f"ls {STATE.parent.parent}/plugins_registry").split()
    found = release.on_node("sh", "-c", f"find {STATE} {CDI} -type f -o -type s").split()
    names = {Path(path).name.removesuffix(".2") for path in found if not path.endswith(".lock")}
    return {*names, *sockets}


def _clean_up() -> list[str]:
    """The commands that the guide gives for a node."""
    text = _GUIDE.read_text(encoding="utf-8").partition("## Uninstall")[2]
    (block,) = re.findall(r"```\n(rm .*?)```", text, re.DOTALL)
    return str(block).splitlines()
