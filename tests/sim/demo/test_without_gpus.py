"""docs/guides/without-gpus.md tells the truth: the demo on the mock library, each fault of its table, its commands."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fakes.nvml_mock import library
from support.worlds.demo_process import kept, played, verb_output

pytestmark = [pytest.mark.needs_cc, pytest.mark.timeout(160)]

ROOT = Path(__file__).resolve().parents[3]
GUIDE = (ROOT / "docs" / "guides" / "without-gpus.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([^`]+)` \| [^|]+ \| (\w+) \| (\w+) \|$", re.MULTILINE)
STORY = "name: own\ndescription: d\nnodes: {count: 2, gpus: 8}\nsteps:\n- title: t\n  do:\n"
READY = "  - expect: {slices: {node: 1, devices: 8}, within: 20s}\n"


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def demo(nvml: Path, tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    story = tmp_path / "own.yaml"
    story.write_text(STORY + READY)
    with kept("--nvml-library", str(nvml), "--scenario", str(story)) as running:
        yield running


def blocks() -> list[str]:
    return re.findall(r"^```\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


def shown(folder: Path) -> list[tuple[str, str]]:
    """State and reason of the GPUs of node-1, in PCI order."""
    devices = json.loads(verb_output(["status", "--node", "node-1", "--json"], folder))["devices"]
    return [
        (device["health"]["state"], device["health"]["reason"])
        for device in sorted(devices, key=lambda each: each["device"])
    ]


def test_a_shipped_scenario_holds_on_the_real_binding(nvml: Path) -> None:
    ended = played("--nvml-library", str(nvml), "--scenario", "gpu-lost")

    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_each_line_of_the_table_comes_to_what_it_says(
    demo: tuple["subprocess.Popen[str]", Path],
) -> None:
    process, folder = demo
    rows = ROW.findall(GUIDE)
    assert len(rows) == 8
    wanted = [(state, reason) for _, state, reason in rows]
    (folder / "node-1" / "nvml.faults").write_text("".join(f"{fact}\n" for fact, _, _ in rows))
    deadline = time.monotonic() + 60
    while (found := shown(folder)) != wanted:
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    (folder / "node-1" / "nvml.faults").unlink()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


def test_the_commands_of_the_guide_work(demo: tuple["subprocess.Popen[str]", Path], nvml: Path) -> None:
    """Without the commands that start a second demo, and without kubectl."""
    process, folder = demo
    _, fault, inject, own = blocks()
    for command in (*fault.splitlines(), *inject.splitlines()):
        if not command.startswith("kubectl"):
            _run(command.replace("/tmp/gv-demo-ab12", str(folder)), folder)
    answer = _run(
        own.replace("$PWD/.cache/nvml-mock", str(nvml)).replace(".venv/bin/python", sys.executable), folder
    )
    process.send_signal(signal.SIGTERM)

    assert answer == "Tesla T4\n"
    assert process.wait(20) == 0


def _run(command: str, folder: Path) -> str:
    """The output of a command, with `gpuvitals` of this environment."""
    environment = {**os.environ, "KUBECONFIG": str(folder / "kubeconfig")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    ended = subprocess.run(
        ["bash", "-ec", command],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=environment,
        cwd=folder,
    )
    assert ended.returncode == 0, command + ended.stderr
    return ended.stdout
