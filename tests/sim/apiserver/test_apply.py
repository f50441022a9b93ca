"""Server-side apply: ownership by field, conflicts, removal of fields that are no longer named."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuvitals_sim.apiserver import ApiError, InProcessClient
from gpuvitals_sim.apiserver.api import Api
from gpuvitals_sim.apiserver.request import MERGE_PATCH

CLAIMS = "resourceclaims.resource.k8s.io"
DEVICE = {"driver": "gpu.vitals.internal", "pool": "node-a", "device": "gpu-0"}
WHEN = "2026-01-01T00:00:00Z"


def claim_status(*conditions: tuple[str, str], data: dict[str, Any] | None = None) -> dict[str, Any]:
    entry: dict[str, Any] = {
        **DEVICE,
        "conditions": [
            {"type": kind, "status": status, "reason": "Tested", "lastTransitionTime": WHEN}
            for kind, status in conditions
        ],
    }
    if data is not None:
        entry["data"] = data
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "claim", "namespace": "default"},
        "status": {"devices": [entry]},
    }


@pytest.fixture
def api() -> Api:
    """A cluster with one claim that holds one device."""
    api = Api()
    scheduler = InProcessClient(api, "scheduler")
    request = {"name": "gpu", "exactly": {"deviceClassName": "gpu"}}
    claim = {
        "metadata": {"name": "claim", "namespace": "default"},
        "spec": {"devices": {"requests": [request]}},
    }
    claim = scheduler.create(CLAIMS, claim)
    claim["status"] = {"allocation": {"devices": {"results": [{"request": "gpu", **DEVICE}]}}}
    scheduler.update_status(CLAIMS, claim)
    return api


def conditions_of(claim: dict[str, Any]) -> dict[str, str]:
    return {entry["type"]: entry["status"] for entry in claim["status"]["devices"][0]["conditions"]}


def test_an_identical_apply_writes_nothing(api: Api) -> None:
    agent = InProcessClient(api, "agent")
    first = agent.apply(CLAIMS, claim_status(("Ready", "True"), data={"score": 100}), subresource="status")
    second = agent.apply(CLAIMS, claim_status(("Ready", "True"), data={"score": 100}), subresource="status")
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_two_managers_keep_their_own_conditions(api: Api) -> None:
    agent, controller = InProcessClient(api, "agent"), InProcessClient(api, "controller")
    agent.apply(CLAIMS, claim_status(("Ready", "True")), subresource="status")
    controller.apply(CLAIMS, claim_status(("RemediationScheduled", "False")), subresource="status")
    both = agent.apply(CLAIMS, claim_status(("Ready", "False")), subresource="status")
    assert conditions_of(both) == {"Ready": "False", "RemediationScheduled": "False"}


def test_another_managers_value_is_a_conflict_that_force_takes(api: Api) -> None:
    agent, other = InProcessClient(api, "agent"), InProcessClient(api, "other")
    agent.apply(CLAIMS, claim_status(("Ready", "True")), subresource="status")
    with pytest.raises(ApiError) as refusal:
        other.apply(CLAIMS, claim_status(("Ready", "False")), subresource="status")
    path = '.status.devices[device="gpu-0",driver="gpu.vitals.internal",pool="node-a"].conditions[type="Ready"].status'
    assert refusal.value.code == 409
    assert (
        refusal.value.message
        == f'Apply failed with 1 conflict: conflict with "agent" with subresource "status": {path}'
    )
    forced = other.apply(CLAIMS, claim_status(("Ready", "False")), subresource="status", force=True)
    assert conditions_of(forced) == {"Ready": "False"}
    with pytest.raises(ApiError, match='conflict with "other"'):
        agent.apply(CLAIMS, claim_status(("Ready", "True")), subresource="status")


def test_what_is_no_longer_named_goes_unless_another_owns_it(api: Api) -> None:
    agent, controller = InProcessClient(api, "agent"), InProcessClient(api, "controller")
    agent.apply(CLAIMS, claim_status(("Ready", "True"), ("Healthy", "True")), subresource="status")
    controller.apply(CLAIMS, claim_status(("Healthy", "True")), subresource="status")
    left = agent.apply(CLAIMS, {**claim_status(), "status": {"devices": []}}, subresource="status")
    assert conditions_of(left) == {"Healthy": "True"}


def test_a_patch_by_someone_else_takes_the_field(api: Api) -> None:
    agent = InProcessClient(api, "agent")
    agent.apply(CLAIMS, claim_status(("Ready", "True")), subresource="status")
    patch = {"status": claim_status(("Ready", "False"))["status"]}
    InProcessClient(api, "admin").patch(
        CLAIMS, ("default", "claim"), patch, patch_type=MERGE_PATCH, subresource="status"
    )
    with pytest.raises(
        ApiError, match='conflict with "admin" with subresource "status" using resource.k8s.io/v1'
    ):
        agent.apply(CLAIMS, claim_status(("Ready", "True")), subresource="status")


def test_the_uid_guards_against_a_claim_created_again(api: Api) -> None:
    config = claim_status(("Ready", "True"))
    config["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000"
    with pytest.raises(ApiError) as refusal:
        InProcessClient(api, "agent").apply(CLAIMS, config, subresource="status")
    assert (refusal.value.code, "field is immutable" in refusal.value.message) == (422, True)


def test_an_unknown_claims_status_is_not_created(api: Api) -> None:
    config = claim_status(("Ready", "True"))
    config["metadata"]["name"] = "nobody"
    with pytest.raises(ApiError) as refusal:
        InProcessClient(api, "agent").apply(CLAIMS, config, subresource="status")
    assert refusal.value.code == 404


def test_apply_creates_a_missing_object() -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {"a": "b"}}}
    made = InProcessClient(Api(), "agent").apply("nodes", node)
    assert made["metadata"]["managedFields"][0]["fieldsV1"] == {"f:metadata": {"f:labels": {"f:a": {}}}}


def test_a_field_outside_the_type_is_refused(api: Api) -> None:
    config = claim_status(("Ready", "True"))
    config["status"]["devices"][0]["colour"] = "red"
    with pytest.raises(ApiError, match="field not declared in schema"):
        InProcessClient(api, "agent").apply(CLAIMS, config, subresource="status")


LABELS = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("xyz"), max_size=4)
STEPS = st.lists(st.tuples(st.sampled_from(["one", "two"]), LABELS), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_any_apply_repeated_changes_nothing(steps: list[tuple[str, dict[str, str]]]) -> None:
    """The same apply again keeps the resourceVersion and the object, after any sequence of applies."""
    api = Api()
    for manager, labels in steps:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": labels}}
        first = InProcessClient(api, manager).apply("nodes", node, force=True)
        again = InProcessClient(api, manager).apply("nodes", node)
        assert again == first
        assert labels.items() <= first["metadata"].get("labels", {}).items()
