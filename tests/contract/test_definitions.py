"""CustomResourceDefinitions, and the resources that they define."""

import time

import pytest

from support.raw_api import MERGE_PATCH, STRATEGIC_PATCH, TABLE, Json, RawApi
from support.realkube.answers import causes, refusal, stored

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GROUP = "contract.vitals.internal"
ITEM = {
    "type": "object",
    "required": ["key"],
    "properties": {"key": {"type": "string"}, "value": {"type": "string"}},
}
LIST = {
    "type": "array",
    "items": ITEM,
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["key"],
}
SPEC = {
    "count": {"type": "integer", "minimum": 1, "maximum": 5},
    "mode": {"type": "string", "enum": ["Observe", "Isolate"], "default": "Isolate"},
    "name": {"type": "string", "pattern": "^a", "minLength": 2, "maxLength": 4},
    "items": LIST,
    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
    "bound": {"x-kubernetes-int-or-string": True},
    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
}
COLUMNS = [
    {"name": "Count", "type": "integer", "jsonPath": ".spec.count"},
    {"name": "Mode", "type": "string", "jsonPath": ".spec.mode", "priority": 1},
]


def definition(unique: str, **version: object) -> Json:
    properties = {
        "spec": {"type": "object", "properties": SPEC},
        "status": {"type": "object", "properties": {"seen": {"type": "integer"}}},
    }
    names = {
        "plural": f"{unique}s",
        "singular": unique,
        "kind": unique.capitalize(),
        "shortNames": [f"x{unique}"],
    }
    described = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
        "subresources": {"status": {}},
        "additionalPrinterColumns": COLUMNS,
        **version,
    }
    spec = {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [described]}
    return {"metadata": {"name": f"{unique}s.{GROUP}"}, "spec": spec}


@pytest.fixture
def path(api: RawApi, unique: str) -> str:
    """The path of the resources of this case's definition."""
    stored(api.post(DEFINITIONS, definition(unique)))
    path = f"/apis/{GROUP}/v1/namespaces/default/{unique}s"
    deadline = time.monotonic() + 20
    while api.get(path).status != 200:
        assert time.monotonic() < deadline, "the definition is not served"
        time.sleep(0.05)
    return path


def custom(unique: str, name: str = "a", **fields: object) -> Json:
    return {"apiVersion": f"{GROUP}/v1", "kind": unique.capitalize(), "metadata": {"name": name}, **fields}


def test_a_definition_is_established(api: RawApi, unique: str, path: str) -> None:
    body = stored(api.get(f"{DEFINITIONS}/{unique}s.{GROUP}"))

    true = {entry["type"] for entry in body["status"]["conditions"] if entry["status"] == "True"}
    assert true == {"NamesAccepted", "Established"}
    assert body["status"]["storedVersions"] == ["v1"]
    assert body["status"]["acceptedNames"]["listKind"] == f"{unique.capitalize()}List"


def test_defaults_are_filled_in_and_unknown_fields_are_lost(api: RawApi, unique: str, path: str) -> None:
    sent = {"count": 1, "nope": 2, "free": {"any": 1}}
    made = stored(api.post(path, custom(unique, spec=sent, status={"seen": 1})))

    assert made["spec"] == {"count": 1, "mode": "Isolate", "free": {"any": 1}}
    assert "status" not in made
    assert made["metadata"]["generation"] == 1


def test_a_strict_request_refuses_an_unknown_field(api: RawApi, unique: str, path: str) -> None:
    answer = api.post(path, custom(unique, spec={"nope": 2}), fieldValidation="Strict")

    assert refusal(answer) == (400, "BadRequest")
    assert answer.body["message"].endswith('strict decoding error: unknown field "spec.nope"')


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ({"count": 9}, "spec.count: Invalid value: 9: spec.count in body should be less than or equal to 5"),
        (
            {"count": "x"},
            'spec.count: Invalid value: "string": spec.count in body must be of type integer: "string"',
        ),
        ({"mode": "Full"}, 'spec.mode: Unsupported value: "Full": supported values: "Observe", "Isolate"'),
        ({"name": "bb"}, "spec.name: Invalid value: \"bb\": spec.name in body should match '^a'"),
        ({"name": "abcde"}, "spec.name: Too long: may not be more than 4 bytes"),
        ({"items": [{"value": "x"}]}, "spec.items[0].key: Required value"),
        (
            {"labels": {"a": 1}},
            'spec.labels.a: Invalid value: "integer": spec.labels.a in body must be of type string: "integer"',
        ),
        (
            {"bound": True},
            'spec.bound: Invalid value: "boolean": spec.bound in body must be of type integer,string: "boolean"',
        ),
    ],
    ids=["maximum", "type", "enum", "pattern", "length", "required", "map", "int or string"],
)
def test_the_schema_is_obeyed(api: RawApi, unique: str, path: str, spec: Json, complaint: str) -> None:
    assert causes(api.post(path, custom(unique, spec=spec)))[0] == complaint


def test_status_and_spec_are_written_apart_and_the_spec_counts_generations(
    api: RawApi, unique: str, path: str
) -> None:
    api.post(path, custom(unique, spec={"count": 1}))
    by_status = api.patch(f"{path}/a/status", MERGE_PATCH, {"status": {"seen": 1}, "spec": {"count": 2}})
    by_spec = api.patch(f"{path}/a", MERGE_PATCH, {"status": {"seen": 2}, "spec": {"count": 3}})

    assert (stored(by_status)["status"], by_status.body["spec"]["count"]) == ({"seen": 1}, 1)
    assert (stored(by_spec)["status"], by_spec.body["spec"]["count"]) == ({"seen": 1}, 3)
    assert (by_status.body["metadata"]["generation"], by_spec.body["metadata"]["generation"]) == (1, 2)


def test_lists_merge_by_key_in_an_apply_and_strategic_patches_are_refused(
    api: RawApi, unique: str, path: str
) -> None:
    for manager, key in (("us", "a"), ("them", "b")):
        applied = api.apply(f"{path}/a", manager, custom(unique, spec={"items": [{"key": key}]}))
    strategic = api.patch(f"{path}/a", STRATEGIC_PATCH, {"spec": {}})

    assert stored(applied)["spec"]["items"] == [{"key": "a"}, {"key": "b"}]
    assert refusal(strategic) == (415, "UnsupportedMediaType")


def test_an_update_wants_a_version_and_a_body_names_its_kind(api: RawApi, unique: str, path: str) -> None:
    made = stored(api.post(path, custom(unique)))
    without = api.put(f"{path}/a", custom(unique))
    nameless = api.post(path, {"metadata": {"name": "b"}})

    assert causes(without) == ["metadata.resourceVersion: Invalid value: 0: must be specified for an update"]
    assert refusal(nameless) == (400, "BadRequest")
    assert api.put(f"{path}/a", {**made, "spec": {"count": 2}}).status == 200


def test_printer_columns_make_the_table(api: RawApi, unique: str, path: str) -> None:
    api.post(path, custom(unique, spec={"count": 3}))
    table = api.get(path, accept=TABLE).body

    columns = [(each["name"], each["type"], each["priority"]) for each in table["columnDefinitions"]]
    assert columns == [("Name", "string", 0), ("Count", "integer", 0), ("Mode", "string", 1)]
    assert [row["cells"] for row in table["rows"]] == [["a", 3, "Isolate"]]


def test_items_of_a_list_name_their_kind(api: RawApi, unique: str, path: str) -> None:
    api.post(path, custom(unique))
    listed = api.get(path).body

    assert (listed["kind"], [each["kind"] for each in listed["items"]]) == (
        f"{unique.capitalize()}List",
        [unique.capitalize()],
    )


def test_a_definition_shows_up_in_discovery(api: RawApi, unique: str, path: str) -> None:
    found = {each["name"]: each for each in api.get(f"/apis/{GROUP}/v1").body["resources"]}

    assert found[f"{unique}s"]["shortNames"] == [f"x{unique}"]
    assert sorted(found[f"{unique}s/status"]["verbs"]) == ["get", "patch", "update"]


@pytest.mark.parametrize(
    ("version", "field"),
    [
        ({"storage": False}, "spec.versions"),
        ({"schema": None}, "spec.versions[0].schema.openAPIV3Schema"),
        (
            {"schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"properties": {}}}}}},
            "spec.validation.openAPIV3Schema.properties[spec].type",
        ),
    ],
    ids=["not stored", "no schema", "no type"],
)
def test_a_definition_is_structural_and_stored(api: RawApi, unique: str, version: Json, field: str) -> None:
    answer = api.post(DEFINITIONS, definition(unique, **version), dryRun="All")

    assert field in [entry.partition(": ")[0] for entry in causes(answer)]


def test_a_definition_is_called_after_its_resource(api: RawApi, unique: str) -> None:
    answer = api.post(DEFINITIONS, {**definition(unique), "metadata": {"name": "other.x"}}, dryRun="All")

    assert (
        causes(answer)[0]
        == 'metadata.name: Invalid value: "other.x": must be spec.names.plural+"."+spec.group'
    )
