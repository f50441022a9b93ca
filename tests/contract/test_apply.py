"""Server-side apply: whose field is whose, on the lists that the driver and its controller own."""

import pytest

from support.kube_objects import LEASES, NODES, SLICES, device, lease, resource_slice, taint
from support.raw_api import APPLY_PATCH, MERGE_PATCH, STRATEGIC_PATCH, Answer, Json, RawApi
from support.realkube.answers import causes, owners, refusal, stored


def node(name: str, **fields: object) -> Json:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, **fields}


def condition(kind: str, status: str = "True") -> Json:
    return {"type": kind, "status": status, "reason": "Test", "message": "m"}


def apply_conditions(api: RawApi, name: str, manager: str, *conditions: Json, **query: object) -> Answer:
    return api.apply(
        f"{NODES}/{name}/status", manager, node(name, status={"conditions": list(conditions)}), **query
    )


def conditions(answer: Answer) -> dict[str, str]:
    return {entry["type"]: entry["status"] for entry in stored(answer)["status"].get("conditions") or []}


def test_an_apply_creates_even_an_object_without_fields(api: RawApi, unique: str) -> None:
    made = api.apply(f"{NODES}/{unique}", "us", node(unique))

    assert made.status == 201
    assert made.body["spec"] == {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]}
    assert api.apply(f"{NODES}/{unique}-2", "us", node(f"{unique}-2"), dryRun="All").status == 201
    assert api.get(f"{NODES}/{unique}-2").status == 404


def test_an_apply_to_the_status_of_nothing_is_not_found(api: RawApi, unique: str) -> None:
    assert refusal(api.apply(f"{NODES}/{unique}/status", "us", node(unique))) == (404, "NotFound")


def test_node_conditions_of_two_managers_live_side_by_side(api: RawApi, unique: str) -> None:
    stored(api.post(NODES, node(unique)))
    apply_conditions(api, unique, "us", condition("GPUHealthy"), condition("NVLinkHealthy"))
    kubelet = {"status": {"conditions": [condition("Ready")]}}
    both = api.patch(f"{NODES}/{unique}/status", STRATEGIC_PATCH, kubelet, fieldManager="kubelet")
    fewer = apply_conditions(api, unique, "us", condition("GPUHealthy", "False"))

    assert conditions(both) == {"GPUHealthy": "True", "NVLinkHealthy": "True", "Ready": "True"}
    assert conditions(fewer) == {"GPUHealthy": "False", "Ready": "True"}
    assert owners(fewer) == [("kubelet", "Update", "status"), ("us", "Apply", "status")]


def test_an_identical_apply_writes_nothing(api: RawApi, unique: str) -> None:
    stored(api.post(NODES, node(unique)))
    first = apply_conditions(api, unique, "us", condition("GPUHealthy"))
    second = apply_conditions(api, unique, "us", condition("GPUHealthy"))

    assert first.version == second.version


def test_a_merge_patch_takes_the_conditions_of_everybody(api: RawApi, unique: str) -> None:
    stored(api.post(NODES, node(unique)))
    apply_conditions(api, unique, "us", condition("GPUHealthy"))
    body = {"status": {"conditions": [condition("Ready")]}}
    answer = api.patch(f"{NODES}/{unique}/status", MERGE_PATCH, body)

    assert conditions(answer) == {"Ready": "True"}


def test_a_conflict_names_the_owner_and_the_field_and_force_takes_it(api: RawApi, unique: str) -> None:
    stored(api.post(NODES, node(unique)))
    apply_conditions(api, unique, "us", condition("GPUHealthy"))
    refused = apply_conditions(api, unique, "them", condition("GPUHealthy", "False"))
    forced = apply_conditions(api, unique, "them", condition("GPUHealthy", "False"), force=True)

    assert refusal(refused) == (409, "Conflict")
    assert refused.body["message"] == (
        'Apply failed with 1 conflict: conflict with "us" with subresource "status": '
        '.status.conditions[type="GPUHealthy"].status'
    )
    assert refused.body["details"]["causes"] == [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "us" with subresource "status"',
            "field": '.status.conditions[type="GPUHealthy"].status',
        }
    ]
    assert conditions(forced) == {"GPUHealthy": "False"}


def test_node_taints_are_atomic_for_apply_and_keyed_for_a_strategic_patch(api: RawApi, unique: str) -> None:
    stored(api.post(NODES, node(unique)))
    ours = {"key": "gpu.health/unhealthy", "value": "true", "effect": "NoSchedule"}
    applied = api.apply(f"{NODES}/{unique}", "us", node(unique, spec={"taints": [ours]}), force=True)
    theirs = {"key": "other", "effect": "NoExecute"}
    patched = api.patch(f"{NODES}/{unique}", MERGE_PATCH, {"spec": {"taints": [ours, theirs]}})
    refused = api.apply(f"{NODES}/{unique}", "us", node(unique, spec={"taints": [ours]}))

    assert stored(applied)["spec"]["taints"] == [ours]
    assert stored(patched)["spec"]["taints"] == [ours, theirs]
    assert refusal(refused) == (409, "Conflict")
    assert refused.body["message"].endswith(": .spec.taints")


def test_a_slices_devices_are_one_value(api: RawApi, unique: str) -> None:
    path, old = f"{SLICES}/{unique}", "2026-11-24T01:02:03Z"
    first = api.apply(path, "us", resource_slice(unique, device("a", taint(timeAdded=old))))
    same = api.apply(path, "us", resource_slice(unique, device("a", taint(timeAdded=old))))
    stamped = api.apply(path, "us", resource_slice(unique, device("a", taint())))
    refused = api.apply(path, "them", resource_slice(unique, device("b")))

    assert first.status == 201
    assert same.version == first.version
    assert stored(stamped)["metadata"]["generation"] == 2
    assert stamped.body["spec"]["devices"][0]["taints"][0]["timeAdded"] > old
    assert refused.body["message"] == 'Apply failed with 1 conflict: conflict with "us": .spec.devices'


def test_what_is_no_longer_applied_goes_unless_somebody_else_owns_it(api: RawApi, unique: str) -> None:
    path = f"{LEASES}/{unique}"
    api.apply(path, "us", lease(unique, labels={"a": "1", "b": "2"}))
    api.apply(path, "them", lease(unique, labels={"b": "2"}))
    left = stored(api.apply(path, "us", lease(unique)))

    assert left["metadata"]["labels"] == {"b": "2"}


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"spec": {"foo": 1}}, 500, ".spec.foo: field not declared in schema"),
        ({"spec": {"unschedulable": "x"}}, 500, ".spec.unschedulable: expected boolean, got &{x}"),
        (
            {"spec": {"podCIDR": 5}},
            500,
            ".spec.podCIDR: expected string, got &value.valueUnstructured{Value:5}",
        ),
        ({"spec": []}, 500, ".spec: expected map, got &{[]}"),
        (
            {"status": {"conditions": [condition("A"), condition("A")]}},
            500,
            '.status.conditions: duplicate entries for key [type="A"]',
        ),
    ],
    ids=["unknown", "boolean", "string", "map", "twice"],
)
def test_a_configuration_of_another_shape_is_refused(
    api: RawApi, unique: str, change: Json, code: int, text: str
) -> None:
    answer = api.apply(f"{NODES}/{unique}", "us", node(unique, **change))

    assert answer.status == code
    head = f"failed to create typed patch object (/{unique}; /v1, Kind=Node)"
    assert answer.body["message"] == f"{head}: {text}"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"kind": "Pod"}, "invalid object type: /v1, Kind=Pod"),
        ({"kind": ""}, None),
        ({"metadata": {"name": "other"}}, None),
        ({"metadata": {"managedFields": [{"manager": "x"}]}}, "metadata.managedFields must be nil"),
    ],
    ids=["another kind", "no kind", "another name", "managed fields"],
)
def test_a_configuration_for_something_else_is_a_bad_request(
    api: RawApi, unique: str, change: Json, text: str | None
) -> None:
    stored(api.post(NODES, node(unique)))
    answer = api.apply(f"{NODES}/{unique}", "us", node(unique) | change)

    assert refusal(answer) == (400, "BadRequest")
    assert text is None or answer.body["message"] == text


def test_an_apply_at_a_stale_version_is_a_conflict(api: RawApi, unique: str) -> None:
    stored(api.post(NODES, node(unique)))
    body = node(unique) | {"metadata": {"name": unique, "resourceVersion": "1"}}

    assert refusal(api.apply(f"{NODES}/{unique}", "us", body)) == (409, "Conflict")


def test_an_apply_names_its_manager(api: RawApi, unique: str) -> None:
    answer = api.patch(f"{NODES}/{unique}", APPLY_PATCH, node(unique))

    assert causes(answer) == ["fieldManager: Required value: is required for apply patch"]


def test_a_managers_name_has_at_most_128_bytes(api: RawApi) -> None:
    answer = api.post(LEASES, lease("a"), fieldManager="m" * 129, dryRun="All")

    assert causes(answer) == ["fieldManager: Too long: may not be more than 128 bytes"]


def test_force_is_for_applies_alone(api: RawApi, unique: str) -> None:
    stored(api.post(LEASES, lease(unique)))
    answer = api.patch(f"{LEASES}/{unique}", MERGE_PATCH, {}, force=True)

    assert causes(answer) == ["force: Forbidden: may not be specified for non-apply patch"]


def test_writers_without_a_name_are_called_after_their_program(api: RawApi, unique: str) -> None:
    made = api.post(LEASES, lease(unique))
    named = api.patch(f"{LEASES}/{unique}", MERGE_PATCH, {"spec": {"holderIdentity": "b"}}, fieldManager="us")

    assert owners(made) == [("unknown", "Update", "")]
    assert owners(named) == [("us", "Update", "")]
