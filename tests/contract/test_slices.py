"""ResourceSlices: limits, taints and their times, what may never change."""

import time

import pytest

from support.kubeobjects import DRIVER, SLICES, device, resource_slice, taint
from support.rawapi import Json, RawApi


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
