"""A failed GPU stays out of service through a rollback, a spoiled file and a moved folder, as a user meets them."""

import json
import shutil
import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpuvitals.durable import DurableFile
from gpuvitals_sim.apiserver import ApiServer
from support.worlds.agent_node import AgentNode, agent_node, serving
from support.worlds.agent_process import AgentProcess

SICK = 3
EVENTS = "events.events.k8s.io"


def is_ready(process: AgentProcess) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{process.probes()}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, TimeoutError):
        return False


def restarted(node: AgentNode, change: Callable[[Path], object]) -> AgentProcess:
    """Kills the agent, changes its state folder, and starts the next one, which is ready when this returns."""
    node.agent.end(signal.SIGKILL)
    change(node.folder / "plugins" / "gpuvitals")
    (node.folder / "log").unlink()
    process = AgentProcess(node.folder, node.server, node.gpus)
    process.register()
    process.wait(lambda: is_ready(process))
    return process


def newer(state: Path) -> None:
    """A newer version has run, and the node was rolled back to this one."""
    file = DurableFile(state / "health.json")
    payload = file.load().payload
    assert payload is not None
    document = json.loads(payload)
    document["schema"] += 1
    for entry in document["node"]["gpus"]:
        for fault in entry["state"]["faults"]:
            fault["rule"]["clearing"] = "word-of-a-newer-version"
    file.save(json.dumps(document).encode())


def directories(state: Path) -> None:
    """Something made folders in the place of every state file."""
    for name in (
        "health.json",
        "health.json.2",
        "health.journal",
        "taints.json",
        "policies.json",
        "statements.json",
    ):
        (state / name).unlink(missing_ok=True)
        (state / name).mkdir()


def moved(state: Path) -> None:
    """Another state folder, with the prepared claims of the old one."""
    for path in state.iterdir():
        if path.name.startswith(("health", "taints", "policies", "statements")):
            path.unlink()


def emptied(state: Path) -> None:
    """Nothing is left at all."""
    shutil.rmtree(state)
    state.mkdir(mode=0o700)


def taints(devices: dict[str, dict[str, Any]], name: str) -> list[tuple[str, str]]:
    return [(each["effect"], each["value"]) for each in devices[name].get("taints") or []]


@pytest.mark.parametrize("change", [newer, directories, moved, emptied])
def test_a_gpu_with_xid_95_stays_out_of_service(change: Callable[[Path], object]) -> None:
    """Finding K4, Finding R10: on the same boot, with readings that are clean, and with one write at most."""
    with serving() as server, agent_node(server) as node:
        node.gpus.xid(SICK, 95, "Uncontained: LTC TAG (0x2,0x0). RST: Yes, D-RST: No")
        node.agent.wait(lambda: node.shows(SICK, "Unhealthy"))
        writes = len(node.slice_writes())
        heir = restarted(node, change)
        try:
            name = node.name(SICK)
            assert taints(node.devices(), name) == [("NoSchedule", "Xid95")]
            assert all(node.shows(gpu, "Healthy") for gpu in range(8) if gpu != SICK)
            assert len(node.slice_writes()) - writes <= 1
            if change in (newer, directories):
                heir.wait(lambda: bool(recovered(server)))
        finally:
            heir.end(signal.SIGKILL)


def recovered(server: ApiServer) -> list[str]:
    listed = server.client("test").list(EVENTS)
    return [each["note"] for each in listed if each["reason"] == "HealthStateRecovered"]


def test_the_event_of_a_rollback_names_both_versions() -> None:
    """Finding K4: and the file of the newer version is not touched."""
    with serving() as server, agent_node(server) as node:
        node.gpus.xid(SICK, 95, "Uncontained: LTC TAG (0x2,0x0). RST: Yes, D-RST: No")
        node.agent.wait(lambda: node.shows(SICK, "Unhealthy"))
        heir = restarted(node, newer)
        try:
            heir.wait(lambda: bool(recovered(server)))
            (note,) = recovered(server)
            assert "health.json" in note
            assert "schema 2" in note
            assert "schema 1" in note
            state = node.folder / "plugins" / "gpuvitals"
            assert b'"schema": 2' in (DurableFile(state / "health.json").load().payload or b"")
        finally:
            heir.end(signal.SIGKILL)


def test_the_event_of_a_rollback_waits_until_its_agent_may_publish() -> None:
    """Finding K4: in a rolling update the older version starts while the newer one still speaks for the node."""
    with serving() as server, agent_node(server, pod_uid="newer") as node:
        node.gpus.xid(SICK, 95, "Uncontained: LTC TAG (0x2,0x0). RST: Yes, D-RST: No")
        node.agent.wait(lambda: node.shows(SICK, "Unhealthy"))
        newer(node.folder / "plugins" / "gpuvitals")
        older = AgentProcess(node.folder, node.server, node.gpus, "older")
        try:
            older.register()
            older.wait(lambda: '"event": "state recovered"' in (node.folder / "log").read_text())
            assert recovered(server) == []
            node.agent.end(signal.SIGKILL)
            older.wait(lambda: bool(recovered(server)))
            older.wait(lambda: is_ready(older))

            assert taints(node.devices(), node.name(SICK)) == [("NoSchedule", "Xid95")]
        finally:
            older.end(signal.SIGKILL)
