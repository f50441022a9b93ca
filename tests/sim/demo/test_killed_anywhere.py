"""The agent is killed behind every act of the story and started again: the story ends as if nothing had happened."""

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuvitals_sim.apiserver import RequestFacts
from gpuvitals_sim.cluster import SimulatedCluster
from gpuvitals_sim.demo.action_runner import ActionRunner
from gpuvitals_sim.demo.descriptions import expectation_text
from gpuvitals_sim.demo.observer import Observer
from gpuvitals_sim.demo.scenario_runner import ExpectationChecked, ScenarioRunner
from gpuvitals_sim.demo.wiring import demo_cluster
from gpuvitals_sim.scenario import Entry, Scenario, Step, load_builtin
from gpuvitals_sim.scenario.actions import Kill, Noise, OnGpu, OnNode, Start
from gpuvitals_sim.scenario.expectations import Expect, RegisteredSeen

BACK_SECONDS = 15.0
LATER = 10.0
"""The extra time of an expectation after a restart of the agent."""


def killed_behind_every_act(scenario: Scenario) -> Scenario:
    """The same story; behind each act on a node its agent is killed before it can have done anything, and starts again."""
    return scenario.model_copy(update={"steps": tuple(_with_kills(step) for step in scenario.steps)})


def _with_kills(step: Step) -> Step:
    return step.model_copy(update={"do": tuple(entry for one in step.do for entry in _followed(one))})


def _followed(entry: Entry) -> Iterator[Entry]:
    content = entry.content
    if isinstance(content, Expect):
        if content.writes is not None and content.writes.resource == "resourceclaims/status":
            return  # a new agent says its claims' status once more; the server finds it identical and stores nothing
        later = content.model_copy(update={"within": content.within + LATER})
        yield entry.model_copy(update={"expect": later})
        return
    yield entry
    if isinstance(content, OnGpu | OnNode) and not isinstance(content, Kill | Start):
        node = content.node
    elif isinstance(content, Noise):
        node = content.node or 0
    else:
        return
    yield Entry(kill=Kill(component="agent", node=node))
    yield Entry(start=Start(component="agent", node=node))
    yield Entry(expect=Expect(registered=RegisteredSeen(node=node), within=BACK_SECONDS))


def slices_deleted_by_agents(cluster: SimulatedCluster) -> list[RequestFacts]:
    writes = cluster.server.requests.writes(resource="resourceslices")
    return [one for one in writes if one.verb == "delete" and one.user_agent.startswith("gpuvitals/")]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", ["walk", "gpu-lost"])
def test_a_story_in_which_the_agent_is_killed_behind_every_act_holds(name: str) -> None:
    story, stopping = killed_behind_every_act(load_builtin(name)), threading.Event()
    with (
        tempfile.TemporaryDirectory(prefix="gv-", dir="/tmp") as made,
        demo_cluster(Path(made), story) as cluster,
    ):
        looks = [
            one
            for one in ScenarioRunner(ActionRunner(cluster, stopping), Observer(cluster), stopping).play(
                story
            )
            if isinstance(one, ExpectationChecked)
        ]
        deleted = slices_deleted_by_agents(cluster)
        logs = "\n".join(node.agent.log_tail(40) for node in cluster.nodes)

    failed = [
        f"{expectation_text(one.expect)}; seen: {one.observation.observed}"
        for one in looks
        if not one.observation.holds
    ]
    assert failed == [], logs
    assert len(looks) == sum(isinstance(entry.content, Expect) for _, entry in story.entries())
    assert deleted == []
