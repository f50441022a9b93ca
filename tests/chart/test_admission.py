"""The agent's own token on real API servers: what is its business is done, all else is refused with a text that says why.

The texts are in docs/reference/refusals.md, and a test compares.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chart.agents import CLAIMS, DRIVER, OTHER, SLICES, Cluster, applied, entry, event_about
from support.raw_api import MERGE_PATCH, Answer

Json = dict[str, Any]
Attempt = Callable[[Cluster], Answer]

REFUSALS = Path(__file__).resolve().parents[2] / "docs" / "reference" / "refusals.md"
ELSEWHERE = {"name": "node-b", "generation": 1, "resourceSliceCount": 1}
LABELLED = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}]}

pytestmark = pytest.mark.needs_go


def report(path: str, *entries: Json) -> Json:
    return applied(path, {"devices": list(entries)})


def _create(**spec: Any) -> Attempt:
    return lambda cluster: cluster.agent.post(SLICES, cluster.slice("refused", **spec))


def _of_node_b(cluster: Cluster) -> Json:
    """The other node's slice, as that node's agent has it."""
    stored = cluster.admin.get(f"{SLICES}/theirs")
    if stored.status == 200:
        return stored.body
    return cluster.slice("theirs", stored=True, nodeName="node-b", pool=ELSEWHERE)


def _change(cluster: Cluster) -> Answer:
    theirs = _of_node_b(cluster)
    return cluster.agent.put(f"{SLICES}/theirs", {**theirs, "spec": {**theirs["spec"], "devices": []}})


def _take_over(cluster: Cluster) -> Answer:
    theirs = _of_node_b(cluster)
    spec = {**theirs["spec"], "nodeName": "node-a", "pool": {**ELSEWHERE, "name": "node-a"}}
    return cluster.agent.put(f"{SLICES}/theirs", {**theirs, "spec": spec})


def _delete(cluster: Cluster) -> Answer:
    _of_node_b(cluster)
    return cluster.agent.delete(f"{SLICES}/theirs")


def _delete_of_other_driver(cluster: Cluster) -> Answer:
    if cluster.admin.get(f"{SLICES}/nic").status == 404:
        cluster.slice("nic", stored=True, driver=OTHER)
    return cluster.agent.delete(f"{SLICES}/nic")


SLICE_CASES: dict[str, Attempt] = {
    "another node's slice": _create(nodeName="node-b", pool=ELSEWHERE),
    "another node's pool": _create(pool=ELSEWHERE),
    "another driver's slice": _create(driver=OTHER),
    "a slice for all nodes": _create(nodeName=None, allNodes=True),
    "a slice for nodes of a label": _create(nodeName=None, nodeSelector=LABELLED),
    "a change of another node's slice": _change,
    "a deletion of another node's slice": _delete,
    "a deletion of another driver's slice": _delete_of_other_driver,
    "a slice with a token that is bound to no pod": lambda cluster: cluster.account().post(
        SLICES, cluster.slice("refused")
    ),
    "all slices at once": lambda cluster: cluster.agent.delete(SLICES),
}


def _apply(cluster: Cluster, path: str, *entries: Json) -> Answer:
    return cluster.agent.apply(f"{path}/status", "gpuvitals-agent", report(path, *entries), force=True)


def _merge(**status: Any) -> Attempt:
    return lambda cluster: cluster.agent.patch(f"{_own(cluster)}/status", MERGE_PATCH, {"status": status})


def _own(cluster: Cluster) -> str:
    """A claim on node-a of which the other driver has reported."""
    path = f"{CLAIMS}/held-here"
    return (
        path if cluster.admin.get(path).status == 200 else cluster.claim("held-here", "node-a", reported=True)
    )


def _theirs(cluster: Cluster) -> str:
    path = f"{CLAIMS}/held-there"
    return path if cluster.admin.get(path).status == 200 else cluster.claim("held-there", "node-b")


def _of_nobody(cluster: Cluster) -> str:
    path = f"{CLAIMS}/held-nowhere"
    if cluster.admin.get(path).status == 404:
        requests = [{"name": "gpu", "exactly": {"deviceClassName": DRIVER}}]
        body = {"metadata": {"name": "held-nowhere"}, "spec": {"devices": {"requests": requests}}}
        assert cluster.admin.post(CLAIMS, body).status == 201
    return path


def _mixed(cluster: Cluster) -> Answer:
    """The claim is this node's as well: only the entry is not."""
    path = f"{CLAIMS}/held-on-two"
    if cluster.admin.get(path).status == 404:
        cluster.claim("held-on-two", "node-a", also="node-b")
    return _apply(cluster, path, entry(DRIVER, "node-a"), entry(DRIVER, "node-b"))


def _unbound(cluster: Cluster) -> Answer:
    path = _own(cluster)
    body = report(path, entry(DRIVER, "node-a", reason="Unbound"))
    return cluster.account().apply(f"{path}/status", "gpuvitals-agent", body, force=True)


def _bind(cluster: Cluster) -> Answer:
    """An allocation of a claim that has none, as only the scheduler may make it."""
    result = {"request": "gpu", "driver": DRIVER, "pool": "node-a", "device": "gpu-0"}
    status = {"allocation": {"devices": {"results": [result]}}}
    return cluster.agent.patch(f"{_of_nobody(cluster)}/status", MERGE_PATCH, {"status": status})


CLAIM_CASES: dict[str, Attempt] = {
    "status of a claim on another node": lambda cluster: _apply(
        cluster, _theirs(cluster), entry(DRIVER, "node-b")
    ),
    "an entry about a device of another node": _mixed,
    "another driver's entry": lambda cluster: _apply(
        cluster, _own(cluster), entry(DRIVER, "node-a"), entry(OTHER, "node-a", reason="Forged")
    ),
    "another driver's entry, dropped": _merge(devices=[entry(DRIVER, "node-a")]),
    "reservedFor, cleared": _merge(reservedFor=None),
    "reservedFor, another pod": _merge(reservedFor=[{"resource": "pods", "name": "mine", "uid": "1"}]),
    "an allocation, removed": _merge(allocation=None, reservedFor=None, devices=None),
    "an allocation, made": _bind,
    "status with a token that is bound to no pod": _unbound,
    "a device that the claim does not hold": lambda cluster: _apply(
        cluster, _own(cluster), {**entry(DRIVER, "node-a"), "device": "gpu-9"}
    ),
    "status of a claim that holds nothing": lambda cluster: _apply(
        cluster, _of_nobody(cluster), entry(DRIVER, "node-a")
    ),
    "a claim itself": lambda cluster: cluster.agent.patch(
        _own(cluster), MERGE_PATCH, {"metadata": {"labels": {"a": "b"}}}
    ),
    "a list of claims": lambda cluster: cluster.agent.get(CLAIMS),
}

OTHER_CASES: dict[str, Attempt] = {
    "a node": lambda cluster: cluster.agent.patch(
        "/api/v1/nodes/node-a", MERGE_PATCH, {"spec": {"unschedulable": True}}
    ),
    "a node's status": lambda cluster: cluster.agent.patch(
        "/api/v1/nodes/node-a/status", MERGE_PATCH, {"status": {}}
    ),
    "a pod, deleted": lambda cluster: cluster.agent.delete("/api/v1/namespaces/gpuvitals/pods/agent-node-b"),
    "a pod, evicted": lambda cluster: cluster.agent.post(
        "/api/v1/namespaces/gpuvitals/pods/agent-node-b/eviction", {"metadata": {"name": "agent-node-b"}}
    ),
    "pods, listed": lambda cluster: cluster.agent.get("/api/v1/pods"),
    "a secret": lambda cluster: cluster.agent.get("/api/v1/namespaces/gpuvitals/secrets/any"),
}


def _event(namespace: str = "default", **changed: Any) -> Json:
    return event_about("node-a") | {"metadata": {"name": "refused", "namespace": namespace}, **changed}


def _tell(cluster: Cluster, event: Json, *, is_bound: bool = True) -> Answer:
    account = cluster.agent if is_bound else cluster.account()
    namespace = event["metadata"]["namespace"]
    return account.post(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", event)


EVENT_CASES: dict[str, Attempt] = {
    "an event about another node": lambda cluster: _tell(
        cluster, _event(regarding={"apiVersion": "v1", "kind": "Node", "name": "node-b"})
    ),
    "an event about a pod": lambda cluster: _tell(
        cluster,
        _event(
            "kube-system",
            regarding={"apiVersion": "v1", "kind": "Pod", "name": "etcd", "namespace": "kube-system"},
        ),
    ),
    "an event of another component": lambda cluster: _tell(
        cluster, _event(reportingController="default-scheduler")
    ),
    "an event with a token that is bound to no pod": lambda cluster: _tell(cluster, _event(), is_bound=False),
}


def _text(answer: Answer) -> str:
    """The message without the object's name in front, which differs from case to case."""
    return str(answer.body["message"])


def _is_in_the_docs(answer: Answer) -> bool:
    return _text(answer) in REFUSALS.read_text(encoding="utf-8")


@pytest.mark.parametrize("case", SLICE_CASES)
def test_refused_of_slices(cluster: Cluster, case: str) -> None:
    answer = SLICE_CASES[case](cluster)

    assert answer.status == 403, answer.body
    assert _is_in_the_docs(answer), _text(answer)


@pytest.mark.parametrize("case", CLAIM_CASES)
def test_refused_of_claims(cluster: Cluster, case: str) -> None:
    answer = CLAIM_CASES[case](cluster)

    assert answer.status in (403, 422), answer.body
    assert _is_in_the_docs(answer), _text(answer)


@pytest.mark.parametrize("case", EVENT_CASES)
def test_refused_of_events(cluster: Cluster, case: str) -> None:
    """Finding R18."""
    answer = EVENT_CASES[case](cluster)

    assert answer.status == 403, answer.body
    assert _is_in_the_docs(answer), _text(answer)


@pytest.mark.parametrize("case", OTHER_CASES)
def test_refused_of_everything_else(cluster: Cluster, case: str) -> None:
    answer = OTHER_CASES[case](cluster)

    assert answer.status == 403, answer.body
    assert _is_in_the_docs(answer), _text(answer)


def test_another_nodes_slice_can_not_be_made_ones_own(cluster: Cluster) -> None:
    """The API server refuses it by itself: these fields never change."""
    answer = _take_over(cluster)

    assert answer.status == 422
    assert "field is immutable" in _text(answer)
    assert cluster.admin.get(f"{SLICES}/theirs").body["spec"]["nodeName"] == "node-b"


def test_accepted_own_slices(cluster: Cluster) -> None:
    agent = cluster.agent
    made = agent.post(SLICES, cluster.slice("ours"))
    more = {**made.body, "spec": {**made.body["spec"], "devices": [{"name": "gpu-0"}, {"name": "gpu-1"}]}}

    assert made.status == 201, made.body
    assert agent.put(f"{SLICES}/ours", more).status == 200
    assert agent.get(SLICES, fieldSelector="spec.nodeName=node-a").status == 200
    assert agent.delete(f"{SLICES}/ours").status == 200


def test_accepted_own_claim_status_and_nothing_else_of_the_claim_changes(cluster: Cluster) -> None:
    path = cluster.claim("ours", "node-a", reported=True)
    before = cluster.agent.get(path).body["status"]
    for reason in ("None", "Xid79"):
        answer = _apply(cluster, path, entry(DRIVER, "node-a", reason=reason))
        assert answer.status == 200, answer.body
    after = cluster.admin.get(path).body["status"]

    assert [each["conditions"][0]["reason"] for each in after["devices"]] == ["Cabled", "Xid79"]
    assert {**after, "devices": after["devices"][:1]} == before


def test_a_deallocated_claim_gets_its_own_error_and_not_that_of_a_missing_right(
    cluster: Cluster,
) -> None:
    """A 403 would make the agent tell of a missing right, and hold up the status of every other claim."""
    path = cluster.claim("left", "node-a")
    stored = cluster.admin.get(path).body
    assert cluster.admin.put(f"{path}/status", {**stored, "status": {}}).status == 200
    answer = _apply(cluster, path, entry(DRIVER, "node-a"))

    assert answer.status == 422
    assert "must be an allocated device" in _text(answer)


def test_accepted_the_node_and_events(cluster: Cluster) -> None:
    claim = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "name": "c",
        "namespace": "gpuvitals",
    }
    accepted = (
        _event() | {"metadata": {"generateName": "gpuvitals-", "namespace": "default"}},
        _event(regarding=claim) | {"metadata": {"generateName": "gpuvitals-", "namespace": "gpuvitals"}},
    )

    assert cluster.agent.get("/api/v1/nodes/node-a").status == 200
    assert cluster.agent.get("/api/v1/nodes", fieldSelector="metadata.name=node-a").status == 200
    for event in accepted:
        answer = _tell(cluster, event)
        assert answer.status == 201, answer.body


def test_others_are_not_concerned(cluster: Cluster) -> None:
    """The policies are about one account: another driver, or an administrator, writes as before."""
    assert cluster.admin.post(SLICES, cluster.slice("admin", nodeName=None, allNodes=True)).status == 201
    path = cluster.claim("admin", "node-b")
    body = report(path, entry(DRIVER, "node-b"))
    assert cluster.admin.apply(f"{path}/status", "admin", body, force=True).status == 200
