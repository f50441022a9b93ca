"""One fault walks the whole way through the real agent: kernel line in, slice out, and nothing else moves."""

import signal
import time

import pytest

from support.worlds.agent_node import AgentNode
from support.worlds.agent_process import agent


def test_a_gpu_lost_in_nvml_is_one_device_not_eight(node: AgentNode) -> None:
    node.gpus.lose(5)
    node.agent.wait(lambda: node.shows(5, "Unhealthy"))

    assert sum(node.shows(gpu, "Healthy") for gpu in range(8)) == 7


def test_xid_94_degrades_and_evicts_nothing(node: AgentNode) -> None:
    node.gpus.xid(2, 94, "Contained: SM (0x1). RST: No, D-RST: No", event=False)
    node.agent.wait(lambda: node.shows(2, "Degraded"))
    device = node.devices()[node.name(2)]

    assert device["attributes"]["health/score"]["int"] <= 90
    assert [taint["effect"] for taint in device["taints"]] == ["None"]


def test_noise_writes_nothing(node: AgentNode) -> None:
    writes = len(node.slice_writes())
    for step in range(10):
        node.gpus.set(1, {"thermal_margin_celsius": 20 + step, "ecc_corrected_volatile": step * 1000})
        node.gpus.xid(1, 13, "Graphics Exception", process="train", event=False)
        node.gpus.kernel_line("usb 1-2: new device")
        time.sleep(0.1)
    time.sleep(0.5)

    assert len(node.slice_writes()) == writes


def test_a_killed_agent_still_knows_the_fault_and_keeps_the_taint_and_its_time(node: AgentNode) -> None:
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


def test_an_observed_reset_brings_the_gpu_back_through_probation(node: AgentNode) -> None:
    node.gpus.xid(4, 95, "Uncontained: LTC TAG (0x2, 0x1). RST: Yes, D-RST: No", event=False)
    node.agent.wait(lambda: node.shows(4, "Unhealthy"))
    node.gpus.reset(4)
    node.agent.wait(lambda: node.shows(4, "Degraded"))
    assert node.devices()[node.name(4)]["attributes"]["health/reason"] == {"string": "Probation"}
    node.agent.wait(lambda: node.shows(4, "Healthy"))

    assert "taints" not in node.devices()[node.name(4)]


@pytest.mark.parametrize("lag", [200.0, 3600.0])
def test_a_fault_after_a_reset_isolates_although_the_kernel_logs_clock_lags(
    node: AgentNode, lag: float
) -> None:
    """Finding R3: the stamp of the second fault is older than the reset that repaired the first one."""
    said = "Uncontained: LTC TAG (0x2, 0x1). RST: Yes, D-RST: No"
    node.gpus.xid(4, 95, said, event=False)
    node.agent.wait(lambda: node.shows(4, "Unhealthy"))
    node.gpus.reset(4)
    node.agent.wait(lambda: node.shows(4, "Degraded"))
    log = node.folder / "kmsg"
    newest = int(log.read_text(encoding="ascii").splitlines()[-1].split(",")[1])
    stamp = max(1, round((time.clock_gettime(time.CLOCK_BOOTTIME) - lag) * 1e6))
    bus = node.name(4).removeprefix("gpu-").rpartition("-")[0].replace("-", ":")
    with log.open("a", encoding="ascii") as file:
        file.write(f"4,{newest + 1},{stamp},c;NVRM: Xid (PCI:{bus}): 95, pid=7, name=x, {said}\n")

    node.agent.wait(lambda: node.shows(4, "Unhealthy"))
