"""CustomResourceDefinitions: served at once, validated, with status and columns, gone with their objects."""

from typing import Any

import pytest

from support.raw_api import APPLY_PATCH, MERGE_PATCH, STRATEGIC_PATCH, TABLE, RawApi

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
WIDGETS = "/apis/vitals.internal/v1/widgets"
SCHEMA = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["size"],
            "properties": {
                "size": {"type": "integer", "minimum": 1, "maximum": 10},
                "mode": {"type": "string", "enum": ["Observe", "Isolate"], "default": "Isolate"},
                "name": {"type": "string", "maxLength": 5, "pattern": "^a"},
            },
        },
        "status": {"type": "object", "properties": {"phase": {"type": "string"}}},
    },
}
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.vitals.internal"},
    "spec": {
        "group": "vitals.internal",
        "scope": "Cluster",
        "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"]},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": SCHEMA},
                "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
            }
        ],
    },
}


def widget(called: str = "w", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "vitals.internal/v1",
        "kind": "Widget",
        "metadata": {"name": called},
        "spec": {"size": 3, **spec},
    }


@pytest.fixture
def widgets(raw: RawApi) -> RawApi:
    assert raw.post(DEFINITIONS, DEFINITION).status == 201
    return raw


def test_a_definition_is_established_and_served(widgets: RawApi) -> None:
    conditions = widgets.get(f"{DEFINITIONS}/widgets.vitals.internal").body["status"]["conditions"]
    assert {entry["type"]: entry["status"] for entry in conditions} == {
        "NamesAccepted": "True",
        "Established": "True",
    }
    assert widgets.get("/apis/vitals.internal/v1").body["resources"][0]["shortNames"] == ["wd"]
    assert widgets.get(WIDGETS).body["kind"] == "WidgetList"


def test_defaults_are_filled_and_unknown_fields_lost(widgets: RawApi) -> None:
    made = widgets.post(WIDGETS, widget(unknown=1))
    assert made.body["spec"] == {"size": 3, "mode": "Isolate"}
    refused = widgets.post(WIDGETS, widget("x", unknown=1), fieldValidation="Strict")
    assert (refused.status, 'unknown field "spec.unknown"' in refused.body["message"]) == (400, True)


@pytest.mark.parametrize(
    ("spec", "field", "reason"),
    [
        ({"size": 0}, "spec.size", "FieldValueInvalid"),
        ({"size": 11}, "spec.size", "FieldValueInvalid"),
        ({"size": "3"}, "spec.size", "FieldValueTypeInvalid"),
        ({"mode": "Full"}, "spec.mode", "FieldValueNotSupported"),
        ({"name": "abcdef"}, "spec.name", "FieldValueTooLong"),
        ({"name": "b"}, "spec.name", "FieldValueInvalid"),
    ],
)
def test_the_schema_is_enforced(widgets: RawApi, spec: dict[str, Any], field: str, reason: str) -> None:
    refused = widgets.post(WIDGETS, widget(**spec))
    assert refused.status == 422
    assert [(cause["field"], cause["reason"]) for cause in refused.body["details"]["causes"]] == [
        (field, reason)
    ]


def test_spec_and_status_are_written_apart(widgets: RawApi) -> None:
    widgets.post(WIDGETS, widget())
    after = widgets.patch(
        f"{WIDGETS}/w/status", MERGE_PATCH, {"spec": {"size": 9}, "status": {"phase": "Done"}}
    ).body
    assert (after["spec"]["size"], after["status"], after["metadata"]["generation"]) == (
        3,
        {"phase": "Done"},
        1,
    )
    after = widgets.patch(f"{WIDGETS}/w", MERGE_PATCH, {"spec": {"size": 9}, "status": {"phase": "No"}}).body
    assert (after["spec"]["size"], after["status"], after["metadata"]["generation"]) == (
        9,
        {"phase": "Done"},
        2,
    )


def test_patch_formats_of_custom_resources(widgets: RawApi) -> None:
    assert widgets.patch(f"{WIDGETS}/w", APPLY_PATCH, widget(), fieldManager="m").status == 201
    assert widgets.patch(f"{WIDGETS}/w", STRATEGIC_PATCH, {}).status == 415


def test_tables_show_the_definitions_columns(widgets: RawApi) -> None:
    widgets.post(WIDGETS, widget())
    table = widgets.get(WIDGETS, accept=TABLE).body
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Size"]
    assert table["rows"][0]["cells"] == ["w", 3]


def test_a_deleted_definition_takes_its_objects_along(widgets: RawApi) -> None:
    widgets.post(WIDGETS, widget())
    widgets.delete(f"{DEFINITIONS}/widgets.vitals.internal")
    assert widgets.get(WIDGETS).status == 404
    widgets.post(DEFINITIONS, DEFINITION)
    assert widgets.get(WIDGETS).body["items"] == []
