"""Two agents on one node: one publishes, the other is on standby."""

import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.waiting import eventually
from support.worlds.agent_node import AgentNode, agent_node, serving
from support.worlds.agent_process import AgentProcess, agent

OLD, NEW = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
SOON = 20.0


@pytest.fixture
def node() -> Iterator[AgentNode]:
    with serving() as server, agent_node(server, pod_uid=OLD) as made:
        yield made


def readyz(port: int) -> str:
    """The body of the answer, for any code."""
    try:
        answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return str(answer.read(), "utf-8")


def instances(node: AgentNode) -> list[Path]:
    return sorted((node.folder / "plugins" / "gpuvitals").glob("instance-*.lock"))


def test_the_agent_that_stands_by_says_so_in_its_readiness(node: AgentNode) -> None:
    """Finding K7."""
    port = node.agent.probes()
    eventually(lambda: readyz(port) == "ok\n", SOON)
    with agent(node.folder, node.server, node.gpus, NEW) as newer:
        newer.register()
        eventually(lambda: readyz(port) == f"ok; stands by: agent {NEW} on this node publishes\n", SOON)
        newer_port = newer.probes()
        assert newer_port != port
        eventually(lambda: readyz(newer_port) == "ok\n", SOON)
        assert newer.end() == 0
    eventually(lambda: readyz(port) == "ok\n", SOON)


def test_the_older_agent_publishes_until_the_newer_one_is_ready(node: AgentNode) -> None:
    """Finding R18: the newer one stands still in its start, and a GPU fails meanwhile."""
    with agent(node.folder, node.server, node.gpus, NEW) as newer:
        eventually(lambda: len(instances(node)) == 2, SOON)
        os.kill(newer.process.pid, signal.SIGSTOP)
        try:
            assert instances(node)[1].stat().st_mode & 0o777 == 0o600
            node.gpus.xid(3, 79, "GPU has fallen off the bus.")
            node.agent.wait(lambda: node.shows(3, "Unhealthy"))
        finally:
            os.kill(newer.process.pid, signal.SIGCONT)
        newer.register()
        eventually(lambda: _is_standing_by(node.agent), SOON)
        node.gpus.xid(5, 79, "GPU has fallen off the bus.")
        newer.wait(lambda: node.shows(5, "Unhealthy"))


def _is_standing_by(process: AgentProcess) -> bool:
    return "handing over to a newer instance" in (process.folder / "log").read_text(encoding="utf-8")
