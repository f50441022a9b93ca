"""The real agent on a GPU that is divided under it: instances, their claims, and the writes of each change."""

import json
from collections.abc import Iterator

import pytest

from gpuvitals_sim.hardware.mig import capability_minors
from support.worlds.agent_node import AgentNode, agent_node, encoded, serving

pytestmark = pytest.mark.timeout(120)

GPU = 3


@pytest.fixture
def node() -> Iterator[AgentNode]:
    """Eight GPUs, of which the fourth is divided into instances 1, 7 and 8 while the agent runs."""
    with serving() as server, agent_node(server) as made:
        made.gpus.divide(GPU, "3g.40gb", "1g.10gb", "1g.10gb")
        made.agent.wait(lambda: len(made.devices()) == 10)
        yield made


def name(node: AgentNode, instance: int) -> str:
    """The first instance has the upper half of the GPU, those with the ids 7 and up a slice each from the lowest on."""
    place = "3g-40gb-4" if instance == 1 else f"1g-10gb-{instance - 7}"
    return f"{node.name(GPU)}-mig-{place}"


def state(node: AgentNode, instance: int) -> str:
    device = node.devices().get(name(node, instance))
    return "" if device is None else str(device["attributes"]["health/state"]["string"])


def spec_of(node: AgentNode, uid: str) -> dict[str, object]:
    (path,) = (node.folder / "cdi").glob(f"*{uid}.json")
    found: dict[str, object] = json.loads(path.read_text())
    return found


def test_a_gpu_gives_way_to_its_instances_in_one_write(node: AgentNode) -> None:
    devices = node.devices()
    assert node.name(GPU) not in devices
    shown = devices[name(node, 1)]
    assert {key: shown["attributes"][key]["string"] for key in ("type", "profile", "parentUUID")} == {
        "type": "mig",
        "profile": "3g.40gb",
        "parentUUID": node.gpus.gpus[GPU].uuid,
    }
    assert shown["capacity"]["memory"]["value"] == "40192Mi"
    assert shown["capacity"]["multiprocessors"]["value"] == "42"
    assert [state(node, instance) for instance in (1, 7, 8)] == ["Healthy"] * 3

    before = len(node.slice_writes())
    node.gpus.create_instance(GPU, "1g.10gb")
    node.agent.wait(lambda: state(node, 9) == "Healthy")
    assert len(node.slice_writes()) == before + 1


def test_two_claims_hold_instances_of_one_gpu_and_a_fault_of_one_is_its_alone(node: AgentNode) -> None:
    one = node.hold("one", GPU, "-mig-1g-10gb-0")
    two = node.hold("two", GPU, "-mig-1g-10gb-1")
    for claim, instance in ((one, 7), (two, 8)):
        (device,) = spec_of(node, claim.uid)["devices"]  # type: ignore[misc]  # JSON
        paths = [each["path"] for each in device["containerEdits"]["deviceNodes"]]
        caps = [f"/dev/nvidia-caps/nvidia-cap{minor}" for minor in capability_minors(GPU, instance)]
        assert paths == [f"/dev/nvidia{GPU}", *caps]

    before, writes = encoded(node.devices(), name(node, 8)), len(node.slice_writes())
    node.gpus.contained(GPU, 8, 94, "Contained: SM (0x1).")
    node.agent.wait(lambda: node.condition("two").get("reason") == "Xid94")
    node.agent.wait(lambda: state(node, 8) == "Degraded")
    assert encoded(node.devices(), name(node, 8)) == before
    assert len(node.slice_writes()) == writes + 1
    assert node.condition("one")["reason"] == "None"

    node.gpus.off_bus(GPU)
    node.agent.wait(lambda: [state(node, instance) for instance in (1, 7, 8)] == ["Unhealthy"] * 3)
    node.agent.wait(lambda: [node.condition(each)["status"] for each in ("one", "two")] == ["False"] * 2)
    assert all(node.shows(gpu, "Healthy") for gpu in range(8) if gpu != GPU)


def test_a_destroyed_instance_leaves_at_once_or_with_its_claim(node: AgentNode) -> None:
    node.hold("one", GPU, "-mig-1g-10gb-0")
    node.gpus.destroy_instance(GPU, 8)
    node.agent.wait(lambda: state(node, 8) == "")
    node.gpus.destroy_instance(GPU, 7)
    node.agent.wait(lambda: node.condition("one").get("reason") == "MigInstanceGone")
    node.agent.wait(lambda: state(node, 7) == "Unhealthy")
    assert node.condition("one")["status"] == "False"
    taints = node.devices()[name(node, 7)]["taints"]
    assert [(each["value"], each["effect"]) for each in taints] == [("MigInstanceGone", "NoSchedule")]
    assert state(node, 1) == "Healthy"

    node.gpus.create_instance(GPU, "1g.10gb")
    node.agent.wait(lambda: state(node, 7) == "Healthy")
    node.agent.wait(lambda: node.condition("one")["status"] == "True")
