"""The fields of all kinds with their types, and the server's canonical form of values."""

from collections.abc import Iterator

import pytest

from gpuvitals_sim.apiserver.kinds import BUILT_IN, Kind
from gpuvitals_sim.apiserver.strategy.known_fields import Field, fields_of, known_fields
from support.kube_objects import (
    EVENTS,
    JOBS,
    LEASES,
    NODES,
    PODS,
    SLICES,
    device,
    event,
    job,
    lease,
    pod,
    resource_slice,
    taint,
)
from support.raw_api import Json, RawApi
from support.realkube.answers import refusal, stored, warnings
from support.realkube.server import RealServer

_LETTERS = {"int64": "i", "int32": "n", "date-time": "tu"}


@pytest.mark.needs_go
@pytest.mark.parametrize("kind", BUILT_IN, ids=lambda kind: f"{kind.plural}.{kind.group}")
def test_the_embedded_server_knows_the_fields_of_the_real_one(real_server: RealServer, kind: Kind) -> None:
    prefix = f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}"
    schemas = real_server.api.get(f"/openapi/v3/{prefix}").body["components"]["schemas"]
    wanted = {"group": kind.group, "version": kind.version, "kind": kind.name}
    [schema] = [
        each for each in schemas.values() if wanted in each.get("x-kubernetes-group-version-kind", [])
    ]
    known = known_fields(kind)
    assert known is not None

    assert list(differences(known, schema, schemas, kind.plural)) == []


def differences(known: Field, schema: Json, schemas: Json, path: str) -> Iterator[str]:
    """The differences between our table and a schema; open values of the table are not compared."""
    schema = resolved(schema, schemas)
    match known.form:
        case "any":
            return
        case "object":
            fields, properties = fields_of(known.type), schema.get("properties", {})
            for name in sorted(fields.keys() ^ properties.keys()):
                yield f"{path}.{name}: only {'ours' if name in fields else 'theirs'}"
            for name in fields.keys() & properties.keys():
                yield from differences(fields[name], properties[name], schemas, f"{path}.{name}")
        case "list":
            yield from differences(known.item, schema.get("items", {}), schemas, f"{path}[]")
        case "map":
            yield from differences(known.item, schema.get("additionalProperties", {}), schemas, f"{path}<>")
        case _:
            if known.type not in letters(schema):
                yield f"{path}: ours is {known.type!r}, theirs {schema}"


def resolved(schema: Json, schemas: Json) -> Json:
    while reference := schema.get("$ref") or next(iter(schema.get("allOf", [])), {}).get("$ref"):
        schema = schemas[reference.rpartition("/")[2]]
    return schema


def letters(schema: Json) -> tuple[str, ...]:
    """The table's letters that mean the schema of a scalar."""
    if "oneOf" in schema:
        return ("q",)
    if schema.get("type") == "boolean":
        return ("b",)
    return tuple(_LETTERS.get(schema.get("format", ""), ("",)))


@pytest.mark.parametrize(
    ("path", "body", "unknown"),
    [
        (LEASES, {**lease("a"), "spec": {"holder": "a"}}, ["spec.holder"]),
        (NODES, {"metadata": {"name": "a"}, "status": {"condition": []}}, ["status.condition"]),
        (EVENTS, {**event("a"), "why": "x"}, ["why"]),
        (PODS, {**pod("a"), "status": {"phase": "x", "fase": "x"}}, ["status.fase"]),
        (JOBS, {**job("a"), "metadata": {"name": "a", "label": {}}}, ["metadata.label"]),
        (
            SLICES,
            resource_slice("a", {**device("a"), "health": 5}, {**device("b"), "x": 1, "y": 2}),
            ["spec.devices[0].health", "spec.devices[1].x", "spec.devices[1].y"],
        ),
    ],
    ids=["lease", "node", "event", "pod", "job", "slice"],
)
def test_a_field_that_nobody_knows_is_warned_about_or_refused(
    api: RawApi, path: str, body: Json, unknown: list[str]
) -> None:
    warned = api.post(path, body, dryRun="All")
    strict = api.post(path, body, dryRun="All", fieldValidation="Strict")

    assert stored(warned)
    assert warnings(warned) == [rf"unknown field \"{name}\"" for name in unknown]
    assert refusal(strict) == (400, "BadRequest")
    listed = ", ".join(f'unknown field "{name}"' for name in unknown)
    assert strict.body["message"].endswith(f": strict decoding error: {listed}")


def test_a_way_of_validation_that_is_not_known_is_refused(api: RawApi) -> None:
    answer = api.post(LEASES, lease("a"), dryRun="All", fieldValidation="Loose")

    assert refusal(answer) == (422, "Invalid")
    assert answer.body["message"] == (
        'CreateOptions.meta.k8s.io "" is invalid: fieldValidation: Unsupported value: "Loose": '
        'supported values: "", "Ignore", "Strict", "Warn"'
    )


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (
            {"leaseDurationSeconds": "5"},
            "json: cannot unmarshal string into Go struct field LeaseSpec.spec.leaseDurationSeconds of type int32",
        ),
        (
            {"holderIdentity": 5},
            "json: cannot unmarshal number into Go struct field LeaseSpec.spec.holderIdentity of type string",
        ),
        (
            {"renewTime": "yesterday"},
            'parsing time "yesterday" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "yesterday" as "2006"',
        ),
        (
            {"renewTime": "2026-11-24T01:02:03Z"},
            'parsing time "2026-11-24T01:02:03Z" as "2006-01-02T15:04:05.000000Z07:00": '
            'cannot parse "Z" as ".000000"',
        ),
    ],
    ids=["number", "text", "no time", "no microseconds"],
)
def test_a_leases_values_are_typed(api: RawApi, spec: Json, text: str) -> None:
    answer = api.post(LEASES, {**lease("a"), "spec": spec}, dryRun="All")

    assert refusal(answer) == (400, "BadRequest")
    assert answer.body["message"] == f'Lease in version "v1" cannot be handled as a Lease: {text}'


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        (
            {"finalizers": "a/b"},
            "string into Go struct field ObjectMeta.metadata.finalizers of type []string",
        ),
        ({"generation": "1"}, "string into Go struct field ObjectMeta.metadata.generation of type int64"),
    ],
    ids=["list", "number"],
)
def test_metadata_is_typed(api: RawApi, metadata: Json, text: str) -> None:
    answer = api.post(LEASES, lease("a", **metadata), dryRun="All")

    assert refusal(answer) == (400, "BadRequest")
    assert answer.body["message"].endswith(text)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("80Gi", "80Gi"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("1.1Gi", "1181116006400m"),
        ("1000000", "1M"),
        ("0.5", "500m"),
        ("1e4", "10e3"),
        ("0.1n", "1n"),
        ("-0.5", "-500m"),
        (5, "5"),
        (5.5, "5500m"),
    ],
)
def test_a_quantity_is_kept_in_its_canonical_form(api: RawApi, sent: object, kept: str) -> None:
    body = resource_slice("a", {"name": "a", "capacity": {"memory": {"value": sent}}})
    made = stored(api.post(SLICES, body, dryRun="All"))

    assert made["spec"]["devices"][0]["capacity"] == {"memory": {"value": kept}}


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (
            "abc",
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        ("1K", "unable to parse quantity's suffix"),
    ],
)
def test_a_text_that_is_no_quantity_is_a_bad_request(api: RawApi, sent: str, text: str) -> None:
    body = {"metadata": {"name": "a"}, "status": {"capacity": {"cpu": sent}}}
    answer = api.post(NODES, body, dryRun="All")

    assert refusal(answer) == (400, "BadRequest")
    assert answer.body["message"] == f'Node in version "v1" cannot be handled as a Node: {text}'


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("2026-11-24T01:02:03Z", "2026-11-24T01:02:03Z"),
        ("2026-11-24T01:02:03.9Z", "2026-11-24T01:02:03Z"),
        ("2026-11-24T02:02:03+01:00", "2026-11-24T01:02:03Z"),
    ],
    ids=["plain", "fraction", "zone"],
)
def test_a_time_is_kept_in_utc_and_whole_seconds(api: RawApi, sent: str, kept: str) -> None:
    made = stored(api.post(SLICES, resource_slice("a", device("a", taint(timeAdded=sent))), dryRun="All"))

    assert made["spec"]["devices"][0]["taints"][0]["timeAdded"] == kept


def test_limits_are_requests_where_none_are_named(api: RawApi) -> None:
    body = pod("a")
    body["spec"]["containers"][0]["resources"] = {"limits": {"cpu": 0.5, "memory": "1024Mi"}}
    made = stored(api.post(PODS, body, dryRun="All"))

    wanted = {"cpu": "500m", "memory": "1Gi"}
    assert made["spec"]["containers"][0]["resources"] == {"limits": wanted, "requests": wanted}
    assert made["status"]["qosClass"] == "Guaranteed"
