"""Request bodies: media types, broken JSON, wrong types, unknown fields."""

import json

import pytest

from support.kube_objects import LEASES, SLICES, device, lease, resource_slice
from support.raw_api import JSON_PATCH, MERGE_PATCH, Json, RawApi
from support.realkube.answers import refusal, stored, warnings


def with_unknown_field(name: str) -> Json:
    return resource_slice(name, {**device("a"), "health": 5})


@pytest.mark.parametrize("body", ["{", "", "[]", '"text"'], ids=["cut", "empty", "list", "string"])
def test_a_body_that_is_no_object_is_a_bad_request(api: RawApi, body: str) -> None:
    assert refusal(api.request("POST", LEASES, body=body)) == (400, "BadRequest")


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_media_type_that_is_not_known_is_refused(api: RawApi, unique: str, method: str) -> None:
    api.post(LEASES, lease(unique))
    path = LEASES if method == "POST" else f"{LEASES}/{unique}"
    answer = api.request(method, path, body="{}", content_type="text/plain")

    assert refusal(answer) == (415, "UnsupportedMediaType")
    assert answer.body["message"].startswith(
        "the body of the request was in an unknown format - accepted media types include: application/"
    )


def test_a_patch_of_a_kind_that_is_not_known_is_refused(api: RawApi, unique: str) -> None:
    api.post(LEASES, lease(unique))
    answer = api.request("PATCH", f"{LEASES}/{unique}", body="{}", content_type="text/plain")

    assert refusal(answer) == (415, "UnsupportedMediaType")
    assert answer.body["message"] == "415: Unsupported Media Type"


def test_an_answer_that_cannot_be_given_is_not_acceptable(api: RawApi) -> None:
    assert api.get(LEASES, accept="text/csv").status == 406


def test_a_verb_that_a_path_lacks_is_not_allowed(api: RawApi) -> None:
    answer = api.request("PUT", LEASES, body=lease("a"))

    assert refusal(answer) == (405, "MethodNotAllowed")


@pytest.mark.parametrize(
    ("kind", "body"),
    [(MERGE_PATCH, "{"), (MERGE_PATCH, "[]"), (JSON_PATCH, "{}")],
    ids=["cut", "merge list", "json object"],
)
def test_a_patch_of_the_wrong_shape_is_a_bad_request(api: RawApi, unique: str, kind: str, body: str) -> None:
    api.post(LEASES, lease(unique))
    answer = api.request("PATCH", f"{LEASES}/{unique}", body=body, content_type=kind)

    assert refusal(answer) == (400, "BadRequest")


def test_another_kind_in_the_body_is_a_bad_request(api: RawApi, unique: str) -> None:
    answer = api.post(LEASES, {**lease(unique), "kind": "Pod"})

    assert refusal(answer) == (400, "BadRequest")
    assert answer.body["message"].startswith('Pod in version "v1" cannot be handled as a Lease: ')


def test_kind_and_version_may_be_left_out(api: RawApi, unique: str) -> None:
    made = stored(api.post(LEASES, {"metadata": {"name": unique}, "spec": {"holderIdentity": "a"}}))

    assert (made["kind"], made["apiVersion"]) == ("Lease", "coordination.k8s.io/v1")


@pytest.mark.parametrize(
    ("attribute", "kind", "expected"),
    [
        ({"int": "5"}, "string", "int64"),
        ({"bool": "true"}, "string", "bool"),
        ({"string": 5}, "number", "string"),
    ],
    ids=["int", "bool", "string"],
)
def test_a_value_of_the_wrong_type_is_a_bad_request(
    api: RawApi, unique: str, attribute: Json, kind: str, expected: str
) -> None:
    answer = api.post(SLICES, resource_slice(unique, {"name": "a", "attributes": {"k": attribute}}))

    assert refusal(answer) == (400, "BadRequest")
    start = 'ResourceSlice in version "v1" cannot be handled as a ResourceSlice: json: cannot unmarshal'
    assert answer.body["message"].startswith(f"{start} {kind}")
    assert answer.body["message"].endswith(f"of type {expected}")


def test_a_field_that_nobody_knows_is_dropped(api: RawApi, unique: str) -> None:
    made = stored(api.post(SLICES, with_unknown_field(unique)))

    assert made["spec"]["devices"] == [device("a")]


def test_a_dropped_field_is_warned_about_unless_it_is_to_be_ignored(api: RawApi, unique: str) -> None:
    warned = api.post(SLICES, with_unknown_field(unique))
    silent = api.post(SLICES, with_unknown_field(f"{unique}-2"), fieldValidation="Ignore")

    assert warnings(warned) == [r"unknown field \"spec.devices[0].health\""]
    assert warnings(silent) == []


def test_a_strict_request_refuses_a_field_that_nobody_knows(api: RawApi, unique: str) -> None:
    answer = api.post(SLICES, with_unknown_field(unique), fieldValidation="Strict")

    assert refusal(answer) == (400, "BadRequest")
    assert answer.body["message"] == (
        'ResourceSlice in version "v1" cannot be handled as a ResourceSlice: strict decoding error: '
        'unknown field "spec.devices[0].health"'
    )


def test_a_strict_request_refuses_a_key_that_comes_twice(api: RawApi, unique: str) -> None:
    spec = json.dumps(lease(unique)["spec"])[1:-1]
    body = json.dumps(lease(unique)).replace(spec, f"{spec}, {spec}")
    answer = api.request("POST", LEASES, body=body, query={"fieldValidation": "Strict"})

    assert refusal(answer) == (400, "BadRequest")
    assert answer.body["message"].endswith('strict decoding error: duplicate field "spec.holderIdentity"')


def test_a_quantity_that_is_none_is_a_bad_request(api: RawApi, unique: str) -> None:
    body = resource_slice(unique, {"name": "a", "capacity": {"memory": {"value": "abc"}}})
    answer = api.post(SLICES, body)

    assert refusal(answer) == (400, "BadRequest")
    assert "quantities must match the regular expression" in answer.body["message"]
