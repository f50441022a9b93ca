"""The real agent as a process: real sockets, the embedded API server, and a kubelet's first two calls."""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuvitals_sim.apiserver import ApiServer
from support.worlds.agent_process import SLICES, agent


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path: a socket's path has at most 107 bytes, and pytest's own are longer."""
    with tempfile.TemporaryDirectory(prefix="gv-", dir="/tmp") as made:
        yield Path(made)


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as running:
        running.client("test").create(
            "nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"}}
        )
        yield running


def test_an_agent_without_a_driver_registers_and_publishes_an_empty_slice(
    folder: Path, server: ApiServer
) -> None:
    with agent(folder, server) as running:
        info = running.register()
        running.wait(lambda: bool(running.slices()))
        stored = running.slices()[0]
        running.wait(
            lambda: (
                "driver-absent"
                in running.slices()[0]["metadata"]["annotations"]["vitals.internal/node-report"]
            )
        )
        code = running.end()

    assert (info.type, info.name) == ("DRAPlugin", "gpu.vitals.internal")
    assert list(info.supported_versions)[:2] == ["v1.DRAPlugin", "v1beta1.DRAPlugin"]
    assert stored["spec"]["nodeName"] == "node-a"
    assert not stored["spec"].get("devices")
    assert stored["metadata"]["ownerReferences"][0]["kind"] == "Node"
    assert code == 0


def test_slices_outlive_the_agent_and_its_sockets_do_not(folder: Path, server: ApiServer) -> None:
    with agent(folder, server) as running:
        running.register()
        running.wait(lambda: bool(running.slices()))
        running.end()

        assert running.slices()
        assert not list((folder / "registry").glob("*-reg.sock"))


def test_a_killed_agent_starts_again_over_its_own_leftovers(folder: Path, server: ApiServer) -> None:
    with agent(folder, server) as first:
        first.register()
        first.wait(lambda: bool(first.slices()))
        first.end(signal.SIGKILL)
    before = server.client("test").list(SLICES)[0]
    with agent(folder, server) as second:
        second.register()
        second.wait(lambda: (folder / "plugins" / "gpuvitals" / "health.json").exists())
        time.sleep(0.5)
        after = second.slices()

    assert [entry["metadata"]["uid"] for entry in after] == [before["metadata"]["uid"]]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--node-name", ""], "--node-name"),
        (
            ["--node-name", "a", "--state-dir", "{tmp}/x", "--registry-dir", "/nowhere"],
            "--registry-dir /nowhere",
        ),
        (["--node-name", "a", "--state-dir", "/nowhere/x"], "--state-dir /nowhere/x"),
        (
            ["--node-name", "a", "--state-dir", "{tmp}/x", "--registry-dir", "{tmp}", "--probe-address", "x"],
            "--probe-address x",
        ),
        (
            ["--node-name", "a", "--state-dir", "{tmp}/x", "--registry-dir", "{tmp}", "--config", "/no.yaml"],
            "--config /no.yaml",
        ),
    ],
)
def test_bad_flags_are_exit_code_2_and_one_line(tmp_path: Path, flags: list[str], named: str) -> None:
    command = [
        sys.executable,
        "-m",
        "gpuvitals.cli.main",
        "node",
        *(flag.format(tmp=tmp_path) for flag in flags),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert result.returncode == 2
    assert named in result.stderr
    assert result.stderr.count("\n") == 1


def test_every_log_line_is_one_json_object(folder: Path, server: ApiServer) -> None:
    with agent(folder, server) as running:
        running.register()
        running.end()

    lines = (folder / "log").read_text(encoding="utf-8").splitlines()
    assert lines
    assert all({"time", "level", "event"} <= json.loads(line).keys() for line in lines)
