"""ResourceClaims: their status by server-side apply, and immutable fields."""

import pytest

from support.kube_objects import CLAIMS, DRIVER, allocate, claim, claim_status, condition, shown
from support.raw_api import JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, Answer, Json, RawApi
from support.realkube.answers import causes, refusal


def allocated(api: RawApi, name: str, *devices: str) -> Json:
    return allocate(api, api.post(CLAIMS, claim(name)).body, *(devices or ("gpu-0",)))


def devices(api: RawApi, name: str) -> dict[str, dict[str, str]]:
    status = api.get(f"{CLAIMS}/{name}").body["status"]
    return {
        entry["device"]: {each["type"]: each["reason"] for each in entry.get("conditions") or []}
        for entry in status.get("devices") or []
    }


def test_an_apply_shows_our_entry_and_an_identical_one_writes_nothing(api: RawApi, unique: str) -> None:
    stored = allocated(api, unique)
    body = claim_status(stored, shown("gpu-0", condition()))
    first = api.apply(f"{CLAIMS}/{unique}/status", "agent", body, force=True)
    second = api.apply(f"{CLAIMS}/{unique}/status", "agent", body, force=True)

    assert (first.status, second.status) == (200, 200)
    assert first.version == second.version
    assert devices(api, unique) == {"gpu-0": {"Healthy": "None"}}


def test_two_managers_own_their_conditions_apart(api: RawApi, unique: str) -> None:
    stored = allocated(api, unique)
    path = f"{CLAIMS}/{unique}/status"
    api.apply(path, "agent", claim_status(stored, shown("gpu-0", condition())), force=True)
    later = condition("RemediationScheduled", reason="Soon")
    api.apply(path, "controller", claim_status(stored, shown("gpu-0", later)), force=True)
    api.apply(
        path,
        "agent",
        claim_status(stored, shown("gpu-0", condition(status="False", reason="Xid79"))),
        force=True,
    )

    assert devices(api, unique) == {"gpu-0": {"Healthy": "Xid79", "RemediationScheduled": "Soon"}}


def test_a_field_that_another_manager_owns_is_a_conflict_without_force(api: RawApi, unique: str) -> None:
    stored = allocated(api, unique)
    path = f"{CLAIMS}/{unique}/status"
    api.apply(path, "agent", claim_status(stored, shown("gpu-0", condition())))
    body = claim_status(stored, shown("gpu-0", condition(status="False", reason="Xid79")))
    answer = api.apply(path, "other", body)

    assert (answer.status, answer.body["reason"]) == (409, "Conflict")
    assert answer.body["message"].startswith('Apply failed with 2 conflicts: conflicts with "agent"')


def test_an_empty_apply_takes_away_what_we_own(api: RawApi, unique: str) -> None:
    stored = allocated(api, unique)
    path = f"{CLAIMS}/{unique}/status"
    api.apply(path, "agent", claim_status(stored, shown("gpu-0", condition())))
    api.apply(path, "agent", claim_status(stored))

    assert devices(api, unique) == {}


def test_the_wrong_uid_hits_no_claim(api: RawApi, unique: str) -> None:
    stored = allocated(api, unique)
    other = "00000000-0000-0000-0000-000000000000"
    body = claim_status(stored, shown("gpu-0", condition()), uid=other)
    answer = api.apply(f"{CLAIMS}/{unique}/status", "agent", body, force=True)

    assert answer.status in (409, 422)
    assert devices(api, unique) == {}


def test_the_status_of_a_claim_that_does_not_exist_is_not_created(api: RawApi, unique: str) -> None:
    body = claim_status({"metadata": {"name": unique, "uid": ""}}, shown("gpu-0", condition()))
    del body["metadata"]["uid"]

    assert api.apply(f"{CLAIMS}/{unique}/status", "agent", body, force=True).status == 404


def test_a_device_that_is_not_allocated_is_refused(api: RawApi, unique: str) -> None:
    stored = allocated(api, unique)
    answer = api.apply(
        f"{CLAIMS}/{unique}/status", "agent", claim_status(stored, shown("gpu-9", condition()))
    )

    assert answer.status == 422
    assert "must be an allocated device in the claim" in answer.body["message"]


def test_a_condition_needs_its_reason_and_its_time(api: RawApi, unique: str) -> None:
    stored = allocated(api, unique)
    bare = {"type": "Healthy", "status": "True"}
    answer = api.apply(f"{CLAIMS}/{unique}/status", "agent", claim_status(stored, shown("gpu-0", bare)))

    assert answer.status == 422
    assert "Required value" in answer.body["message"]


def test_spec_and_allocation_never_change(api: RawApi, unique: str) -> None:
    stored = allocated(api, unique)
    other = claim(unique)
    other["spec"]["devices"]["requests"][0]["name"] = "another"
    changed = api.put(f"{CLAIMS}/{unique}", {**stored, "spec": other["spec"]})
    moved = {**stored, "status": {"allocation": {"devices": {"results": []}}}}

    assert (changed.status, changed.body["reason"]) == (422, "Invalid")
    assert api.put(f"{CLAIMS}/{unique}/status", moved).status == 422


def test_deallocation_drops_the_device_entries(api: RawApi, unique: str) -> None:
    stored = allocated(api, unique)
    api.apply(
        f"{CLAIMS}/{unique}/status", "agent", claim_status(stored, shown("gpu-0", condition())), force=True
    )
    current = api.get(f"{CLAIMS}/{unique}").body
    freed = {key: value for key, value in current["status"].items() if key != "allocation"}
    answer = api.put(f"{CLAIMS}/{unique}/status", {**current, "status": freed})

    assert answer.status == 200
    assert not answer.body.get("status", {}).get("devices")


def complaints(answer: Answer) -> list[str]:
    """The field errors of a refused write to status.devices[0], without that path."""
    return [entry.removeprefix("status.devices[0].") for entry in causes(answer)]


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"data": ["x"]}, 'data: Invalid value: "<value omitted>": must be a valid JSON object'),
        ({"data": {"a": "x" * 10240}}, "data: Too long: may not be more than 10240 bytes"),
        (
            {"conditions": [condition(f"T{index}") for index in range(9)]},
            "conditions: Too many: 9: must have at most 8 items",
        ),
        (
            {"conditions": [condition(status="Maybe")]},
            'conditions[0].status: Unsupported value: "Maybe": supported values: "False", "True", "Unknown"',
        ),
        ({"conditions": [condition(reason="")]}, "conditions[0].reason: Required value"),
        (
            {"conditions": [{**condition(), "message": "m" * 32769}]},
            "conditions[0].message: Too long: may not be more than 32768 bytes",
        ),
    ],
    ids=["list", "long data", "conditions", "status", "reason", "message"],
)
def test_an_entry_that_means_nothing_is_refused(
    api: RawApi, unique: str, entry: Json, complaint: str
) -> None:
    stored = allocated(api, unique)
    body = claim_status(stored, {**shown("gpu-0"), **entry})

    assert complaints(api.apply(f"{CLAIMS}/{unique}/status", "agent", body)) == [complaint]


def test_data_is_kept_as_it_is(api: RawApi, unique: str) -> None:
    stored = allocated(api, unique)
    data = {"uuid": "GPU-1", "score": 60, "list": [], "nested": {"lastXid": {"code": 79}}}
    body = claim_status(stored, {**shown("gpu-0", condition()), "data": data})
    answer = api.apply(f"{CLAIMS}/{unique}/status", "agent", body)

    assert answer.body["status"]["devices"][0]["data"] == data


def test_two_entries_for_one_device_or_two_conditions_of_one_type_are_an_error(
    api: RawApi, unique: str
) -> None:
    stored = allocated(api, unique)
    path = f"{CLAIMS}/{unique}/status"
    devices = api.apply(path, "agent", claim_status(stored, shown("gpu-0"), shown("gpu-0")))
    kinds = api.apply(path, "agent", claim_status(stored, shown("gpu-0", condition(), condition())))

    assert (devices.status, kinds.status) == (500, 500)
    assert "duplicate entries for key [device=" in devices.body["message"]
    assert kinds.body["message"].endswith('.conditions: duplicate entries for key [type="Healthy"]')


@pytest.mark.parametrize("kind", [MERGE_PATCH, STRATEGIC_PATCH], ids=["merge", "strategic"])
def test_every_other_patch_replaces_the_entries_of_all_drivers(api: RawApi, unique: str, kind: str) -> None:
    stored = allocated(api, unique, "gpu-0", "gpu-1")
    path = f"{CLAIMS}/{unique}/status"
    api.apply(path, "other", claim_status(stored, shown("gpu-1", condition())))
    answer = api.patch(path, kind, {"status": {"devices": [shown("gpu-0", condition())]}})

    assert answer.status == 200
    assert devices(api, unique) == {"gpu-0": {"Healthy": "None"}}


def test_a_json_patch_cannot_append_to_entries_that_are_not_there(api: RawApi, unique: str) -> None:
    allocated(api, unique)
    step = {"op": "add", "path": "/status/devices/-", "value": shown("gpu-0")}
    answer = api.patch(f"{CLAIMS}/{unique}/status", JSON_PATCH, [step])

    assert refusal(answer) == (422, "Invalid")
    assert answer.body["message"] == "the server rejected our request due to an error in our request"


def test_conditions_that_are_not_given_read_as_null(api: RawApi, unique: str) -> None:
    allocated(api, unique)
    entry = {key: value for key, value in shown("gpu-0").items() if key != "conditions"}
    answer = api.patch(f"{CLAIMS}/{unique}/status", MERGE_PATCH, {"status": {"devices": [entry]}})

    assert answer.body["status"]["devices"] == [{**entry, "conditions": None}]


def test_a_write_by_somebody_else_is_a_conflict_for_the_next_apply(api: RawApi, unique: str) -> None:
    stored = allocated(api, unique)
    path = f"{CLAIMS}/{unique}/status"
    api.apply(path, "agent", claim_status(stored, shown("gpu-0", condition())))
    changed = [shown("gpu-0", condition(status="False", reason="Xid79"))]
    api.patch(path, MERGE_PATCH, {"status": {"devices": changed}}, fieldManager="other")
    refused = api.apply(path, "agent", claim_status(stored, shown("gpu-0", condition())))
    forced = api.apply(path, "agent", claim_status(stored, shown("gpu-0", condition())), force=True)

    assert refusal(refused) == (409, "Conflict")
    assert refused.body["message"].startswith('Apply failed with 2 conflicts: conflicts with "other"')
    assert forced.status == 200


@pytest.mark.parametrize("kind", [MERGE_PATCH, STRATEGIC_PATCH], ids=["merge", "strategic"])
def test_reservations_merge_by_uid_in_a_strategic_patch(api: RawApi, unique: str, kind: str) -> None:
    allocated(api, unique)
    for uid in ("u1", "u2"):
        body = {"status": {"reservedFor": [{"resource": "pods", "name": "p", "uid": uid}]}}
        answer = api.patch(f"{CLAIMS}/{unique}/status", kind, body)

    uids = sorted(entry["uid"] for entry in answer.body["status"]["reservedFor"])
    assert uids == (["u1", "u2"] if kind == STRATEGIC_PATCH else ["u2"])


def test_a_claim_is_reserved_only_while_it_is_allocated(api: RawApi, unique: str) -> None:
    api.post(CLAIMS, claim(unique))
    body = {"status": {"reservedFor": [{"resource": "pods", "name": "p", "uid": "u1"}]}}

    assert causes(api.patch(f"{CLAIMS}/{unique}/status", MERGE_PATCH, body)) == [
        "status.reservedFor: Forbidden: may not be specified when `allocated` is not set"
    ]


def test_a_status_is_not_created_and_labels_are_not_written_with_it(api: RawApi, unique: str) -> None:
    early = {"status": {"reservedFor": [{"resource": "pods", "name": "p", "uid": "u1"}]}}
    made = api.post(CLAIMS, {**claim(unique), **early})
    labelled = api.patch(f"{CLAIMS}/{unique}/status", MERGE_PATCH, {"metadata": {"labels": {"a": "b"}}})

    assert made.body["status"] == {}
    assert "labels" not in labelled.body["metadata"]


def test_a_protected_claim_stays_until_the_protection_is_taken_off(api: RawApi, unique: str) -> None:
    body = claim(unique)
    body["metadata"]["finalizers"] = ["resource.kubernetes.io/delete-protection"]
    api.post(CLAIMS, body)
    going = api.delete(f"{CLAIMS}/{unique}")
    api.patch(f"{CLAIMS}/{unique}", MERGE_PATCH, {"metadata": {"finalizers": None}})

    assert "deletionTimestamp" in going.body["metadata"]
    assert api.get(f"{CLAIMS}/{unique}").status == 404


def test_what_others_wrote_into_our_entry_stays_when_we_apply_and_when_we_leave(
    api: RawApi, unique: str
) -> None:
    stored = allocated(api, unique)
    path = f"{CLAIMS}/{unique}/status"
    api.apply(path, "agent", claim_status(stored, shown("gpu-0", condition())))
    theirs = {"driver": DRIVER, "pool": "node-a", "device": "gpu-0", "data": {"note": "theirs"}}
    api.apply(path, "other", claim_status(stored, theirs))
    ours = claim_status(stored, shown("gpu-0", condition(status="False", reason="Xid79")))
    applied = api.apply(path, "agent", ours)
    left = api.apply(path, "agent", claim_status(stored))

    [entry] = applied.body["status"]["devices"]
    assert (entry["data"], entry["conditions"][0]["reason"]) == ({"note": "theirs"}, "Xid79")
    [entry] = left.body["status"]["devices"]
    assert (entry["data"], entry["conditions"]) == ({"note": "theirs"}, None)
