"""The agent with the real NVML binding over the mock library: the effect of one GPU's fault on the other seven."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuvitals_sim.apiserver import ApiServer
from support.fakes.nvml_mock import library
from support.worlds.agent_node import AgentNode, agent_node, encoded

pytestmark = pytest.mark.needs_cc

_AS_SHIPPED = "poll_seconds: 5\n"
_FORK_WATCH = """import os
os.register_at_fork(before=lambda: open({path!r}, "a").write(str(os.getpid()) + "\\n"))
"""


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def node(server: ApiServer, nvml: Path) -> Iterator[AgentNode]:
    with agent_node(server, _as_shipped, library=nvml) as built:
        yield built


def _as_shipped(folder: Path) -> None:
    (folder / "node.yaml").write_text(_AS_SHIPPED)


def inject(node: AgentNode, *facts: str) -> float:
    """Adds facts of the mock, as a person would; the instant."""
    faults = node.folder / "nvml.faults"
    before = faults.read_text() if faults.exists() else ""
    temporary = faults.with_suffix(".tmp")
    temporary.write_text(before + "".join(f"{fact}\n" for fact in facts))
    temporary.replace(faults)
    return time.monotonic()


def test_a_lost_gpu_leaves_service_within_a_second_and_its_siblings_stay(
    node: AgentNode,
) -> None:
    """The event wait fails without naming a GPU, and only NVML shows the fault: every GPU is probed."""
    before = encoded(node.devices(), without=node.name(3))
    injected = inject(node, "gpu 3 return 15", "waitfails 1000 15")
    node.agent.wait(lambda: node.shows(3, "Unhealthy"))
    seconds = time.monotonic() - injected
    time.sleep(1.5)

    device = node.devices()[node.name(3)]
    assert seconds < 1.0
    assert device["attributes"]["health/reason"] == {"string": "GpuLost"}
    assert [taint["effect"] for taint in device["taints"]] == ["NoSchedule"]
    assert encoded(node.devices(), without=node.name(3)) == before


def test_a_hung_gpu_delays_no_prepare_and_no_sibling(node: AgentNode) -> None:
    """Its own pod starts as fast as any other: nothing on a pod's way asks the driver."""
    before = encoded(node.devices(), without=node.name(6))
    inject(node, "gpu 6 hang 1")
    time.sleep(6.0)  # the first deadline has passed, the call is in flight
    for claim, gpu in (("hung", 6), ("beside", 5)):
        began = time.monotonic()
        node.hold(claim, gpu)
        assert time.monotonic() - began < 2.0
    node.agent.wait(lambda: node.shows(6, "Degraded"))

    assert node.devices()[node.name(6)]["attributes"]["health/reason"] == {"string": "NvmlHung"}
    assert encoded(node.devices(), without=node.name(6)) == before
    inject(node, "gpu 6 hang 0")


def test_the_worker_is_another_program_and_the_agent_never_forks(
    server: ApiServer, nvml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """grpc has no server that survives a fork: the worker is exec'd, and gets none of the agent's files."""
    forks = tmp_path / "forks"
    (tmp_path / "sitecustomize.py").write_text(_FORK_WATCH.format(path=str(forks)))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    subprocess.run([sys.executable, "-c", "import os; os.fork() or os._exit(0)"], check=True, timeout=30)
    assert forks.exists(), "the watch itself does not work"
    forks.unlink()
    with agent_node(server, _as_shipped, library=nvml) as node:
        first = _worker(node.agent.process.pid)
        files = {entry.name: os.readlink(entry) for entry in Path(f"/proc/{first}/fd").iterdir()}
        command = Path(f"/proc/{first}/cmdline").read_bytes().split(b"\0")
        os.kill(first, 9)
        node.agent.wait(lambda: _worker(node.agent.process.pid) not in (0, first))

    assert b"gpuvitals.signals.nvml_worker" in command
    assert {name for name, target in files.items() if target.startswith("socket:")} == set()
    assert {name for name, target in files.items() if target.startswith("pipe:")} <= {"0", "1", "3"}
    assert not forks.exists(), f"forked: {forks.read_text()}"


def _worker(agent: int) -> int:
    """The process ID of the agent's NVML worker, 0 if there is none."""
    children: list[str] = []
    for task in os.listdir(f"/proc/{agent}/task"):
        children += Path(f"/proc/{agent}/task/{task}/children").read_text(encoding="ascii").split()
    for child in children:
        try:
            if b"nvml_worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        except OSError:  # it ended in between
            continue
    return 0
