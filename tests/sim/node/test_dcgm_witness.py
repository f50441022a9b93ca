"""The DCGM exporter beside the live agent: it corroborates, its absence is reported if it is expected, and so is a bad address."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuvitals_sim.apiserver import ApiServer
from support.fakes.dcgm_exporter import Exporter, exporting
from support.worlds.agent_node import AgentNode, agent_node


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    with exporting() as running:
        yield running


@pytest.fixture
def node(server: ApiServer, exporter: Exporter) -> Iterator[AgentNode]:
    def configured(folder: Path) -> None:
        with (folder / "node.yaml").open("a", encoding="utf-8") as file:
            file.write(f"dcgm_url: {exporter.url}\n")

    with agent_node(server, configured) as built:
        yield built


def report(node: AgentNode) -> dict[str, object]:
    first = node.agent.slices()[0]
    found: dict[str, object] = json.loads(first["metadata"]["annotations"]["vitals.internal/node-report"])
    return found


def test_a_missing_exporter_is_a_fact_of_the_node_and_of_its_coverage(
    node: AgentNode, exporter: Exporter
) -> None:
    def sees(state: str) -> bool:
        monitors = report(node)["monitors"]
        assert isinstance(monitors, dict)
        return monitors.get("dcgm") == state

    node.agent.wait(lambda: sees("unresponsive"))
    assert "is this the DCGM exporter?" in str(
        [each.get("message") for each in node.server.client("test").list("events")]
    )
    attributes = node.devices()[node.name(0)]["attributes"]

    assert attributes["health/coverage"]["int"] < 100
    assert attributes["health/state"] == {"string": "Healthy"}


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose name leaves room for those of sockets."""
    with tempfile.TemporaryDirectory(prefix="gv-", dir="/tmp") as made:
        yield Path(made)


def test_a_foreign_address_is_refused_at_the_start(short: Path) -> None:
    config = short / "node.yaml"
    config.write_text("dcgm_url: http://192.0.2.1:9400/metrics\n")
    for name in ("registry", "plugins", "cdi"):
        (short / name).mkdir()
    flags = {
        "--node-name": "node-a",
        "--server": "http://127.0.0.1:9",
        "--state-dir": short / "plugins" / "gpuvitals",
        "--registry-dir": short / "registry",
        "--cdi-dir": short / "cdi",
        "--config": config,
    }
    given = [str(part) for flag in flags.items() for part in flag]
    done = subprocess.run(
        [sys.executable, "-m", "gpuvitals.cli.main", "node", *given],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 2
    assert "dcgm_url http://192.0.2.1:9400/metrics: 192.0.2.1 is neither loopback" in done.stderr
