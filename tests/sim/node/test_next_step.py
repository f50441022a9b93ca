"""The next step in the claim's condition after a fault of the GPU."""

from gpuvitals.inventory.next_step import NEXT_STEP
from support.worlds.agent_node import AgentNode
from support.worlds.plugin_world import Kubelet, channel


def notes(node: AgentNode, reason: str, kind: str) -> list[str]:
    events = node.server.client("test").list("events")
    return [
        each.get("note") or each.get("message") or ""
        for each in events
        if each["reason"] == reason and (each.get("regarding") or each["involvedObject"])["kind"] == kind
    ]


def test_a_claim_whose_gpu_failed_and_one_that_is_refused_say_what_to_do_next(node: AgentNode) -> None:
    """Finding K8."""
    node.hold("train", 2)
    node.gpus.xid(2, 79, "GPU has fallen off the bus.")
    node.agent.wait(lambda: node.condition("train")["status"] == "False")

    assert node.condition("train")["message"].endswith(NEXT_STEP)
    node.agent.wait(lambda: notes(node, "GpuUnhealthy", "ResourceClaim"))
    (told,) = notes(node, "GpuUnhealthy", "ResourceClaim")
    assert told.endswith(NEXT_STEP)
    (on_node,) = notes(node, "GpuUnhealthy", "Node")
    assert NEXT_STEP not in on_node

    late = node.allocate("late", node.name(2))
    with channel(node.endpoint) as opened:
        assert Kubelet(opened).prepare(late)[late.uid].error.endswith(NEXT_STEP)
    node.agent.wait(lambda: notes(node, "DeviceUnhealthy", "ResourceClaim"))
    assert notes(node, "DeviceUnhealthy", "ResourceClaim")[0].endswith(NEXT_STEP)
