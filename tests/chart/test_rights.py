"""The ClusterRole of the chart is what a working agent asks for, compared as sets."""

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chart.rendering import golden_objects, one_of
from gpuvitals.inventory.naming import Naming
from gpuvitals.kube.server_facts import agent_rights
from gpuvitals_sim.apiserver.request_log import RequestFacts
from gpuvitals_sim.cluster import SimulatedCluster
from gpuvitals_sim.demo.action_runner import ActionRunner
from gpuvitals_sim.demo.observer import Observer
from gpuvitals_sim.demo.scenario_runner import ExpectationChecked, ScenarioRunner
from gpuvitals_sim.demo.wiring import demo_cluster
from gpuvitals_sim.scenario import load_builtin
from support.dra_objects import resource_slice
from support.waiting import eventually

Right = tuple[str, str, str]

SLICES = "resourceslices.resource.k8s.io"
DRIVER_PART: Right = ("resource.k8s.io", "resourceclaims/driver", "associated-node:patch")
"""Never in a request: since 1.36 the API server asks for it where a patch of a status changes `devices`."""


def granted() -> set[Right]:
    """The rights of the chart, one by one."""
    rules = one_of(golden_objects(), "ClusterRole", "gpuvitals-agent")["rules"]
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def is_agents(request: RequestFacts) -> bool:
    return request.user_agent.startswith("gpuvitals/")


def asked(cluster: SimulatedCluster) -> set[Right]:
    """What the agents asked of the API server, one by one."""
    return {
        (each.group, f"{each.resource}/{each.subresource}".rstrip("/"), each.verb)
        for each in cluster.server.requests.all()
        if is_agents(each)
    }


@pytest.fixture(scope="module")
def worked() -> Iterator[SimulatedCluster]:
    """A cluster whose agent published, prepared, told of a fault, and repaired what others did to its slices."""
    with tempfile.TemporaryDirectory(prefix="gv-", dir="/tmp") as folder:
        scenario, stopping = load_builtin("xid79"), threading.Event()
        with demo_cluster(Path(folder), scenario) as cluster:
            for progress in ScenarioRunner(ActionRunner(cluster, stopping), Observer(cluster), stopping).play(
                scenario
            ):
                assert not isinstance(progress, ExpectationChecked) or progress.observation.holds, _why(
                    cluster, progress
                )
            node = cluster.nodes[0].name
            cluster.client.create(SLICES, resource_slice(node, name="stray"))
            eventually(lambda: not cluster.client.find(SLICES, "stray"), 20)
            for stored in cluster.client.list(SLICES):
                cluster.client.delete(SLICES, stored["metadata"]["name"])
            eventually(lambda: bool(cluster.client.list(SLICES)), 20)
            yield cluster


@pytest.mark.timeout(120)
def test_the_rights_are_those_that_the_agent_uses(worked: SimulatedCluster) -> None:
    assert asked(worked) == granted() - {DRIVER_PART}
    assert DRIVER_PART in granted()
    assert ("resource.k8s.io", "resourceclaims/status", "patch") in granted()


@pytest.mark.timeout(120)
def test_the_agent_looks_only_at_its_own_slices_and_its_own_node(worked: SimulatedCluster) -> None:
    node = worked.nodes[0].name
    lists = [
        each
        for each in worked.server.requests.select(resource="resourceslices")
        if is_agents(each) and each.verb in ("list", "watch")
    ]
    reads = [each for each in worked.server.requests.select(verb="get", resource="nodes") if is_agents(each)]

    watches = [
        each
        for each in worked.server.requests.select(resource="nodes")
        if is_agents(each) and each.verb in ("list", "watch")
    ]

    assert lists
    assert all(f"spec.nodeName%3D{node}" in each.query for each in lists)
    assert {each.name for each in reads} == {node}
    assert watches
    assert all(f"metadata.name%3D{node}" in each.query for each in watches)


def test_no_rule_has_a_wildcard_or_reaches_a_secret_a_pod_or_a_write_to_nodes() -> None:
    rights = granted()

    assert not any("*" in part for right in rights for part in right)
    assert {resource.partition("/")[0] for _, resource, _ in rights} == {
        "resourceslices",
        "resourceclaims",
        "nodes",
        "events",
        "gpuhealthpolicies",
    }
    assert {verb for _, resource, verb in rights if resource == "nodes"} == {"get", "list", "watch"}


def _why(cluster: SimulatedCluster, progress: ExpectationChecked) -> str:
    """What did not hold, with the events and the end of the agent's log."""
    events = [each.get("note", each.get("message", "")) for each in cluster.client.list("events")]
    return "\n".join([str(progress), *map(str, events), cluster.nodes[0].agent.log_tail(20)])


def test_the_rights_that_the_doctor_checks_are_those_of_the_chart() -> None:
    """`gpuvitals doctor` asks about each of them by an access review."""
    checked = agent_rights(Naming().driver, Naming().api_group, claim_status_verbs=True)

    assert {(right.group, right.resource, right.verb) for right in checked} == granted()
