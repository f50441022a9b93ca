"""A node on which claims can't be prepared does not attract pods: the real agent, on files that come and go."""

import json
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gpuvitals.cli.explain import agent_stations
from gpuvitals.proto import dra_v1_pb2 as dra
from gpuvitals_sim.hardware.scripted_node import ScriptedNode
from support.worlds.agent_node import CLAIMS, POLICY, AgentNode, devices_of, serving
from support.worlds.agent_process import AgentProcess, agent
from support.worlds.plugin_world import Kubelet, channel

TAINT = "gpu.vitals.internal/unprepared"
REPORT = "vitals.internal/node-report"
Json = dict[str, Any]


def readiness(process: AgentProcess) -> str:
    """The answer of /readyz, "" for ok."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{process.probes()}/readyz", timeout=10)
    except urllib.error.HTTPError as error:
        return error.read().decode()
    return ""


def report(process: AgentProcess) -> Json:
    (text,) = [
        part["metadata"]["annotations"][REPORT]
        for part in process.slices()
        if REPORT in part["metadata"].get("annotations", {})
    ]
    found: Json = json.loads(text)
    return found


def out(process: AgentProcess) -> dict[str, str]:
    """The reason of each device that is out since it can't be prepared."""
    return {
        name: taint["value"]
        for name, device in devices_of(process.slices()).items()
        for taint in device.get("taints") or []
        if taint["key"] == TAINT and taint["effect"] == "NoSchedule"
    }


def events(process: AgentProcess) -> set[str]:
    return {event["reason"] for event in process.client.list("events.events.k8s.io")}


@contextmanager
def started(change: Callable[[ScriptedNode], object], policy: str = POLICY) -> Iterator[AgentProcess]:
    """An agent whose node lacks something from the start."""
    with serving() as server, tempfile.TemporaryDirectory(prefix="gv-", dir="/tmp") as made:
        folder = Path(made)
        gpus = ScriptedNode.create(folder, name="node-a")
        (folder / "node.yaml").write_text(policy)
        change(gpus)
        with agent(folder, server, gpus) as process:
            process.register()
            yield process


@pytest.mark.parametrize(
    ("lost", "reason", "says"),
    [
        ("dev/nvidia-uvm", "DeviceNodesMissing", "nvidia-modprobe -u -c0"),
        ("dev/nvidiactl", "DeviceNodesMissing", "nvidia-modprobe -c0"),
        ("usr/lib/x86_64-linux-gnu/libcuda.so", "DriverLibrariesMissing", "libcuda.so.1"),
        ("usr/lib/x86_64-linux-gnu/libnvidia-ml.so", "DriverLibrariesMissing", "libnvidia-ml.so.1"),
    ],
)
def test_what_every_claim_needs_is_watched_and_heals_by_itself(
    node: AgentNode, lost: str, reason: str, says: str
) -> None:
    """Finding P2: out of service with a reason of its own, told in report, readiness and an event, until it is back."""
    root = node.gpus.driver_root
    before = node.devices()
    moved = list(root.glob(f"{lost}*"))
    moved = [path for path in moved if not path.name.endswith("-tools")]
    for path in moved:
        path.rename(path.with_name("gone-" + path.name))
    node.agent.wait(lambda: set(out(node.agent).values()) == {reason} and len(out(node.agent)) == 8)
    shown = node.devices()
    assert set(shown) == set(before)
    assert {each["attributes"]["health/score"]["int"] for each in shown.values()} == {0}
    assert {each["attributes"]["health/reason"]["string"] for each in shown.values()} == {reason}
    (cause,) = report(node.agent)["unprepared"]
    assert (cause["reason"], len(cause["devices"])) == (reason, 8)
    assert says in cause["why"]
    assert reason in report(node.agent)["reasons"]
    node.agent.wait(lambda: says in readiness(node.agent))
    node.agent.wait(lambda: reason in events(node.agent))

    for path in moved:
        path.with_name("gone-" + path.name).rename(path)
    node.agent.wait(lambda: not out(node.agent) and readiness(node.agent) == "")
    assert node.devices() == before
    assert "unprepared" not in report(node.agent)
    node.agent.wait(lambda: "DriverFilesFound" in events(node.agent))


def test_a_gpu_without_its_own_node_is_out_alone_and_its_holder_is_told_its_health(node: AgentNode) -> None:
    """Finding P2: a running pod is not told that its GPU is ill, since it has the node already."""
    node.hold("train", 3)
    lost = node.gpus.driver_root / "dev/nvidia3"
    lost.unlink()
    node.agent.wait(lambda: out(node.agent) == {node.name(3): "DeviceNodesMissing"})
    assert "nvidia-modprobe -c3" in report(node.agent)["unprepared"][0]["why"]
    assert "1 of 8 devices" in readiness(node.agent)
    stations = agent_stations(node.folder / "plugins" / "gpuvitals", node.name(3))
    said = {station.name: station.text for station in stations}
    assert "nvidia-modprobe -c3" in said["driver files"]
    assert said["careful claims"].endswith("does not match")
    assert said["claim"].startswith("Healthy=True")
    assert node.condition("train")["status"] == "True"
    lost.touch()
    node.agent.wait(lambda: not out(node.agent))


def test_an_instance_whose_capability_node_is_missing_is_out_alone(node: AgentNode) -> None:
    """Finding P2: MIG instances need their own nodes."""
    node.gpus.divide(0, "1g.10gb", "1g.10gb")

    def instances() -> set[str]:
        return {name for name in node.devices() if name.startswith(f"{node.name(0)}-mig-")}

    node.agent.wait(lambda: len(instances()) == 2)
    caps = sorted((node.gpus.driver_root / "dev/nvidia-caps").iterdir())
    caps[-1].unlink()
    node.agent.wait(lambda: list(out(node.agent).values()) == ["DeviceNodesMissing"])
    assert set(out(node.agent)) < instances()
    caps[-1].touch()
    node.agent.wait(lambda: not out(node.agent))


def test_a_claim_that_was_allocated_before_is_refused_for_what_is_missing(node: AgentNode) -> None:
    """Finding P2: the words are those of the files, not of the GPU's health; and it is prepared once they are there."""
    lost = node.gpus.driver_root / "dev/nvidia-uvm"
    lost.unlink()
    node.agent.wait(lambda: len(out(node.agent)) == 8)
    with pytest.raises(AssertionError):
        node.hold("train", 1)
    claim = node.server.client("test").get(CLAIMS, "train", "default")
    wire = dra.Claim(namespace="default", name="train", uid=claim["metadata"]["uid"])
    with channel(node.endpoint) as opened:
        assert Kubelet(opened).prepare(wire)[wire.uid].error.startswith("DeviceNodesMissing: ")
        lost.touch()
        assert Kubelet(opened).prepare(wire)[wire.uid].error == ""


def test_a_failed_gpu_keeps_its_own_reason(node: AgentNode) -> None:
    (node.gpus.driver_root / "dev/nvidia-uvm").unlink()
    node.agent.wait(lambda: len(out(node.agent)) == 8)
    node.burst(2)
    node.agent.wait(
        lambda: node.devices()[node.name(2)]["attributes"]["health/reason"]["string"] in ("Xid79", "GpuLost")
    )
    (taint,) = node.devices()[node.name(2)]["taints"]
    assert (taint["key"], taint["effect"]) == ("gpu.vitals.internal/unhealthy", "NoSchedule")


def test_a_node_that_lacks_something_from_the_start_is_never_shown_as_whole() -> None:
    """Finding P2: the driver files for Prepare are checked before the first slice."""

    def change(gpus: ScriptedNode) -> None:
        (gpus.driver_root / "dev/nvidia-uvm").unlink()

    with started(change) as process:
        process.wait(lambda: len(devices_of(process.slices())) == 8)
        assert set(out(process).values()) == {"DeviceNodesMissing"}
        process.wait(lambda: "nvidia-modprobe -u -c0" in readiness(process))


def test_a_driver_that_is_just_coming_up_is_shown_once_and_as_whole() -> None:
    """Finding P2: a driver container makes its nodes within seconds, and no taint comes and goes for it."""
    made: list[Path] = []

    def change(gpus: ScriptedNode) -> None:
        made.append(gpus.driver_root / "dev/nvidia-uvm")
        made[0].unlink()

    with started(change) as process:
        log = process.folder / "log"
        process.wait(lambda: "gpu found" in log.read_text(encoding="utf-8"))
        made[0].touch()
        process.wait(lambda: len(devices_of(process.slices())) == 8)
        assert out(process) == {}
        assert "DeviceNodesMissing" not in events(process)


def test_where_the_server_drops_taints_the_devices_leave_the_slice() -> None:
    """Finding P2: mode withdraw; the report has the record of each."""

    def change(gpus: ScriptedNode) -> None:
        (gpus.driver_root / "dev/nvidia0").unlink()

    with started(change, POLICY + "service_mode: withdraw\n") as process:
        process.wait(lambda: len(devices_of(process.slices())) == 7)
        (record,) = report(process)["withdrawn"]
        assert record["reason"] == "DeviceNodesMissing"
        assert "nvidia-modprobe -c0" in record["message"]


def test_a_wrong_driver_root_is_told() -> None:
    """Finding P8: libraries elsewhere; not Ready, with the name of the root and of the missing libraries."""

    def change(gpus: ScriptedNode) -> None:
        (gpus.driver_root / "usr").rename(gpus.driver_root / "elsewhere")

    with started(change) as process:
        process.wait(lambda: len(out(process)) == 8)
        # The slice can be at the API server before the agent has its answer.
        process.wait(lambda: "no slice is stored yet" not in readiness(process))
        said = readiness(process)
        assert "has no libcuda.so.1 and no libnvidia-ml.so.1" in said
        assert "searched" in said
        assert str(process.folder) in said


def test_a_wrong_driver_root_is_told_where_no_gpu_could_be_read() -> None:
    """Finding P8: NVML was not found either, and only the bus shows that the node has GPUs."""
    with serving() as server, tempfile.TemporaryDirectory(prefix="gv-", dir="/tmp") as made:
        folder = Path(made)
        device = folder / "sys/bus/pci/devices/0000:1b:00.0"
        device.mkdir(parents=True)
        for name, content in (("vendor", "0x10de"), ("class", "0x030200")):
            (device / name).write_text(content + "\n", encoding="ascii")
        with agent(folder, server) as process:
            process.register()
            process.wait(lambda: "no libcuda.so.1" in readiness(process))
            process.wait(lambda: "DriverLibrariesMissing" in report(process)["reasons"])


def test_a_node_without_gpus_is_ready_without_a_driver() -> None:
    with serving() as server, tempfile.TemporaryDirectory(prefix="gv-", dir="/tmp") as made:
        folder = Path(made)
        (folder / "sys/bus/pci/devices").mkdir(parents=True)
        with agent(folder, server) as process:
            process.register()
            process.wait(lambda: readiness(process) == "")
