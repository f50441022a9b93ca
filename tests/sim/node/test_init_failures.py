"""A GPU that the driver could not initialise, on the live agent."""

from support.worlds.agent_node import AgentNode, encoded


def test_the_kernels_line_takes_that_gpu_out_of_service_and_no_other(node: AgentNode) -> None:
    """Finding L5."""
    node.hold("train", 3)
    before = encoded(node.devices(), node.name(3))
    bus_id = node.gpus.gpus[3].bus_id
    node.gpus.kernel_line(f"NVRM: GPU {bus_id}: RmInitAdapter failed! (0x24:0x1c:1603)")
    node.agent.wait(lambda: node.shows(3, "Unhealthy"))
    node.agent.wait(lambda: node.condition("train")["status"] == "False")

    assert node.condition("train")["reason"] == "InitFailed"
    assert encoded(node.devices(), node.name(3)) == before
