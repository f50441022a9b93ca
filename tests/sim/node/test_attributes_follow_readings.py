"""Every health attribute is a reading and no constant: each changes with its reading, on its own GPU."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from gpuvitals_sim.hardware.profiles import PROFILES
from gpuvitals_sim.hardware.scripted_node import ScriptedNode
from support.fakes.nvml_mock import library
from support.worlds.agent_node import POLICY, AgentNode, agent_node, serving

HEALTHY = {
    "score": 100,
    "class": "high",
    "state": "Healthy",
    "reason": "None",
    "xidErrors": 0,
    "lastXid": 0,
    "nvlinkStatus": "active",
    "nvlinkBandwidthPercent": 100,
    "eccUncorrected": 0,
    "rowRemap": "none",
    "recoveryAction": "None",
    "coverage": 100,
}


def health(node: AgentNode, gpu: int) -> dict[str, Any]:
    """The health attributes of a published GPU, without their domain and type."""
    attributes = node.devices()[node.name(gpu)]["attributes"]
    return {
        key.removeprefix("health/"): next(iter(value.values()))
        for key, value in attributes.items()
        if key.startswith("health/")
    }


def changed(node: AgentNode, gpu: int) -> dict[str, Any]:
    shown = health(node, gpu)
    assert shown.keys() == HEALTHY.keys()
    return {key: value for key, value in shown.items() if value != HEALTHY[key]}


def test_each_attribute_follows_its_reading_and_the_untouched_gpu_follows_none(node: AgentNode) -> None:
    assert all(changed(node, gpu) == {} for gpu in range(8))
    node.gpus.set(1, {"links_down": 1})
    node.gpus.set(2, {"ecc_uncorrected_volatile": 4, "ecc_uncorrected_aggregate": 4})
    node.gpus.set(3, {"remap_pending": True})
    node.gpus.set(4, {"recovery_action": 1})
    node.gpus.set(5, {"links_down": 10})
    node.gpus.set(6, {"links_down": 1, "thermal_margin_celsius": None, "fabric": None})
    node.gpus.xid(7, 94, "Contained: SM (0x1). RST: No, D-RST: No")
    wanted = {
        1: {"nvlinkStatus": "degraded", "nvlinkBandwidthPercent": 94, "state": "Degraded"},
        2: {"eccUncorrected": 4},
        3: {"rowRemap": "pending", "state": "Degraded"},
        4: {"recoveryAction": "ResetGpu", "state": "Unhealthy", "score": 0, "class": "failed"},
        5: {"nvlinkStatus": "down", "nvlinkBandwidthPercent": 44},
        6: {"nvlinkStatus": "degraded", "nvlinkBandwidthPercent": 94, "coverage": 80},
        7: {"lastXid": 94, "xidErrors": 1, "reason": "Xid94", "state": "Degraded"},
    }
    for gpu, attributes in wanted.items():
        node.agent.wait(lambda gpu=gpu, want=attributes: want.items() <= changed(node, gpu).items())

    for gpu in (1, 2, 3, 5, 6, 7):
        assert 0 < health(node, gpu)["score"] <= 90
        assert health(node, gpu)["reason"] != "None"
    assert changed(node, 0) == {}


def test_a_reading_that_is_gone_is_unknown_and_never_zero_or_well(node: AgentNode) -> None:
    lost = ("links", "recovery_action", "remap_pending", "remap_failed")
    node.gpus.set(2, dict.fromkeys(lost))
    node.agent.wait(lambda: changed(node, 2) != {})
    shown = health(node, 2)

    assert (shown["nvlinkStatus"], shown["rowRemap"], shown["recoveryAction"]) == (
        "unknown",
        "unknown",
        "Unknown",
    )
    assert shown["coverage"] < 100
    assert changed(node, 0) == {}


@pytest.mark.needs_cc
@pytest.mark.parametrize("profile", ["a100", "l40s", "t4", "b200"])
def test_a_healthy_gpu_of_each_model_is_fully_covered(profile: str, tmp_path: Path) -> None:
    """Finding N7: through the real binding, with NOT_SUPPORTED for values that the model lacks."""

    def other_model(folder: Path) -> None:
        shutil.rmtree(folder)
        ScriptedNode.create(folder, name="node-a", profile=profile)
        (folder / "node.yaml").write_text(POLICY)

    with serving() as server, agent_node(server, other_model, library=library(tmp_path)) as node:
        covered = {health(node, gpu)["coverage"] for gpu in range(8)}
        products = {device["attributes"]["productName"]["string"] for device in node.devices().values()}

    assert covered == {100}
    assert products == {PROFILES[profile].product_name}
