"""A GPUHealthPolicy on the live agent: the effect of a mode on slices and claims, its delay, and its writes."""

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from gpuvitals.proto import dra_v1_pb2 as dra
from gpuvitals_sim.apiserver import ApiServer
from support.worlds.agent_node import AgentNode, encoded, serving
from support.worlds.agent_process import agent
from support.worlds.plugin_world import Kubelet, channel

POLICIES = "gpuhealthpolicies.vitals.internal"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with serving() as running:
        running.client("admin").create(POLICIES, policy("Observe"))
        yield running


def policy(mode: str) -> dict[str, Any]:
    return {
        "apiVersion": "vitals.internal/v1alpha1",
        "kind": "GPUHealthPolicy",
        "metadata": {"name": "fleet"},
        "spec": {"mode": mode},
    }


def switch(node: AgentNode, mode: str) -> None:
    client = node.server.client("admin")
    client.update(POLICIES, {**client.get(POLICIES, "fleet"), "spec": {"mode": mode}})


def effects(node: AgentNode, gpu: int) -> list[str]:
    return [taint["effect"] for taint in node.devices()[node.name(gpu)].get("taints") or []]


def test_observe_shows_the_fault_and_neither_isolates_nor_refuses(node: AgentNode) -> None:
    node.gpus.off_bus(3)
    node.agent.wait(lambda: node.shows(3, "Unhealthy"))

    assert effects(node, 3) == ["None"]
    assert prepared(node, "train", 3) == ""


def test_a_switch_on_the_live_agent_is_one_write_and_leaves_the_siblings(node: AgentNode) -> None:
    node.gpus.off_bus(3)
    node.agent.wait(lambda: node.shows(3, "Unhealthy"))
    before, writes = encoded(node.devices(), node.name(3)), len(node.slice_writes())
    switch(node, "Isolate")
    node.agent.wait(lambda: effects(node, 3) == ["NoSchedule"])

    assert encoded(node.devices(), node.name(3)) == before
    assert len(node.slice_writes()) == writes + 1
    assert "Unhealthy (Xid79)" in prepared(node, "late", 3)
    switch(node, "Observe")
    node.agent.wait(lambda: effects(node, 3) == ["None"])
    assert len(node.slice_writes()) == writes + 2


def test_policies_are_kept_for_the_next_agent_and_end_when_they_are_deleted(node: AgentNode) -> None:
    kept = node.folder / "plugins" / "gpuvitals" / "policies.json"
    node.agent.wait(kept.exists)
    node.agent.end(signal.SIGKILL)
    node.gpus.off_bus(3)

    assert json.loads(kept.read_text())["payload"]["rules"]["fleet"]["mode"] == "Observe"
    with agent(node.folder, node.server, node.gpus) as heir:
        heir.register()
        heir.wait(lambda: node.shows(3, "Unhealthy"))
        assert effects(node, 3) == ["None"]
        node.server.client("admin").delete(POLICIES, "fleet")
        heir.wait(lambda: effects(node, 3) == ["NoSchedule"])


def prepared(node: AgentNode, name: str, gpu: int) -> str:
    """The error of preparing a new claim on that GPU; empty on success."""
    client = node.server.client("test")
    request = {"name": "gpu", "exactly": {"deviceClassName": "gpu"}}
    claim = client.create(
        "resourceclaims.resource.k8s.io",
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"devices": {"requests": [request]}},
        },
    )
    result = {
        "request": "gpu",
        "driver": "gpu.vitals.internal",
        "pool": "node-a",
        "device": node.name(gpu),
    }
    claim["status"] = {"allocation": {"devices": {"results": [result]}}}
    uid = client.update_status("resourceclaims.resource.k8s.io", claim)["metadata"]["uid"]
    with channel(node.endpoint) as opened:
        return str(Kubelet(opened).prepare(dra.Claim(namespace="default", name=name, uid=uid))[uid].error)
