"""Evictions ask the PodDisruptionBudget."""

from typing import Any

import pytest

from support.raw_api import MERGE_PATCH, STRATEGIC_PATCH, RawApi

PODS = "/api/v1/namespaces/default/pods"
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
EVICTION = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": "default"}}
READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}


@pytest.fixture
def guarded(raw: RawApi) -> RawApi:
    """A running pod under a budget that no controller has looked at yet."""
    spec = {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}
    raw.post(PODS, {"metadata": {"name": "p", "labels": {"app": "a"}}, "spec": spec})
    raw.patch(f"{PODS}/p/status", STRATEGIC_PATCH, {"status": READY})
    raw.post(
        BUDGETS,
        {"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}},
    )
    return raw


def set_status(raw: RawApi, **status: Any) -> None:
    numbers = {"observedGeneration": 1, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}
    raw.patch(f"{BUDGETS}/b/status", MERGE_PATCH, {"status": {**numbers, **status}})


def test_a_budget_not_yet_processed_asks_to_wait(guarded: RawApi) -> None:
    refused = guarded.post(f"{PODS}/p/eviction", EVICTION)
    assert (refused.status, refused.headers["retry-after"]) == (429, "10")
    assert (
        refused.body["details"]["causes"][0]["message"]
        == "The disruption budget b is still being processed by the server."
    )


def test_an_exhausted_budget_refuses(guarded: RawApi) -> None:
    set_status(guarded, disruptionsAllowed=0)
    refused = guarded.post(f"{PODS}/p/eviction", EVICTION)
    assert refused.status == 429
    assert refused.body["message"] == "Cannot evict pod as it would violate the pod's disruption budget."
    cause = {
        "reason": "DisruptionBudget",
        "message": "The disruption budget b needs 1 healthy pods and has 1 currently",
    }
    assert refused.body["details"]["causes"] == [cause]
    assert "deletionTimestamp" not in guarded.get(f"{PODS}/p").body["metadata"]


def test_an_allowed_disruption_is_spent(guarded: RawApi) -> None:
    set_status(guarded, disruptionsAllowed=1)
    assert guarded.post(f"{PODS}/p/eviction", EVICTION).status == 201
    assert guarded.get(f"{BUDGETS}/b").body["status"]["disruptionsAllowed"] == 0
    assert "p" in guarded.get(f"{BUDGETS}/b").body["status"]["disruptedPods"]
    pod = guarded.get(f"{PODS}/p").body
    assert "deletionTimestamp" in pod["metadata"]
    assert pod["status"]["conditions"][-1]["reason"] == "EvictionByEvictionAPI"


def test_a_pod_that_does_not_run_needs_no_budget(guarded: RawApi) -> None:
    guarded.patch(f"{PODS}/p/status", MERGE_PATCH, {"status": {"phase": "Pending"}})
    assert guarded.post(f"{PODS}/p/eviction", EVICTION).status == 201


def test_a_dry_run_spends_nothing(guarded: RawApi) -> None:
    set_status(guarded, disruptionsAllowed=1)
    assert guarded.post(f"{PODS}/p/eviction", EVICTION, dryRun="All").status == 201
    assert guarded.get(f"{BUDGETS}/b").body["status"]["disruptionsAllowed"] == 1
    assert "deletionTimestamp" not in guarded.get(f"{PODS}/p").body["metadata"]
