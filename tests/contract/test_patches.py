"""The four kinds of patch."""

import pytest

from support.kube_objects import LEASES, NODES, lease
from support.raw_api import JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, Json, RawApi
from support.realkube.answers import causes, names, refusal, stored


def node(name: str) -> Json:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}


def conditions(api: RawApi, name: str) -> dict[str, str]:
    status = api.get(f"{NODES}/{name}").body["status"]
    return {entry["type"]: entry["status"] for entry in status.get("conditions") or []}


def condition(kind: str, status: str) -> Json:
    return {"type": kind, "status": status, "reason": "Test", "message": ""}


def test_a_merge_patch_sets_and_removes(api: RawApi, unique: str) -> None:
    api.post(LEASES, lease(unique, labels={"a": "1", "b": "2"}))
    body = {"metadata": {"labels": {"a": None, "c": "3"}}, "spec": {"holderIdentity": "b"}}
    patched = api.patch(f"{LEASES}/{unique}", MERGE_PATCH, body)

    assert patched.status == 200
    assert patched.body["metadata"]["labels"] == {"b": "2", "c": "3"}
    assert patched.body["spec"]["holderIdentity"] == "b"


def test_a_json_patch_applies_in_order_and_a_failed_test_refuses_all(api: RawApi, unique: str) -> None:
    api.post(LEASES, lease(unique))
    path = "/spec/holderIdentity"
    refused = api.patch(
        f"{LEASES}/{unique}",
        JSON_PATCH,
        [{"op": "replace", "path": path, "value": "b"}, {"op": "test", "path": path, "value": "x"}],
    )
    done = api.patch(f"{LEASES}/{unique}", JSON_PATCH, [{"op": "replace", "path": path, "value": "b"}])

    assert (refused.status, refused.body["reason"]) == (422, "Invalid")
    assert done.body["spec"]["holderIdentity"] == "b"


def test_a_strategic_patch_merges_conditions_by_type_and_a_merge_patch_replaces_them(
    api: RawApi, unique: str
) -> None:
    api.post(NODES, node(unique))
    path = f"{NODES}/{unique}/status"
    for kind in ("GPUHealthy", "NVLinkHealthy"):
        api.patch(path, STRATEGIC_PATCH, {"status": {"conditions": [condition(kind, "True")]}})
    api.patch(path, STRATEGIC_PATCH, {"status": {"conditions": [condition("GPUHealthy", "False")]}})
    assert conditions(api, unique) == {"GPUHealthy": "False", "NVLinkHealthy": "True"}

    delete = {"status": {"conditions": [{"$patch": "delete", "type": "NVLinkHealthy"}]}}
    api.patch(path, STRATEGIC_PATCH, delete)
    assert conditions(api, unique) == {"GPUHealthy": "False"}
    api.patch(path, MERGE_PATCH, {"status": {"conditions": [condition("Other", "True")]}})
    assert conditions(api, unique) == {"Other": "True"}


def test_status_and_spec_are_written_apart(api: RawApi, unique: str) -> None:
    api.post(NODES, node(unique))
    api.patch(f"{NODES}/{unique}", MERGE_PATCH, {"status": {"phase": "Running"}})
    api.patch(f"{NODES}/{unique}/status", MERGE_PATCH, {"spec": {"unschedulable": True}})
    stored = api.get(f"{NODES}/{unique}").body

    assert "phase" not in stored.get("status", {})
    assert "unschedulable" not in stored["spec"]


JSON_PATCHES: dict[str, tuple[Json, Json | None]] = {
    "add": ({"op": "add", "path": "/metadata/labels/c", "value": "d"}, {"a": "b", "c": "d"}),
    "remove": ({"op": "remove", "path": "/metadata/labels/a"}, {}),
    "remove what is not there": ({"op": "remove", "path": "/metadata/labels/z"}, None),
    "replace": ({"op": "replace", "path": "/metadata/labels/a", "value": "c"}, {"a": "c"}),
    "replace what is not there": (
        {"op": "replace", "path": "/metadata/labels/z", "value": "c"},
        {"a": "b", "z": "c"},
    ),
    "copy": (
        {"op": "copy", "from": "/spec/holderIdentity", "path": "/metadata/labels/h"},
        {"a": "b", "h": "a"},
    ),
    "move": ({"op": "move", "from": "/metadata/labels/a", "path": "/metadata/labels/m"}, {"m": "b"}),
    "a test that holds": ({"op": "test", "path": "/spec/holderIdentity", "value": "a"}, {"a": "b"}),
    "a test that fails": ({"op": "test", "path": "/spec/holderIdentity", "value": "b"}, None),
    "a test for null": ({"op": "test", "path": "/spec/nothing", "value": None}, {"a": "b"}),
    "an operation that is not known": ({"op": "shift", "path": "/metadata"}, None),
    "an operation without a path": ({"op": "add", "value": 1}, None),
    "the end of a list that is not there": (
        {"op": "add", "path": "/metadata/finalizers/-", "value": "a/b"},
        None,
    ),
}


@pytest.mark.parametrize(("step", "labels"), JSON_PATCHES.values(), ids=JSON_PATCHES)
def test_a_step_of_a_json_patch(api: RawApi, unique: str, step: Json, labels: Json | None) -> None:
    api.post(LEASES, lease(unique, labels={"a": "b"}))
    answer = api.patch(f"{LEASES}/{unique}", JSON_PATCH, [step])

    if labels is None:
        assert refusal(answer) == (422, "Invalid")
        assert answer.body["message"] == "the server rejected our request due to an error in our request"
    else:
        assert stored(answer)["metadata"].get("labels", {}) == labels


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ({"finalizers": ["a/3"]}, ["a/3", "a/1", "a/2"]),
        ({"finalizers": ["a/2", "a/3"]}, ["a/1", "a/2", "a/3"]),
        ({"finalizers": ["a/1"]}, ["a/1", "a/2"]),
        (
            {"$setElementOrder/finalizers": ["a/1", "a/3", "a/2"], "finalizers": ["a/3"]},
            ["a/1", "a/3", "a/2"],
        ),
        ({"$deleteFromPrimitiveList/finalizers": ["a/1"]}, ["a/2"]),
    ],
    ids=["new ones first", "in their order", "known", "ordered", "deleted"],
)
def test_a_strategic_patch_merges_finalizers(
    api: RawApi, unique: str, patch: Json, expected: list[str]
) -> None:
    api.post(LEASES, lease(unique, finalizers=["a/1", "a/2"]))
    answer = api.patch(f"{LEASES}/{unique}", STRATEGIC_PATCH, {"metadata": patch})

    assert stored(answer)["metadata"]["finalizers"] == expected


def test_a_strategic_patch_replaces_the_taints_of_a_node(api: RawApi, unique: str) -> None:
    """Unlike conditions they are one value: whoever adds one sends the others too, with the version it read."""
    api.post(NODES, node(unique))
    taint = {"key": "b", "effect": "NoSchedule"}
    answer = api.patch(f"{NODES}/{unique}", STRATEGIC_PATCH, {"spec": {"taints": [taint]}})

    assert stored(answer)["spec"]["taints"] == [taint]


@pytest.mark.parametrize(
    ("taint", "complaint"),
    [
        (
            {"key": "a", "effect": "Nope"},
            'metadata.taints[0].effect: Unsupported value: "Nope": supported values: "NoSchedule", '
            '"PreferNoSchedule", "NoExecute"',
        ),
        ({"effect": "NoSchedule"}, 'metadata.taints[0].key: Invalid value: "": name part must be non-empty'),
    ],
    ids=["effect", "key"],
)
def test_a_node_taint_that_means_nothing_is_refused(
    api: RawApi, unique: str, taint: Json, complaint: str
) -> None:
    api.post(NODES, node(unique))

    assert complaint in causes(api.patch(f"{NODES}/{unique}", MERGE_PATCH, {"spec": {"taints": [taint]}}))


def test_one_taint_comes_once(api: RawApi, unique: str) -> None:
    api.post(NODES, node(unique))
    taint = {"key": "a", "effect": "NoSchedule"}
    answer = api.patch(f"{NODES}/{unique}", MERGE_PATCH, {"spec": {"taints": [taint, taint]}})

    assert causes(answer) == [
        'metadata.taints[1]: Duplicate value: {"Key":"a","Value":"","Effect":"NoSchedule","TimeAdded":null}: '
        "taints must be unique by key and effect pair"
    ]


def test_a_cordon_is_a_field_and_is_selectable(api: RawApi, unique: str) -> None:
    api.post(NODES, node(unique))
    stored(api.patch(f"{NODES}/{unique}", MERGE_PATCH, {"spec": {"unschedulable": True}}))
    query = f"metadata.name={unique},spec.unschedulable="

    assert names(api.get(NODES, fieldSelector=f"{query}true")) == [unique]
    stored(api.patch(f"{NODES}/{unique}", MERGE_PATCH, {"spec": {"unschedulable": None}}))
    assert names(api.get(NODES, fieldSelector=f"{query}false")) == [unique]


def test_an_unknown_directive_is_an_error(api: RawApi, unique: str) -> None:
    api.post(LEASES, lease(unique))
    answer = api.patch(f"{LEASES}/{unique}", STRATEGIC_PATCH, {"$patch": "frob", "spec": {}})

    assert answer.status == 500
    assert answer.body["message"] == "unknown patch type: frob in map: map[$patch:frob spec:map[]]"


@pytest.mark.parametrize(
    ("patch", "text"),
    [
        ({"metadata": {"name": "x"}}, "the name of the object (x) does not match the name on the URL ({})"),
        (
            {"metadata": {"name": None}},
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
        ),
        (
            {"metadata": {"namespace": "x"}},
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
    ],
    ids=["name", "no name", "namespace"],
)
def test_a_patch_moves_no_object(api: RawApi, unique: str, patch: Json, text: str) -> None:
    api.post(LEASES, lease(unique))
    answer = api.patch(f"{LEASES}/{unique}", MERGE_PATCH, patch)

    assert refusal(answer) == (400, "BadRequest")
    assert answer.body["message"] == text.format(unique)
