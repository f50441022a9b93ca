"""The four kinds of patch."""

from support.kubeobjects import LEASES, NODES, lease
from support.rawapi import JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, Json, RawApi


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
