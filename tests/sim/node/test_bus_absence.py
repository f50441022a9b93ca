"""The real agent on nodes whose sysfs shows less than NVML reads: a container without sysfs, WSL2, a bus that comes and goes."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpuvitals_sim.apiserver import ApiServer
from support.worlds.agent_node import AgentNode, agent_node, serving


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    with serving() as running:
        yield running


def buses(folder: Path) -> Path:
    return folder / "sys" / "bus" / "pci" / "devices"


def empty_bus(folder: Path) -> None:
    """As in WSL2: there is a bus, and no GPU on it."""
    for entry in buses(folder).iterdir():
        entry.unlink()


def other_devices(folder: Path) -> None:
    """A virtual machine's own devices only."""
    empty_bus(folder)
    bridge = buses(folder) / "0000:00:00.0"
    bridge.mkdir()
    (bridge / "class").write_text("0x060000\n")
    (bridge / "vendor").write_text("0x8086\n")


def without_sysfs(folder: Path) -> None:
    """A container in which sysfs is not mounted."""
    shutil.rmtree(folder / "sys")


def links_only(folder: Path) -> None:
    """Only `/sys/bus` is mounted: each link leads nowhere."""
    shutil.rmtree(folder / "sys" / "devices")


@pytest.mark.parametrize("shape", [empty_bus, other_devices, without_sysfs, links_only])
def test_gpus_that_the_bus_never_showed_stay_as_nvml_reads_them(
    server: ApiServer, shape: Callable[[Path], None]
) -> None:
    """Finding N3: absence is evidence only after presence was seen there."""
    with agent_node(server, shape) as node:
        node.agent.wait(lambda: bus_was_looked_at(node))
        node.gpus.xid(2, 94, "Contained memory error")
        node.agent.wait(lambda: not node.shows(2, "Healthy"))
        states = [node.shows(gpu, "Healthy") for gpu in range(8) if gpu != 2]

    assert states == [True] * 7


def bus_was_looked_at(node: AgentNode) -> bool:
    """Whether sysfs has looked for the GPUs: it has seen them, or has said that it sees none."""
    log = [json.loads(line) for line in (node.folder / "log").read_text(encoding="utf-8").splitlines()]
    blind = any(entry.get("source") == "sysfs" and entry.get("state") == "unreadable" for entry in log)
    recorded = node.agent.recording.read_text(encoding="utf-8") if node.agent.recording.exists() else ""
    return blind or '"PresenceReport"' in recorded


def test_a_gpu_that_leaves_the_bus_that_showed_it_is_lost(server: ApiServer) -> None:
    """Finding N3: the other side of the rule; its sibling that the bus never showed is not lost with it."""

    def hide_one(folder: Path) -> None:
        next(iter(sorted(buses(folder).iterdir()))).unlink()

    with agent_node(server, hide_one) as node:
        node.agent.wait(lambda: bus_was_looked_at(node))
        node.gpus.vanish(5)
        node.agent.wait(lambda: node.shows(5, "Unhealthy"))
        assert node.shows(0, "Healthy")
        assert node.devices()[node.name(5)]["attributes"]["health/reason"] == {"string": "GpuLost"}
