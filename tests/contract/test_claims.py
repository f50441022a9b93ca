"""ResourceClaims: their status by server-side apply, and what may never change."""

from support.kubeobjects import CLAIMS, allocate, claim, claim_status, condition, shown
from support.rawapi import Json, RawApi


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
