"""The real agent on a node whose boards are replaced, divided and forgotten: the state of slices and claims."""

import json
import re
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

from support.guide_blocks import blocks
from support.worlds.agent_node import CLAIMS, AgentNode
from support.worlds.plugin_world import Kubelet, channel

GPU = 5
SIBLING = 2


def uuid_of(node: AgentNode, gpu: int) -> str:
    device = node.devices().get(node.name(gpu))
    return "" if device is None else str(device["attributes"]["uuid"]["string"])


def prepared(node: AgentNode, name: str, held: str) -> str:
    """The error of preparing a claim that is allocated this device, empty for none."""
    wire = node.allocate(name, held)
    with channel(node.endpoint) as opened:
        return str(Kubelet(opened).prepare(wire)[wire.uid].error)


def verb(node: AgentNode, *arguments: str) -> tuple[int, str]:
    state = node.folder / "plugins" / "gpuvitals"
    command = [sys.executable, "-m", "gpuvitals.cli.main", *arguments, "--agent", str(state)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout + done.stderr


def metric(node: AgentNode, name: str) -> float:
    address = f"http://127.0.0.1:{node.agent.probes()}/metrics"
    with urllib.request.urlopen(address, timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def test_a_board_replaced_at_a_reboot_is_one_device_and_hides_no_fault(node: AgentNode) -> None:
    """Findings R1 and N1."""
    node.gpus.off_bus(GPU)
    node.agent.wait(lambda: node.shows(GPU, "Unhealthy"))
    old = node.gpus.gpus[GPU].uuid
    new = node.gpus.replace_board(GPU)
    node.gpus.reboot()
    node.restart()
    node.agent.wait(lambda: uuid_of(node, GPU) == new and node.shows(GPU, "Healthy"))
    assert len(node.devices()) == 8

    node.gpus.off_bus(SIBLING)
    node.agent.wait(lambda: node.shows(SIBLING, "Unhealthy"))
    assert node.shows(GPU, "Healthy")
    report = json.loads(node.agent.slices()[0]["metadata"]["annotations"]["vitals.internal/node-report"])
    assert (report["retiredGpus"], report["gpus"]) == ([old], 8)

    code, said = verb(node, "forget", new)
    assert (code, "only a GPU that is gone can be forgotten" in said) == (1, True)
    code, said = verb(node, "forget", "GPU-none")
    assert (code, old in said) == (1, True)
    # The page's one block, with the UUID that this node's report lists.
    (block,) = blocks("docs/guides/replace-a-gpu.md")
    kubectl, _, command = block.text.partition(" -- ")
    assert kubectl.startswith("kubectl -n gpuvitals exec ")
    program, *arguments = shlex.split(re.sub(r"GPU-[0-9a-f-]+", old, command))
    assert program == "gpuvitals"
    assert verb(node, *arguments) == (0, f"gpu {old} is forgotten\n")
    node.restart()
    node.agent.wait(
        lambda: (
            "retiredGpus"
            not in node.agent.slices()[0]["metadata"]["annotations"]["vitals.internal/node-report"]
        )
    )
    assert old not in (node.folder / "plugins" / "gpuvitals" / "health.json").read_text(errors="replace")


def test_a_board_replaced_under_its_claim_is_told_to_the_claim(node: AgentNode) -> None:
    """Findings R1 and N1: the board is swapped on the same boot, so that the checkpoint still holds the claim."""
    node.hold("train", GPU)
    old = node.gpus.gpus[GPU].uuid
    new = node.gpus.replace_board(GPU)
    node.restart()
    node.agent.wait(lambda: uuid_of(node, GPU) == new)
    node.agent.wait(lambda: node.condition("train").get("reason") == "GpuReplaced")
    assert node.condition("train")["status"] == "False"
    (entry,) = node.server.client("test").get(CLAIMS, "train", "default")["status"]["devices"]
    assert (entry["device"], entry["data"]["uuid"]) == (node.name(GPU), old)
    code, said = verb(node, "forget", old)
    assert (code, "is held by the claims" in said) == (1, True)
    assert prepared(node, "other", node.name(GPU)).startswith("DeviceInUse: ")


def test_a_claim_of_the_board_before_is_refused_after_the_reboot(node: AgentNode) -> None:
    """Finding N1: the checkpoint is void on another boot; the claim's own status says on which board it was."""
    wire = node.hold("train", GPU)
    node.gpus.replace_board(GPU)
    node.gpus.reboot()
    node.restart()
    node.agent.wait(lambda: node.shows(GPU, "Healthy"))
    with channel(node.endpoint) as opened:
        error = Kubelet(opened).prepare(wire)[wire.uid].error
    assert error.startswith("DeviceReplaced: ")
    assert prepared(node, "new", node.name(GPU)) == ""


def test_a_claim_is_not_prepared_on_an_instance_of_another_size(node: AgentNode) -> None:
    """Finding P3: the GPU is divided otherwise after a reboot; divided as before, the claim has its instance again."""
    node.gpus.divide(GPU, "3g.40gb", "1g.10gb")
    node.agent.wait(lambda: node.name(GPU) + "-mig-3g-40gb-4" in node.devices())
    wire = node.hold("train", GPU, "-mig-3g-40gb-4")
    node.gpus.divide(GPU, "2g.20gb", "2g.20gb", "1g.10gb")
    node.gpus.reboot()
    node.restart()
    node.agent.wait(lambda: node.name(GPU) + "-mig-2g-20gb-0" in node.devices())
    with channel(node.endpoint) as opened:
        error = Kubelet(opened).prepare(wire)[wire.uid].error
    assert error.startswith("UnknownDevice: ")
    assert "-mig-2g-20gb-2" in error

    node.gpus.divide(GPU, "1g.10gb", "3g.40gb")
    node.agent.wait(lambda: node.name(GPU) + "-mig-3g-40gb-4" in node.devices())
    with channel(node.endpoint) as opened:
        assert Kubelet(opened).prepare(wire)[wire.uid].error == ""


def test_mig_enabled_under_a_claim_is_told_and_its_instances_wait(node: AgentNode) -> None:
    """Finding P6."""
    wire = node.hold("whole", GPU)
    node.gpus.divide(GPU, "1g.10gb", "1g.10gb")
    node.agent.wait(lambda: node.condition("whole").get("reason") == "MigEnabled")
    assert node.condition("whole")["status"] == "False"
    part = node.name(GPU) + "-mig-1g-10gb-0"
    assert part not in node.devices()
    assert node.name(GPU) not in node.devices()
    assert "a claim holds the whole GPU" in prepared(node, "part", part)

    with channel(node.endpoint) as opened:
        Kubelet(opened).unprepare(wire)
    node.agent.wait(lambda: part in node.devices())
    assert prepared(node, "next", part) == ""


def test_a_gpu_is_not_offered_whole_while_a_claim_holds_an_instance(node: AgentNode) -> None:
    """Finding P6, the other way round."""
    node.gpus.divide(GPU, "1g.10gb")
    node.agent.wait(lambda: node.name(GPU) + "-mig-1g-10gb-0" in node.devices())
    wire = node.hold("part", GPU, "-mig-1g-10gb-0")
    node.gpus.undivide(GPU)
    node.agent.wait(lambda: node.condition("part").get("status") == "False")
    assert node.name(GPU) not in node.devices()
    assert "a claim holds a MIG instance" in prepared(node, "whole", node.name(GPU))

    with channel(node.endpoint) as opened:
        Kubelet(opened).unprepare(wire)
    node.agent.wait(lambda: node.shows(GPU, "Healthy"))


def test_no_worker_is_spent_on_a_gpu_that_was_replaced(node: AgentNode) -> None:
    """Findings R1 and N1: each look for a phantom cost a worker, once a minute."""
    old = node.gpus.gpus[GPU].uuid
    node.gpus.replace_board(GPU)
    node.restart()
    node.agent.wait(lambda: uuid_of(node, GPU) not in ("", old))
    log = [json.loads(line) for line in (Path(node.folder) / "log").read_text().splitlines()]
    assert any(entry["event"] == "gpu not looked for any more" and entry.get("gpu") == old for entry in log)
    assert metric(node, "gpuvitals_devices_left_out") == 0
