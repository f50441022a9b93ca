"""The chart's GPUHealthPolicy on real API servers: what the schema takes, what it refuses, and who may read it."""

import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart.agents import Cluster

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
        ({"health": {"dwell_seconds": -1}}, "spec.health.dwell_seconds"),
        ({"health": {"dwell_seconds": "5m"}}, "spec.health.dwell_seconds"),
        ({"health": {"xid_memory_seconds": 60, "xid_count_seconds": 61}}, "spec.health.xid_memory_seconds"),
        ({"match": {"deviceAttributes": {"health/score": "0"}}}, "spec.match.deviceAttributes"),
        ({"match": {"nodeLabels": {f"key-{index}": "" for index in range(17)}}}, "spec.match.nodeLabels"),
        ({"priority": 1001}, "spec.priority"),
        ({"budgets": {}}, "spec.budgets"),
        ({"health": {"dwell_minutes": 5}}, "spec.health.dwell_minutes"),
    ],
)
def test_i26_a_bad_policy_is_refused_with_its_field(
    served: Cluster, spec: dict[str, Any], field: str
) -> None:
    answer = served.admin.post(POLICIES, policy("bad", **spec), fieldValidation="Strict", dryRun="All")

    assert answer.status in (400, 422), answer.body
    assert field in answer.body["message"]


def test_the_agent_may_list_policies_and_write_none(served: Cluster) -> None:
    assert served.agent.get(POLICIES).status == 200
    assert served.agent.post(POLICIES, policy("mine")).status == 403


def test_every_policy_of_the_guide_is_taken(served: Cluster) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    answers = [
        served.admin.post(POLICIES, yaml.safe_load(block), fieldValidation="Strict", dryRun="All")
        for block in blocks
    ]

    assert [answer.status for answer in answers] == [201] * 3
