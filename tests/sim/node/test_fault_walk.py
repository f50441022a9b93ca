"""One fault walks the whole way through the real agent: kernel line in, slice out, and nothing else moves."""

import json
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gpuvitals.sim.apiserver import ApiServer
from gpuvitals.sim.gpu import ScriptedNode
from support.agentprocess import AgentProcess, agent

POLICY = (
    "poll_seconds: 0.2\npolicy: {probation_seconds: 2, level_clear_seconds: 1, level_confirm_seconds: 0}\n"
)


@dataclass
class Node:
    """A node with eight scripted GPUs, its API server, and the agent on it."""

    folder: Path
    server: ApiServer
    gpus: ScriptedNode
    agent: AgentProcess

    def devices(self) -> dict[str, dict[str, Any]]:
        """Published devices by name."""
        return {
            entry["name"]: entry
            for part in self.agent.slices()
            for entry in part["spec"].get("devices") or []
        }

    def name(self, gpu: int) -> str:
        return "gpu-" + self.gpus.gpus[gpu].bus_id.replace(":", "-").replace(".", "-")

    def shows(self, gpu: int, state: str) -> bool:
        device = self.devices().get(self.name(gpu))
        return device is not None and device["attributes"]["health/state"]["string"] == state

    def writes(self) -> list[str]:
        return [
            entry.method
            for entry in self.server.requests.writes(resource="resourceslices")
            if "dryRun" not in entry.query
        ]

    def settle(self) -> None:
        self.agent.wait(
            lambda: len(self.devices()) == 8 and all(self.shows(gpu, "Healthy") for gpu in range(8))
        )


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as running:
        running.client("test").create(
            "nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"}}
        )
        yield running


@pytest.fixture
def node(server: ApiServer) -> Iterator[Node]:
    with tempfile.TemporaryDirectory(prefix="gv-", dir="/tmp") as made:
        folder = Path(made)
        gpus = ScriptedNode.create(folder, name="node-a")
        (folder / "node.yaml").write_text(POLICY)
        with agent(folder, server, gpus) as process:
            process.register()
            built = Node(folder, server, gpus, process)
            built.settle()
            yield built


def encoded(devices: dict[str, dict[str, Any]], without: str) -> dict[str, str]:
    return {name: json.dumps(device, sort_keys=True) for name, device in devices.items() if name != without}


def test_xid_79_takes_one_device_out_with_one_put_and_leaves_the_siblings_byte_identical(node: Node) -> None:
    before, writes = node.devices(), len(node.writes())
    node.gpus.off_bus(3)
    node.agent.wait(lambda: node.shows(3, "Unhealthy"))
    time.sleep(1.0)
    after = node.devices()

    failed = after[node.name(3)]
    assert failed["taints"][0]["effect"] == "NoSchedule"
    assert failed["attributes"]["health/score"] == {"int": 0}
    assert encoded(before, node.name(3)) == encoded(after, node.name(3))
    assert 1 <= len(node.writes()) - writes <= 2


def test_eight_faults_at_once_are_at_most_two_puts(node: Node) -> None:
    writes = len(node.writes())
    for gpu in range(8):
        node.gpus.xid(gpu, 79, "GPU has fallen off the bus.", event=False)
    node.agent.wait(lambda: all(node.shows(gpu, "Unhealthy") for gpu in range(8)))

    assert len(node.writes()) - writes <= 2


def test_a_gpu_lost_in_nvml_is_one_device_not_eight(node: Node) -> None:
    node.gpus.lose(5)
    node.agent.wait(lambda: node.shows(5, "Unhealthy"))

    assert sum(node.shows(gpu, "Healthy") for gpu in range(8)) == 7


def test_xid_94_degrades_and_evicts_nothing(node: Node) -> None:
    node.gpus.xid(2, 94, "Contained: SM (0x1). RST: No, D-RST: No", event=False)
    node.agent.wait(lambda: node.shows(2, "Degraded"))
    device = node.devices()[node.name(2)]

    assert device["attributes"]["health/score"]["int"] <= 90
    assert [taint["effect"] for taint in device["taints"]] == ["None"]


def test_noise_writes_nothing(node: Node) -> None:
    writes = len(node.writes())
    for step in range(10):
        node.gpus.set(1, {"thermal_margin_celsius": 20 + step, "ecc_corrected_volatile": step * 1000})
        node.gpus.xid(1, 13, "Graphics Exception", process="train", event=False)
        node.gpus.kernel_line("usb 1-2: new device")
        time.sleep(0.1)
    time.sleep(0.5)

    assert len(node.writes()) == writes


def test_a_killed_agent_still_knows_the_fault_and_keeps_the_taint_and_its_time(node: Node) -> None:
    node.gpus.off_bus(3)
    node.agent.wait(lambda: node.shows(3, "Unhealthy"))
    before = node.devices()[node.name(3)]
    node.agent.end(signal.SIGKILL)
    with agent(node.folder, node.server, node.gpus) as heir:
        heir.register()
        heir.wait(
            lambda: (
                "agent started"
                in (node.folder / "log").read_text(encoding="utf-8").rpartition("sockets open")[2]
            )
        )
        time.sleep(1.0)
        after = node.devices()[node.name(3)]

    assert after["taints"] == before["taints"]
    assert after["attributes"]["health/state"] == {"string": "Unhealthy"}


def test_an_observed_reset_brings_the_gpu_back_through_probation(node: Node) -> None:
    node.gpus.xid(4, 95, "Uncontained: LTC TAG (0x2, 0x1). RST: Yes, D-RST: No", event=False)
    node.agent.wait(lambda: node.shows(4, "Unhealthy"))
    node.gpus.reset(4)
    node.agent.wait(lambda: node.shows(4, "Degraded"))
    assert node.devices()[node.name(4)]["attributes"]["health/reason"] == {"string": "Probation"}
    node.agent.wait(lambda: node.shows(4, "Healthy"))

    assert "taints" not in node.devices()[node.name(4)]
