"""The chart's GPUHealthPolicy on real API servers: what the schema takes, what it refuses, and who may read it."""

import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart.agents import Cluster
from chart.rendering import golden_objects, one_of

POLICIES = "/apis/vitals.internal/v1alpha1/gpuhealthpolicies"
GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "policy.md"
_SERVED_SECONDS = 15.0

pytestmark = pytest.mark.needs_go


def policy(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "vitals.internal/v1alpha1",
        "kind": "GPUHealthPolicy",
        "metadata": {"name": name},
        "spec": spec,
    }


@pytest.fixture
def served(cluster: Cluster) -> Cluster:
    """The cluster, once it serves the kind."""
    deadline = time.monotonic() + _SERVED_SECONDS
    while cluster.admin.get(POLICIES).status != 200:
        assert time.monotonic() < deadline, "the definition is not in force"
        time.sleep(0.1)
    return cluster


def test_the_definition_is_accepted_whole(served: Cluster) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gpuhealthpolicies.vitals.internal"
    conditions = {each["type"]: each for each in served.admin.get(path).body["status"]["conditions"]}

    assert conditions["Established"]["status"] == "True"
    assert "NonStructuralSchema" not in conditions


def test_the_server_fills_in_what_is_not_said(served: Cluster) -> None:
    stored = served.admin.post(POLICIES, policy("bare"), fieldValidation="Strict")

    assert stored.status == 201, stored.body
    assert stored.body["spec"] == {"match": {}, "mode": "Isolate", "pause": False, "priority": 0}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"mode": "Sometimes"}, "spec.mode"),
        ({"health": {"dwellSeconds": -1}}, "spec.health.dwellSeconds"),
        ({"health": {"dwellSeconds": "5m"}}, "spec.health.dwellSeconds"),
        ({"health": {"xidMemorySeconds": 60, "xidCountSeconds": 61}}, "spec.health.xidMemorySeconds"),
        ({"match": {"deviceAttributes": {"health/score": "0"}}}, "spec.match.deviceAttributes"),
        ({"match": {"nodeLabels": {f"key-{index}": "" for index in range(17)}}}, "spec.match.nodeLabels"),
        ({"priority": 1001}, "spec.priority"),
        ({"budgets": {}}, "spec.budgets"),
        ({"health": {"dwell_minutes": 5}}, "spec.health.dwell_minutes"),
    ],
)
def test_a_bad_policy_is_refused_with_its_field(served: Cluster, spec: dict[str, Any], field: str) -> None:
    answer = served.admin.post(POLICIES, policy("bad", **spec), fieldValidation="Strict", dryRun="All")

    assert answer.status in (400, 422), answer.body
    assert field in answer.body["message"]


def test_the_agent_may_list_policies_and_write_none(served: Cluster) -> None:
    assert served.agent.get(POLICIES).status == 200
    assert served.agent.post(POLICIES, policy("mine")).status == 403


def test_whoever_may_view_the_cluster_may_read_policies_and_slices(served: Cluster) -> None:
    """Finding U6: the role that the cluster's `view` aggregates; a controller, which is not here, does that."""
    role = one_of(golden_objects(), "ClusterRole", "-view")
    assert role["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] == "true"
    name = role["metadata"]["name"]
    binding = {
        "metadata": {"name": "readers"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "reader"}],
    }
    made = served.admin.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
    assert made.status == 201, made.body

    def may(verb: str, group: str, resource: str) -> bool:
        attributes = {"verb": verb, "group": group, "resource": resource}
        spec = {"user": "reader", "resourceAttributes": attributes}
        review = served.admin.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", {"spec": spec})
        return bool(review.body["status"]["allowed"])

    deadline = time.monotonic() + _SERVED_SECONDS
    while not may("list", "vitals.internal", "gpuhealthpolicies"):
        assert time.monotonic() < deadline, "the role is not in force"
        time.sleep(0.1)
    assert may("watch", "resource.k8s.io", "resourceslices")
    assert not may("update", "vitals.internal", "gpuhealthpolicies")
    assert not may("delete", "resource.k8s.io", "resourceslices")


def test_kubectl_get_ghp_has_columns_that_say_what_a_policy_does(served: Cluster) -> None:
    """Finding U6: by its short name, as a table."""
    found = served.admin.get("/apis/vitals.internal/v1alpha1").body["resources"]
    assert [each["shortNames"] for each in found if each["name"] == "gpuhealthpolicies"] == [["ghp"]]
    (version,) = one_of(golden_objects(), "CustomResourceDefinition")["spec"]["versions"]
    assert [each["name"] for each in version["additionalPrinterColumns"]] == [
        "Mode",
        "Paused",
        "Priority",
        "Age",
    ]


@pytest.mark.parametrize(
    "health",
    [
        {"blindSeconds": 14},
        {"levelClearSeconds": 9, "levelConfirmSeconds": 10},
        {"flapWindowSeconds": 100, "flapRepairs": 2, "levelClearSeconds": 51},
        {"burstSilenceSeconds": 1, "sameReportSeconds": 2},
        {"decayIntervalSeconds": 29, "publishIntervalSeconds": 30},
    ],
)
def test_values_that_contradict_each_other_are_refused_by_the_server(
    served: Cluster, health: dict[str, int]
) -> None:
    """Finding R4: the message names the fields."""
    answer = served.admin.post(POLICIES, policy("bad", health=health), dryRun="All")

    assert answer.status == 422, answer.body
    assert all(name in answer.body["message"] for name in list(health)[:2])


def test_every_policy_of_the_guide_is_taken(served: Cluster) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    answers = [
        served.admin.post(POLICIES, yaml.safe_load(block), fieldValidation="Strict", dryRun="All")
        for block in blocks
    ]

    assert [answer.status for answer in answers] == [201] * 3
