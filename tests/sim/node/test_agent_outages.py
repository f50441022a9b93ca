"""The agent while its neighbours fail: the API server, the kubelet, and whoever stops it."""

import itertools
import os
import signal
import time
import urllib.request
from contextlib import ExitStack

from gpuvitals.proto import dra_health_v1_pb2
from gpuvitals.proto.dra_health_v1_pb2_grpc import DRAResourceHealthStub
from gpuvitals_sim.apiserver import ApiServer, Match
from support.worlds.agent_node import AgentNode, agent_node
from support.worlds.agent_process import SLICES, agent
from support.worlds.plugin_world import channel

UPDATES = Match(resource="resourceslices", verbs=("update",))


def wipe(node: AgentNode) -> None:
    """Deletes the node's slices, as a kubelet does at its start."""
    for entry in node.agent.slices():
        node.agent.client.delete(SLICES, entry["metadata"]["name"])


def held(node: AgentNode) -> tuple[int, int]:
    """Open files and threads of the agent."""
    process = f"/proc/{node.agent.process.pid}"
    return len(os.listdir(f"{process}/fd")), len(os.listdir(f"{process}/task"))


def test_a_wipe_is_repaired_in_a_second_with_taint_and_time_without_duplicates(
    node: AgentNode,
) -> None:
    node.burst(3)
    node.agent.wait(lambda: node.shows(3, "Unhealthy"))
    time.sleep(1.1)
    before = node.devices()
    wipe(node)
    began = time.monotonic()
    node.agent.wait(lambda: len(node.devices()) == 8)
    took = time.monotonic() - began
    node.agent.register()
    time.sleep(1)

    assert took < 1
    assert node.devices() == before
    assert len(node.agent.slices()) == 1


def test_a_kubelet_in_a_crash_loop_makes_nothing_grow_and_one_slice_a_wipe(node: AgentNode) -> None:
    def visit() -> None:
        node.agent.register()
        with channel(node.endpoint) as opened:
            stream = DRAResourceHealthStub(opened).NodeWatchResources(
                dra_health_v1_pb2.NodeWatchResourcesRequest(), timeout=10
            )
            next(iter(stream))
            stream.cancel()

    for _ in range(3):
        visit()
    node.server.requests.clear()
    before = held(node)
    wipes = 4
    for number in range(20):
        visit()
        if number % 5 == 0:
            wipe(node)
            node.agent.wait(lambda: len(node.devices()) == 8)
    node.agent.wait(lambda: held(node) <= (before[0] + 2, before[1] + 2))
    methods = [entry.method for entry in node.slice_writes() if entry.user_agent.startswith("gpuvitals")]

    assert methods == ["POST"] * wipes


def test_an_agent_restarted_in_an_outage_publishes_the_fault_when_it_ends(
    node: AgentNode,
) -> None:
    with ExitStack() as stack:
        with node.server.outage():
            node.burst(3)
            time.sleep(1.5)
            node.agent.end(signal.SIGKILL)
            heir = stack.enter_context(agent(node.folder, node.server, node.gpus))
            heir.register()
            time.sleep(1.5)
            assert heir.process.poll() is None
        node.agent = heir
        began = time.monotonic()
        heir.wait(lambda: node.shows(3, "Unhealthy"))

        assert time.monotonic() - began < 3


def test_the_agent_that_lives_through_an_outage_publishes_within_a_second_of_its_end(
    node: AgentNode,
) -> None:
    with node.server.outage():
        node.burst(3)
        time.sleep(4)
    began = time.monotonic()
    node.agent.wait(lambda: node.shows(3, "Unhealthy"))

    assert time.monotonic() - began < 1.2


def test_sigterm_in_the_middle_of_a_publication_ends_in_time_and_loses_nothing(node: AgentNode) -> None:
    stalled = node.server.faults.delay(8, times=None, match=UPDATES)
    node.burst(3)
    time.sleep(1)
    began = time.monotonic()
    code = node.agent.end()
    took = time.monotonic() - began
    stalled.end()

    assert (code, took < 5.5) == (0, True)
    assert len(node.agent.slices()) == 1
    with agent(node.folder, node.server, node.gpus) as heir:
        heir.register()
        node.agent = heir
        heir.wait(lambda: node.shows(3, "Unhealthy"))


def test_without_a_kernel_log_nvml_goes_on_alone_and_says_so(server: ApiServer) -> None:
    with agent_node(server, lambda folder: (folder / "kmsg").unlink()) as node:
        node.gpus.lose(5)
        node.agent.wait(lambda: node.shows(5, "Unhealthy"))
        with urllib.request.urlopen(f"http://127.0.0.1:{node.agent.probes()}/metrics", timeout=5) as answer:
            served = answer.read().decode()
        reasons = {event["reason"] for event in server.client("test").list("events.events.k8s.io")}

    assert 'gpuvitals_monitor_watching{source="kmsg"} 0.0' in served
    assert 'gpuvitals_monitor_watching{source="nvml-poll"} 1.0' in served
    assert "MonitorBlind" in reasons


def test_of_two_agents_in_a_rolling_update_one_writes_and_the_newer_takes_over(server: ApiServer) -> None:
    with agent_node(server, pod_uid="old") as node, agent(node.folder, server, node.gpus, "new") as newer:
        newer.register()
        newer.probes()
        time.sleep(3)
        server.requests.clear()
        node.burst(3)
        newer.wait(lambda: node.shows(3, "Unhealthy"))
        time.sleep(2)
        both = [entry.method for entry in node.slice_writes()]
        events = [
            event
            for event in server.client("test").list("events.events.k8s.io")
            if event["reason"] == "GpuUnhealthy"
        ]
        node.agent.end()
        node.burst(5)
        newer.wait(lambda: node.shows(5, "Unhealthy"))

        assert both in (["PUT"], ["PUT", "PUT"])
        assert len(events) == 1
        assert len(newer.slices()) == 1


def test_an_outage_with_two_errors_in_turn_is_a_few_log_lines(node: AgentNode) -> None:
    """Finding K6: one line for each cause and minute of each loop, however often it tries."""
    node.agent.wait(lambda: len(node.devices()) == 8)
    turns = itertools.count()
    agents = "gpuvitals/"
    node.server.faults.fail(
        503, times=None, match=Match(user_agent=agents, when=lambda request: next(turns) % 2 == 0)
    )
    node.server.faults.fail(500, times=None, match=Match(user_agent=agents))
    node.server.faults.drop_watches(abrupt=True)
    began = len(kube_lines(node))
    node.server.requests.clear()
    node.burst(3)

    def refused() -> int:
        return sum(entry.status >= 500 for entry in node.server.requests.all())

    node.agent.wait(lambda: refused() >= 60, 90)
    node.server.faults.clear()
    node.agent.wait(lambda: node.shows(3, "Unhealthy"))

    # Slices, three watches beside theirs, events and a claim, with two causes each.
    assert len(kube_lines(node)) - began <= 16


def kube_lines(node: AgentNode) -> list[str]:
    """The warnings and errors that the agent has logged of the API server."""
    text = (node.agent.folder / "log").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if '"logger": "kube.' in line]
    return [line for line in lines if '"level": "warning"' in line or '"level": "error"' in line]
