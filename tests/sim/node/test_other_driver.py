"""Another driver on the same GPUs: the real agent makes way, says so, and comes back by itself."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuvitals_sim.apiserver import ApiServer, Match
from gpuvitals_sim.hardware.scripted_node import ScriptedNode
from support.worlds.agent_node import POLICY, AgentNode, agent_node
from support.worlds.agent_process import SLICES, AgentProcess, agent

OTHER = "gpu.nvidia.com"
NOTE = "vitals.internal/node-report"


@pytest.fixture
def node(server: ApiServer) -> Iterator[AgentNode]:
    def look_often(folder: Path) -> None:
        (folder / "node.yaml").write_text(POLICY)

    with agent_node(server, look_often) as built:
        yield built


def publish(node: AgentNode, **attributes: str) -> None:
    """Another driver's slice on this node."""
    named = {key.replace("_", "/"): {"string": value} for key, value in attributes.items()}
    pool = {"name": "node-a", "generation": 1, "resourceSliceCount": 1}
    devices = [{"name": "gpu-0", "attributes": named}]
    spec = {"driver": OTHER, "nodeName": "node-a", "pool": pool, "devices": devices}
    node.agent.client.create(SLICES, {"metadata": {"name": "theirs"}, "spec": spec})


def own(node: AgentNode) -> dict[str, Any]:
    """The agent's one slice."""
    (found,) = [entry for entry in node.agent.slices() if entry["spec"]["driver"] != OTHER]
    return found


def names(node: AgentNode) -> list[str]:
    return [device["name"] for device in own(node)["spec"].get("devices") or []]


def report(node: AgentNode) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(own(node)["metadata"]["annotations"][NOTE])
    return read


def told(node: AgentNode, reason: str) -> bool:
    return any(event["reason"] == reason for event in node.agent.client.list("events"))


def test_a_foreign_slice_with_one_of_our_gpus_stops_publication_until_it_is_gone(
    node: AgentNode,
) -> None:
    before = names(node)
    node.hold("held", 1)
    publish(node, uuid=node.gpus.gpus[2].uuid)
    node.agent.wait(lambda: names(node) == [])
    assert report(node)["reasons"] == ["OtherDriver"]
    assert report(node)["otherDriver"] == f"driver {OTHER} publishes {node.gpus.gpus[2].uuid} as gpu-0"
    node.agent.wait(lambda: told(node, "OtherDriver"))
    assert node.condition("held")["status"] == "True"
    node.burst(3)
    node.agent.client.delete(SLICES, "theirs")
    node.agent.wait(lambda: sorted(names(node)) == sorted(before))
    node.agent.wait(lambda: node.shows(3, "Unhealthy"))
    assert "otherDriver" not in report(node)
    node.agent.wait(lambda: told(node, "OtherDriverGone"))


def test_allocatable_gpus_of_a_device_plugin_end_publication_until_they_are_gone(node: AgentNode) -> None:
    client = node.agent.client
    client.patch(
        "nodes", ("", "node-a"), {"status": {"allocatable": {"nvidia.com/gpu": "8"}}}, subresource="status"
    )
    node.agent.wait(lambda: names(node) == [])
    assert "8 nvidia.com/gpu" in report(node)["otherDriver"]
    client.patch(
        "nodes", ("", "node-a"), {"status": {"allocatable": {"nvidia.com/gpu": "0"}}}, subresource="status"
    )
    node.agent.wait(lambda: len(names(node)) == 8)


def test_an_agent_that_finds_the_other_driver_there_never_shows_a_device(server: ApiServer) -> None:
    """Not even if its GPUs are read long before the other driver is found."""
    client = server.client("test")
    server.faults.delay(2.0, match=Match(when=lambda request: "spec.driver%21%3D" in request.query))
    client.patch(
        "nodes", ("", "node-a"), {"status": {"allocatable": {"nvidia.com/gpu": "8"}}}, subresource="status"
    )
    with (
        client.watch(SLICES) as watch,
        tempfile.TemporaryDirectory(prefix="gv-", dir="/tmp") as made,
    ):
        folder = Path(made)
        gpus = ScriptedNode.create(folder, name="node-a")
        (folder / "node.yaml").write_text(POLICY)
        with agent(folder, server, gpus) as process:
            process.register()
            process.wait(lambda: reported_gpus(process) == 8)
        seen = []
        while (event := watch.next(timeout_seconds=0.2)) is not None:
            seen.append(event["object"]["spec"].get("devices") or [])
    assert seen
    assert not any(seen)


def reported_gpus(process: AgentProcess) -> int:
    """How many GPUs the node report tells of; 0 without one."""
    notes = [entry["metadata"]["annotations"].get(NOTE, "{}") for entry in process.slices()]
    return max((json.loads(note).get("gpus", 0) for note in notes), default=0)
