"""Scenario files: the shipped ones load, and errors in a file name line and field."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuvitals_sim.scenario import ScenarioError, builtin_names, load, load_builtin
from gpuvitals_sim.scenario.actions import Xid
from gpuvitals_sim.scenario.expectations import DeviceSeen, Expect
from gpuvitals_sim.scenario.loader import parse
from gpuvitals_sim.scenario.model import DeletePod, Wait

HEAD = "name: x\ndescription: d\nnodes: {count: 2, gpus: 4}\nsteps:\n- title: t\n  do:\n"

MISTAKES = [
    ("  - xid: {node: 0, gpu: 4, code: 79}", 7, "steps[0].do[0].xid.gpu", "there is no GPU 4: GPUs are 0 to 3"),
    ("  - mark: {}\n  - kill: {component: agent, node: 2}", 8, "steps[0].do[1].kill.node", "there is no node 2"),
    ("  - expect: {device: {node: 0, gpu: 9}}", 7, "steps[0].do[0].expect.device.gpu", "there is no GPU 9"),
    ("  - xidd: {node: 0}", 7, "steps[0].do[0].xidd", "unknown field 'xidd'"),
    ("  - xid: {node: 0, code: 79}", 7, "steps[0].do[0].xid", "field 'gpu' is missing"),
    ('  - xid: {node: 0, gpu: 1, code: "79"}', 7, "steps[0].do[0].xid.code", "not '79'"),
    ("  - wait: 3x", 7, "steps[0].do[0].wait", "'3x' is not a duration such as 500ms, 2s or 1m"),
    ("  - wait: .nan", 7, "steps[0].do[0].wait", "greater than or equal to 0"),
    ("  - {wait: 1s, mark: {}}", 7, "steps[0].do[0]", "found both wait and mark"),
    ("  - expect: {within: 1s}", 7, "steps[0].do[0].expect", "exactly one of device, pod, claim"),
    ("  - delete_pod: a", 7, "steps[0].do[0].delete_pod", "pod 'a' was not created before"),
    ("  - expect: {claim: {pod: a, condition: {type: Healthy, status: False}}}", 7, "steps[0].do[0].expect.claim.pod", "pod 'a'"),
    ("  - create_pod: {name: a, claim: {selector: device.health.score > 0.9}}", 7, "steps[0].do[0].create_pod.claim.selector", "undefined field 'health'"),
    ("  - create_pod:\n      name: a\n      claim:\n        first_available: [{name: b}]\n        count: 2", 9, "steps[0].do[0].create_pod.claim", "first_available stands alone"),
    ("  - set: {node: 0, gpu: 0, readings: {temperature: 3}}", 7, "steps[0].do[0].set.readings.temperature", "reading 'temperature' does not exist"),
    ("  - restart: {component: scheduler, node: 0}", 7, "steps[0].do[0].restart.component", "'kubelet' or 'agent'"),
    ("  - mark: {}\npolicy:\n  nosuch: 3", 9, "policy.nosuch", "unknown; the known ones are"),
    ("  - mark: {}\npolicy: {level_clear_seconds: 9s, level_confirm_seconds: 0}", 8, "policy", "poll_seconds 5"),
    ("  - mark: {}\npolicy: {level_clear_seconds: 9s}", 8, "policy", "level_confirm_seconds 15"),
    ("  - mark: {}\npolicy: {dwell_seconds: 2.5s}", 8, "policy.dwell_seconds", "valid integer"),
    ("    []", 6, "steps[0].do", "at least one entry is needed"),
    ("  - mark: {}\n  - wait: 1s\n  - 3", 9, "steps[0].do[2]", "input should be an object"),
    ("  - xid: {node: 0, node: 1}", 7, "", "key 'node' is there twice"),
    ("  - xid: *a", 7, "", "alias *a: aliases are not read"),
    ("  - xid: [", 8, "", "not YAML"),
]  # fmt: skip


@pytest.mark.parametrize("name", builtin_names())
def test_shipped_scenario_loads_under_its_own_name(name: str) -> None:
    scenario = load_builtin(name)
    assert scenario.name == name
    assert any(isinstance(entry.content, Expect) for _, entry in scenario.entries())


def test_the_walk_has_the_eight_steps() -> None:
    walk = load_builtin("walk")
    assert (len(walk.steps), walk.nodes.names, walk.nodes.gpus) == (8, ("node-0", "node-1"), 8)
    assert walk.health_policy().probation_seconds == 4


def test_entries_are_typed() -> None:
    scenario = parse(
        (HEAD + "  - xid: {node: 1, gpu: 2, code: 79}\n  - wait: 500ms\n  - create_pod: {name: a}\n  - delete_pod: a\n"
         "  - expect: {device: {node: 0, gpu: 0, score: 0}, within: 1m}").encode(), "x.yaml",
    )  # fmt: skip
    entries = [entry.content for _, entry in scenario.entries()]
    assert entries[0] == Xid(node=1, gpu=2, code=79)
    assert entries[1] == Wait(seconds=0.5)
    assert entries[3] == DeletePod(name="a")
    assert isinstance(entries[4], Expect)
    assert entries[4].subject == DeviceSeen(node=0, gpu=0, score=0)
    assert entries[4].within == 60.0


@pytest.mark.parametrize(
    ("text", "line", "field", "message"), MISTAKES, ids=[row[2] + row[3] for row in MISTAKES]
)
def test_mistake_is_named_with_line_and_field(text: str, line: int, field: str, message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse((HEAD + text + "\n").encode(), "bad.yaml")
    first = caught.value.problems[0]
    assert (first.line, first.field) == (line, field)
    assert message in first.message
    assert str(caught.value).startswith(f"bad.yaml:{line}:")
    assert "\n" not in str(caught.value)


def test_problems_come_in_the_order_of_lines() -> None:
    with pytest.raises(ScenarioError) as caught:
        parse((HEAD + "  - wait: x\n  - wait: 1s\n  - wait: y\nfoo: 1\n").encode(), "bad.yaml")
    assert [problem.line for problem in caught.value.problems] == [7, 9, 10]
    assert str(caught.value).endswith("(and 2 more)")


def test_a_file_that_is_not_there_and_a_scenario_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"no\.yaml: no such file or directory"):
        load(tmp_path / "no.yaml")
    with pytest.raises(ScenarioError, match=r"no such scenario; there are .*walk"):
        load_builtin("nosuch")


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe", b"[" * 5000, b"3", b"\x00", b"- a\nb", b"a: !!python/object:os.x {}"]
)
def test_what_is_no_scenario_is_refused_in_one_line(body: bytes) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse(body, "bad.yaml")
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_well(body: bytes) -> None:
    with pytest.raises(ScenarioError):
        parse(body, "bad.yaml")
