"""ResourceSlices: limits, taints and their times, immutable fields."""

import time

import pytest

from support.kube_objects import DRIVER, SLICES, device, resource_slice, taint
from support.raw_api import JSON_PATCH, MERGE_PATCH, Json, RawApi


def causes(body: Json) -> list[str]:
    return [f"{cause['field']}: {cause['message']}" for cause in body["details"]["causes"]]


def test_a_taint_without_a_time_is_stamped_and_every_write_stamps_it_anew(api: RawApi, unique: str) -> None:
    made = api.post(SLICES, resource_slice(unique, device("a", taint())))
    first = made.body["spec"]["devices"][0]["taints"][0]["timeAdded"]
    time.sleep(1.1)
    again = api.put(f"{SLICES}/{unique}", resource_slice(unique, device("a", taint())))

    assert again.body["spec"]["devices"][0]["taints"][0]["timeAdded"] > first
    assert again.body["metadata"]["generation"] == made.body["metadata"]["generation"] + 1


def test_a_carried_time_is_kept_and_writes_nothing(api: RawApi, unique: str) -> None:
    made = api.post(SLICES, resource_slice(unique, device("a", taint(timeAdded="2026-11-24T01:02:03Z"))))
    again = api.put(f"{SLICES}/{unique}", made.body)

    assert again.version == made.version
    assert again.body["spec"]["devices"][0]["taints"][0]["timeAdded"] == "2026-11-24T01:02:03Z"


@pytest.mark.parametrize("effect", ["None", "NoSchedule", "NoExecute"])
def test_three_effects_are_accepted(api: RawApi, unique: str, effect: str) -> None:
    assert api.post(SLICES, resource_slice(unique, device("a", taint(effect)))).status == 201


def test_an_unknown_effect_is_refused_with_the_supported_ones(api: RawApi, unique: str) -> None:
    answer = api.post(SLICES, resource_slice(unique, device("a", taint("PreferNoSchedule"))))

    assert (answer.status, answer.body["reason"]) == (422, "Invalid")
    assert causes(answer.body) == [
        'spec.devices[0].taints[0].effect: Unsupported value: "PreferNoSchedule": '
        'supported values: "NoExecute", "NoSchedule", "None"'
    ]


@pytest.mark.parametrize(
    ("devices", "tainted", "status"),
    [(64, True, 201), (65, True, 422), (65, False, 201), (128, False, 201), (129, False, 422)],
)
def test_a_slice_holds_128_devices_and_64_with_a_taint(
    api: RawApi, unique: str, devices: int, tainted: bool, status: int
) -> None:
    listed = [device(f"d{index}", *([taint()] if tainted and index == 0 else [])) for index in range(devices)]

    assert api.post(SLICES, resource_slice(unique, *listed)).status == status


def test_a_device_has_at_most_16_taints(api: RawApi, unique: str) -> None:
    many = [taint(key=f"{DRIVER}/k{index}") for index in range(17)]
    answer = api.post(SLICES, resource_slice(unique, device("a", *many)))

    assert answer.status == 422
    assert "must have at most 16 items" in answer.body["message"]


@pytest.mark.parametrize(
    "change",
    [{"driver": "other.vitals.internal"}, {"nodeName": "node-b"}],
    ids=["driver", "node"],
)
def test_driver_and_node_never_change(api: RawApi, unique: str, change: Json) -> None:
    made = api.post(SLICES, resource_slice(unique)).body
    answer = api.put(f"{SLICES}/{unique}", {**made, "spec": {**made["spec"], **change}})

    assert (answer.status, answer.body["reason"]) == (422, "Invalid")
    assert "field is immutable" in answer.body["message"]


def test_two_devices_of_one_name_are_refused(api: RawApi, unique: str) -> None:
    answer = api.post(SLICES, resource_slice(unique, device("a"), device("a")))

    assert answer.status == 422
    assert 'Duplicate value: "a"' in answer.body["message"]


def test_order_of_devices_is_content(api: RawApi, unique: str) -> None:
    made = api.post(SLICES, resource_slice(unique, device("a"), device("b")))
    turned = api.put(f"{SLICES}/{unique}", resource_slice(unique, device("b"), device("a")))

    assert turned.version != made.version
    assert [entry["name"] for entry in turned.body["spec"]["devices"]] == ["b", "a"]


def test_a_memory_quantity_is_stored_as_it_was_written(api: RawApi, unique: str) -> None:
    with_memory = {**device("a"), "capacity": {"memory": {"value": "80Gi"}}}
    made = api.post(SLICES, resource_slice(unique, with_memory))

    assert made.body["spec"]["devices"][0]["capacity"] == {"memory": {"value": "80Gi"}}


ATTRIBUTE = "spec.devices[0].attributes"
C_IDENTIFIER = "a valid C identifier must start with alphabetic character or '_', "
UNION = "`int`, `bool`, `string`, `version`, `ints`, `bools`, `strings`, `versions`"


def with_attributes(attributes: Json, **more: object) -> Json:
    return resource_slice("a", {"name": "a", "attributes": attributes, **more})


def test_a_device_has_at_most_32_attributes_and_capacities(api: RawApi) -> None:
    many = {f"a{index}": {"int": index} for index in range(31)}
    capacity = {"memory": {"value": "80Gi"}, "other": {"value": "1"}}
    full = with_attributes(many, capacity={"memory": {"value": "80Gi"}})
    answer = api.post(SLICES, with_attributes(many, capacity=capacity), dryRun="All")

    assert api.post(SLICES, full, dryRun="All").status == 201
    assert causes(answer.body) == [
        "spec.devices[0]: Invalid value: 33: the total number of attributes and capacities must not exceed 32"
    ]


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({"string": "x" * 64}, None),
        ({"string": "x" * 65}, ".string: Too long: may not be more than 64 bytes"),
        ({"string": "\u00fc" * 33}, ".string: Too long: may not be more than 64 bytes"),
        ({"string": ""}, None),
        ({"version": "535.54.3"}, None),
        (
            {"version": "535.54.03"},
            '.version: Invalid value: "535.54.03": must be a string compatible with semver.org spec 2.0.0',
        ),
        (
            {"version": "12.8"},
            '.version: Invalid value: "12.8": must be a string compatible with semver.org spec 2.0.0',
        ),
        ({"int": -9223372036854775808}, None),
        ({}, f': Invalid value: "": must specify one of: {UNION}'),
        ({"strings": ["x"]}, f': Invalid value: "": must specify one of: {UNION}'),
    ],
    ids=["64", "65", "65 bytes", "empty", "version", "zero", "two numbers", "least", "nothing", "gated list"],
)
def test_an_attribute_has_one_value_of_a_known_kind(api: RawApi, value: Json, complaint: str | None) -> None:
    answer = api.post(SLICES, with_attributes({"a": value}), dryRun="All")

    if complaint is None:
        assert answer.status == 201, answer.body
    else:
        assert causes(answer.body) == [f"{ATTRIBUTE}[a]{complaint}"]


@pytest.mark.parametrize("value", [1.5, 9223372036854775808], ids=["fraction", "too large"])
def test_an_integer_is_a_whole_number_of_64_bits(api: RawApi, value: float) -> None:
    answer = api.post(SLICES, with_attributes({"a": {"int": value}}), dryRun="All")

    assert (answer.status, answer.body["reason"]) == (400, "BadRequest")
    assert answer.body["message"].endswith(
        f"json: cannot unmarshal number {value} into Go struct field DeviceAttribute.spec.devices.attributes.int of "
        "type int64"
    )


@pytest.mark.parametrize(
    ("key", "start"),
    [
        ("health/score", None),
        ("score", None),
        ("Health/score", None),
        ("a.b", f'Invalid value: "a.b": {C_IDENTIFIER}'),
        ("health/a-b", f'Invalid value: "a-b": {C_IDENTIFIER}'),
        ("/b", 'Invalid value: "": the domain must not be empty'),
        ("b/", 'Invalid value: "": the name must not be empty'),
        ("x" * 33, "Too long: may not be more than 32 bytes"),
        ("d" * 64 + "/x", "Too long: may not be more than 63 bytes"),
    ],
    ids=["domain", "none", "upper", "dot", "dash", "no domain", "no name", "long name", "long domain"],
)
def test_a_key_is_an_identifier_with_or_without_a_domain(api: RawApi, key: str, start: str | None) -> None:
    answer = api.post(SLICES, with_attributes({key: {"int": 1}}), dryRun="All")

    if start is None:
        assert answer.status == 201, answer.body
    else:
        [complaint] = causes(answer.body)
        assert complaint.startswith(f"{ATTRIBUTE}: {start}")


@pytest.mark.parametrize(
    ("change", "start"),
    [
        ({"driver": ""}, "spec.driver: Required value"),
        ({"driver": "a" * 64}, "spec.driver: Too long: may not be more than 63 bytes"),
        ({"nodeName": None}, "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, "),
        ({"allNodes": True}, 'spec: Invalid value: "{`nodeName`, `allNodes`}": exactly one of '),
        (
            {"pool": {"name": "p"}},
            "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
        ),
        (
            {"pool": {"name": "p", "generation": -1, "resourceSliceCount": 1}},
            "spec.pool.generation: Invalid value: -1: must be greater than or equal to zero",
        ),
        ({"pool": {"name": "a_b", "resourceSliceCount": 1}}, 'spec.pool.name: Invalid value: "a_b": '),
        ({"devices": [{"name": "GPU-0"}]}, 'spec.devices[0].name: Invalid value: "GPU-0": '),
        (
            {"devices": [{"name": "gpu.0"}]},
            'spec.devices[0].name: Invalid value: "gpu.0": must not contain dots',
        ),
    ],
    ids=["driver", "long driver", "no node", "two nodes", "count", "generation", "pool", "upper", "dot"],
)
def test_a_slice_that_means_nothing_is_refused(api: RawApi, change: Json, start: str) -> None:
    body = resource_slice("a", device("a"))
    answer = api.post(SLICES, {**body, "spec": {**body["spec"], **change}}, dryRun="All")

    [complaint] = causes(answer.body)
    assert complaint.startswith(start)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"effect": ""}, "effect: Required value"),
        (
            {"value": "b c"},
            'value: Invalid value: "b c": a valid label must be an empty string or consist of ',
        ),
        ({"value": "b" * 64}, f'value: Invalid value: "{"b" * 64}": must be no more than 63 bytes'),
        ({"key": "a b"}, 'key: Invalid value: "a b": name part must consist of alphanumeric characters, '),
    ],
    ids=["effect", "value", "long value", "key"],
)
def test_a_taint_that_means_nothing_is_refused(api: RawApi, change: Json, complaint: str) -> None:
    answer = api.post(SLICES, resource_slice("a", device("a", taint() | change)), dryRun="All")

    [found] = causes(answer.body)
    assert found.startswith(f"spec.devices[0].taints[0].{complaint}")


def test_one_key_may_come_with_two_effects(api: RawApi) -> None:
    body = resource_slice("a", device("a", taint("NoSchedule"), taint("NoExecute")))

    assert api.post(SLICES, body, dryRun="All").status == 201


def test_a_patch_of_one_device_keeps_the_time_of_anothers_taint(api: RawApi, unique: str) -> None:
    old = "2026-11-24T01:02:03Z"
    made = api.post(SLICES, resource_slice(unique, device("a", taint(timeAdded=old)), device("b")))
    step = {"op": "replace", "path": "/spec/devices/1/attributes/health~1score/int", "value": 60}
    patched = api.patch(f"{SLICES}/{unique}", JSON_PATCH, [step])

    assert patched.body["metadata"]["generation"] == made.body["metadata"]["generation"] + 1
    assert patched.body["spec"]["devices"][0]["taints"][0]["timeAdded"] == old
    assert patched.body["spec"]["devices"][1]["attributes"]["health/score"] == {"int": 60}


def test_an_old_time_is_accepted_and_is_a_change(api: RawApi, unique: str) -> None:
    made = api.post(SLICES, resource_slice(unique, device("a", taint())))
    older = api.put(
        f"{SLICES}/{unique}", resource_slice(unique, device("a", taint(timeAdded="2020-01-01T00:00:00Z")))
    )

    assert older.body["metadata"]["generation"] == made.body["metadata"]["generation"] + 1
    assert older.body["spec"]["devices"][0]["taints"][0]["timeAdded"] == "2020-01-01T00:00:00Z"


def test_a_slice_without_devices_has_no_list_of_them(api: RawApi, unique: str) -> None:
    made = api.post(SLICES, resource_slice(unique))

    assert "devices" not in made.body["spec"]


def test_a_note_on_a_slice_is_no_new_generation(api: RawApi, unique: str) -> None:
    api.post(SLICES, resource_slice(unique, device("a")))
    body = {"metadata": {"annotations": {"vitals.internal/node-report": "{}"}}}
    noted = api.patch(f"{SLICES}/{unique}", MERGE_PATCH, body)

    assert noted.body["metadata"]["generation"] == 1


def test_a_server_without_the_gate_loses_taints_without_a_word(untainted: RawApi, unique: str) -> None:
    """So a dry-run create tells whether taints are kept."""
    tainted = resource_slice(unique, device("a", taint("None")), device("b", taint("NoSchedule")))
    answer = untainted.post(SLICES, tainted, dryRun="All")

    assert answer.status == 201
    assert [each.get("taints") for each in answer.body["spec"]["devices"]] == [None, None]
