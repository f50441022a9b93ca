"""A node with eight scripted GPUs and the real agent on it, as a process against the embedded API server."""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuvitals.kube.policy_crd import policy_definition
from gpuvitals.proto import dra_v1_pb2 as dra
from gpuvitals_sim.apiserver import ApiServer
from gpuvitals_sim.apiserver.request_log import RequestFacts
from gpuvitals_sim.cluster.driver_objects import DEFINITIONS
from gpuvitals_sim.hardware.scripted_node import ScriptedNode
from support.worlds.agent_process import AgentProcess, agent
from support.worlds.plugin_world import Kubelet, channel

CLAIMS = "resourceclaims.resource.k8s.io"
DRIVER = "gpu.vitals.internal"
POLICY = (
    "poll_seconds: 0.2\n"
    "policy: {probation_seconds: 2, level_clear_seconds: 1, level_confirm_seconds: 0, publish_interval_seconds: 1}\n"
)


@dataclass
class AgentNode:
    """The node: injects faults and reads their effects."""

    folder: Path
    server: ApiServer
    gpus: ScriptedNode
    agent: AgentProcess
    endpoint: Path

    def devices(self) -> dict[str, dict[str, Any]]:
        """Published devices by name."""
        return devices_of(self.agent.slices())

    def name(self, gpu: int) -> str:
        return "gpu-" + self.gpus.gpus[gpu].bus_id.replace(":", "-").replace(".", "-")

    def shows(self, gpu: int, state: str) -> bool:
        device = self.devices().get(self.name(gpu))
        return device is not None and device["attributes"]["health/state"]["string"] == state

    def slice_writes(self) -> list[RequestFacts]:
        """Writes of slices that can have stored something, oldest first: a dry run can't."""
        entries = self.server.requests.writes(resource="resourceslices")
        return [entry for entry in entries if "dryRun" not in entry.query]

    def claim_writes(self, name: str) -> list[RequestFacts]:
        """The agent's writes of one claim's status."""
        entries = self.server.requests.writes(resource="resourceclaims")
        return [entry for entry in entries if entry.name == name and entry.method == "PATCH"]

    def settle(self) -> None:
        self.agent.wait(
            lambda: len(self.devices()) == 8 and all(self.shows(gpu, "Healthy") for gpu in range(8))
        )

    def allocate(self, name: str, held: str) -> dra.Claim:
        """A claim that the scheduler has allocated this device to, for a pod; not prepared yet."""
        client = self.server.client("test")
        request = {"name": "gpu", "exactly": {"deviceClassName": "gpu"}}
        claim = client.create(
            CLAIMS,
            {
                "apiVersion": "resource.k8s.io/v1",
                "kind": "ResourceClaim",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"devices": {"requests": [request]}},
            },
        )
        result = {"request": "gpu", "driver": DRIVER, "pool": "node-a", "device": held}
        claim["status"] = {
            "allocation": {"devices": {"results": [result]}},
            "reservedFor": [{"resource": "pods", "name": f"pod-{name}", "uid": f"pod-{name}"}],
        }
        uid = client.update_status(CLAIMS, claim)["metadata"]["uid"]
        return dra.Claim(namespace="default", name=name, uid=uid)

    def restart(self) -> None:
        """The agent ends and another one starts, as after an upgrade; after `gpus.reboot` it is on another boot."""
        self.agent.end()
        self.agent = AgentProcess(self.folder, self.server, self.gpus)
        self.endpoint = Path(self.agent.register().endpoint)

    def hold(self, name: str, gpu: int, instance: str = "") -> dra.Claim:
        """A claim that a pod holds, allocated to one GPU and prepared through the agent's own socket.

        `instance` is the end of a MIG instance's name: `-mig-1g-10gb-0`.
        """
        held = self.name(gpu) + instance
        wire = self.allocate(name, held)
        with channel(self.endpoint) as opened:
            answer = Kubelet(opened).prepare(wire)[wire.uid]
        assert answer.error == ""
        assert [device.device_name for device in answer.devices] == [held]
        self.agent.wait(lambda: self.condition(name)["status"] == "True")
        return wire

    def condition(self, name: str) -> dict[str, Any]:
        """The claim's `Healthy` condition; its status is empty while there is none."""
        status = self.server.client("test").get(CLAIMS, name, "default").get("status") or {}
        conditions = [entry for device in status.get("devices") or [] for entry in device["conditions"]]
        return next((entry for entry in conditions if entry["type"] == "Healthy"), {"status": ""})

    def burst(self, *gpus: int) -> None:
        """Three kernel lines, an NVML event and a lost handle for each GPU, as when they fall off the bus."""
        for number in gpus:
            script = self.gpus.gpus[number]
            self.gpus.xid(number, 79, "GPU has fallen off the bus.", event=False)
            self.gpus.kernel_line(f"NVRM: GPU {script.bus_id}: GPU has fallen off the bus.")
            self.gpus.kernel_line(f"NVRM: GPU {script.bus_id}: GPU serial number is {script.serial}.")
        for number in gpus:
            self.gpus.event(number, 79)
            self.gpus.lose(number)


def devices_of(slices: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The devices of slices by name."""
    return {entry["name"]: entry for part in slices for entry in part["spec"].get("devices") or []}


def encoded(devices: dict[str, dict[str, Any]], without: str = "") -> dict[str, str]:
    """Each device as text, but for one."""
    return {name: json.dumps(device, sort_keys=True) for name, device in devices.items() if name != without}


@contextmanager
def serving() -> Iterator[ApiServer]:
    """An API server that has the node."""
    with ApiServer() as running:
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"}}
        running.client("test").create("nodes", body)
        running.client("test").create(DEFINITIONS, policy_definition("vitals.internal"))
        yield running


@contextmanager
def agent_node(
    server: ApiServer,
    prepare: Callable[[Path], object] = lambda _: None,
    pod_uid: str = "",
    library: Path | None = None,
    python: str | None = None,
) -> Iterator[AgentNode]:
    """The node with its agent, all of whose GPUs are published as healthy. `prepare` is given the folder before it.

    `library` is the folder of a mock libnvidia-ml.so.1, with which the agent uses the real NVML binding.
    """
    with tempfile.TemporaryDirectory(prefix="gv-", dir="/tmp") as made:
        folder = Path(made)
        gpus = ScriptedNode.create(folder, name="node-a")
        (folder / "node.yaml").write_text(POLICY)
        prepare(folder)
        with agent(folder, server, gpus, pod_uid, library, python or sys.executable) as process:
            info = process.register()
            built = AgentNode(folder, server, gpus, process, Path(info.endpoint))
            built.settle()
            try:
                yield built
            finally:
                if built.agent.process.poll() is None:
                    built.agent.process.kill()
                    built.agent.process.wait(10)
