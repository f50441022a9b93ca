"""GPUHealthPolicy objects as the watch tells them, from the embedded API server and from bytes."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from gpuvitals.health.policy import Policy
from gpuvitals.health.policy_pairs import camel
from gpuvitals.health.policy_values import VALUES
from gpuvitals.inventory.policy_match import Mode, PolicyRule
from gpuvitals.kube.policy_crd import policy_definition
from gpuvitals.kube.policy_watch import PolicyError, PolicyWatch, policy_rule
from gpuvitals.kube.transport import ConnectSettings, connect
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals_sim.apiserver import ApiServer
from gpuvitals_sim.cluster.driver_objects import DEFINITIONS
from support.dra_objects import eventually

POLICIES = "gpuhealthpolicies.vitals.internal"


def policy(name: str = "fleet", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "vitals.internal/v1alpha1",
        "kind": "GPUHealthPolicy",
        "metadata": {"name": name},
        "spec": spec,
    }


class Heard:
    """The policies that a listener received."""

    def __init__(self) -> None:
        self.rules: dict[str, PolicyRule] = {}
        self.bad: list[tuple[str, str]] = []
        self.lists = 0

    def known(self, name: str, rule: PolicyRule | None) -> None:
        self.rules.pop(name, None)
        if rule is not None:
            self.rules[name] = rule

    def refused(self, name: str, why: str) -> None:
        self.bad.append((name, why))

    def listed(self) -> None:
        self.lists += 1


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as running:
        yield running


@pytest.fixture
def heard(server: ApiServer) -> Iterator[Heard]:
    listener = Heard()
    transport = connect(ConnectSettings(url=server.url))
    watch = PolicyWatch("vitals.internal", transport, NodeMetrics("test"), listener)
    watch.start()
    yield listener
    watch.stop(5)
    transport.close()


def test_a_policy_is_told_when_it_comes_changes_and_goes(server: ApiServer, heard: Heard) -> None:
    client = server.client("test")
    client.create(DEFINITIONS, policy_definition("vitals.internal"))
    match = {"nodeLabels": {"pool": "a"}, "deviceAttributes": {"productName": "T4"}}
    stored = client.create(POLICIES, policy(match=match, mode="Observe", priority=3))
    eventually(lambda: heard.rules.get("fleet"), "the policy")
    assert heard.rules["fleet"] == PolicyRule(
        name="fleet",
        priority=3,
        node_labels=(("pool", "a"),),
        device_attributes=(("productName", "T4"),),
        mode=Mode.OBSERVE,
    )
    stored["spec"] = {"pause": True, "health": {"dwellSeconds": 5}}
    client.update(POLICIES, stored)
    eventually(lambda: heard.rules["fleet"].paused or None, "the change")
    assert heard.rules["fleet"] == PolicyRule(name="fleet", paused=True, health=(("dwell_seconds", 5),))
    client.delete(POLICIES, "fleet")
    eventually(lambda: not heard.rules or None, "its end")


def test_a_cluster_without_the_kind_holds_nobody_up(heard: Heard) -> None:
    eventually(lambda: heard.lists or None, "the answer that there are none", 3.0)

    assert (heard.rules, heard.bad) == ({}, [])


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"mode": "Sometimes"}, "spec.mode: invalid enum value"),
        (
            {"health": {"dwellSeconds": -1}},
            "spec.health: policy value dwellSeconds: -1 is below its minimum",
        ),
        ({"health": {"dwellMinutes": 5}}, "spec.health: 'dwellMinutes': unknown; the known ones are "),
        (
            {"health": {"dwell_seconds": 5}},
            "spec.health: 'dwell_seconds': unknown; it is written dwellSeconds",
        ),
        ({"health": {"dwellSeconds": 1.5}}, "spec.health[...]: expected `int`"),
        ({"match": {"labels": {}}}, "spec.match: object contains unknown field `labels`"),
        ({"pause": "yes"}, "spec.pause: expected `bool`"),
        ({"budget": 1}, "spec: object contains unknown field `budget`"),
    ],
)
def test_a_policy_that_cannot_be_used_names_the_field(spec: dict[str, Any], field: str) -> None:
    with pytest.raises(PolicyError) as refused:
        policy_rule(json.dumps(policy(**spec)).encode())

    assert str(refused.value).startswith(field)


def test_the_schema_knows_every_value_of_the_judgement_with_its_minimum() -> None:
    (version,) = policy_definition("vitals.internal")["spec"]["versions"]
    health = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["health"]

    assert {name: value["minimum"] for name, value in health["properties"].items()} == {
        camel(value.name): value.minimum for value in VALUES
    }
    assert health["properties"]["blindSeconds"]["minimum"] == 15


def test_no_field_of_a_policy_object_is_written_with_underscores() -> None:
    """Finding U6: names, descriptions and messages have Kubernetes' way of writing."""
    text = json.dumps(policy_definition("vitals.internal"))

    assert [
        word for word in re.findall(r"[a-z]+(?:_[a-z]+)+", text) if word in Policy.__dataclass_fields__
    ] == []
