"""A crash in C code: none in a cold start, and its stacks in the log after one."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.long_runs import share
from support.worlds.agent_node import AgentNode, agent_node, serving

COLD_STARTS = int(os.environ.get("GPUVITALS_COLD_STARTS", share(50)))
"""How often each interpreter starts the agent."""
PYTHONS = [each for each in os.environ.get("GPUVITALS_PYTHONS", "").split(os.pathsep) if each]
"""Interpreters that have the product's dependencies; none: the one that runs the tests."""


@pytest.fixture
def node() -> Iterator[AgentNode]:
    with serving() as server, agent_node(server) as made:
        yield made


def log(node: AgentNode) -> str:
    return (node.folder / "log").read_text(encoding="utf-8")


def worker(node: AgentNode) -> int:
    """The process id of the agent's NVML worker."""
    tasks = Path(f"/proc/{node.agent.process.pid}/task").glob("*/children")
    children = [child for task in tasks for child in task.read_text(encoding="ascii").split()]
    [found] = [
        int(child) for child in children if b"nvml_worker" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    return found


def test_an_agent_that_crashes_writes_the_stacks_of_its_threads_to_the_log(node: AgentNode) -> None:
    """Finding S1."""
    assert node.agent.end(signal.SIGSEGV) == -signal.SIGSEGV

    text = log(node)
    assert "Fatal Python error: Segmentation fault" in text
    assert "gpuvitals/wiring/node.py" in text
    assert "gpuvitals/node/agent.py" in text


def test_a_worker_that_crashes_writes_its_stacks_to_the_agents_log(node: AgentNode) -> None:
    """Finding S1."""
    os.kill(worker(node), signal.SIGSEGV)

    node.agent.wait(lambda: "gpuvitals/signals/nvml_worker/__main__.py" in log(node))
    assert "Fatal Python error: Segmentation fault" in log(node)


@pytest.mark.long
@pytest.mark.timeout(60 * COLD_STARTS)
@pytest.mark.parametrize("python", PYTHONS or [None])
def test_every_cold_start_publishes_the_gpus_and_ends_cleanly(python: str | None) -> None:
    """Finding S1."""
    for number in range(COLD_STARTS):
        with serving() as server, agent_node(server, python=python) as node:
            assert node.agent.end() == 0, f"start {number}: {log(node)}"
            assert "Fatal Python error" not in log(node)
