"""Watches: events in order, resumed, selected, bookmarked, ended in time, and expired."""

import pytest

from support.kube_objects import LEASES, SLICES, device, lease, resource_slice
from support.raw_api import MERGE_PATCH, Json, RawApi, WatchStream
from support.realkube.answers import Server


def watch_from_now(api: RawApi, selector: str) -> WatchStream:
    version = api.get(LEASES).version
    return api.watch(LEASES, resourceVersion=version, labelSelector=selector, timeoutSeconds=30)


def test_a_watch_tells_what_happened_in_order(api: RawApi, unique: str) -> None:
    with watch_from_now(api, f"case={unique}") as watch:
        api.post(LEASES, lease(unique, labels={"case": unique}))
        api.patch(f"{LEASES}/{unique}", MERGE_PATCH, {"spec": {"holderIdentity": "b"}})
        api.delete(f"{LEASES}/{unique}")
        events = watch.take(3)

    assert events == [("ADDED", unique), ("MODIFIED", unique), ("DELETED", unique)]


def test_an_event_carries_the_whole_object_with_its_kind(api: RawApi, unique: str) -> None:
    with watch_from_now(api, f"case={unique}") as watch:
        made = api.post(LEASES, lease(unique, labels={"case": unique})).body
        assert watch.next() == ("ADDED", made)


def test_a_deleted_object_is_shown_as_it_last_was_with_the_version_of_its_deletion(
    api: RawApi, unique: str
) -> None:
    made = api.post(LEASES, lease(unique, labels={"case": unique}))
    with watch_from_now(api, f"case={unique}") as watch:
        api.delete(f"{LEASES}/{unique}")
        kind, gone = watch.next()

    assert kind == "DELETED"
    assert gone["spec"] == made.body["spec"]
    assert int(gone["metadata"]["resourceVersion"]) > int(made.version)


def test_what_writes_nothing_is_no_event(api: RawApi, unique: str) -> None:
    made = api.post(LEASES, lease(unique, labels={"case": unique}))
    with watch_from_now(api, f"case={unique}") as watch:
        api.put(f"{LEASES}/{unique}", made.body)
        api.patch(f"{LEASES}/{unique}", MERGE_PATCH, {"spec": {"holderIdentity": "a"}})
        api.patch(f"{LEASES}/{unique}", MERGE_PATCH, {"spec": {"holderIdentity": "b"}})
        _, first = watch.next()

    assert first["spec"]["holderIdentity"] == "b"


def test_an_object_that_leaves_the_selection_is_deleted_for_the_watcher(api: RawApi, unique: str) -> None:
    with watch_from_now(api, f"case={unique}") as watch:
        api.post(LEASES, lease(unique))
        for label in (unique, None):
            api.patch(f"{LEASES}/{unique}", MERGE_PATCH, {"metadata": {"labels": {"case": label}}})
        entered, left = watch.next(), watch.next()

    assert (entered[0], left[0]) == ("ADDED", "DELETED")
    assert left[1]["metadata"]["labels"] == {"case": unique}
    assert left[1]["metadata"]["resourceVersion"] == api.get(f"{LEASES}/{unique}").version


def test_a_watch_of_one_nodes_slices_sees_no_other(api: RawApi, unique: str) -> None:
    version = api.get(SLICES).version
    selector = f"spec.nodeName=node-{unique}"
    with api.watch(SLICES, resourceVersion=version, fieldSelector=selector, timeoutSeconds=30) as watch:
        api.post(SLICES, resource_slice(f"{unique}-other", device("a"), node="node-other"))
        api.post(SLICES, resource_slice(f"{unique}-mine", device("a"), node=f"node-{unique}"))
        api.delete(f"{SLICES}/{unique}-other")
        api.delete(f"{SLICES}/{unique}-mine")
        assert watch.take(2) == [("ADDED", f"{unique}-mine"), ("DELETED", f"{unique}-mine")]


def test_a_watch_from_a_version_repeats_nothing_before_it(api: RawApi, unique: str) -> None:
    api.post(LEASES, lease(f"{unique}-1", labels={"case": unique}))
    middle = api.get(LEASES).version
    api.post(LEASES, lease(f"{unique}-2", labels={"case": unique}))
    with api.watch(
        LEASES, resourceVersion=middle, labelSelector=f"case={unique}", timeoutSeconds=30
    ) as watch:
        assert watch.take(1) == [("ADDED", f"{unique}-2")]


@pytest.mark.parametrize("query", [{}, {"resourceVersion": "0"}], ids=["no version", "version 0"])
def test_a_watch_without_a_version_starts_with_what_is_there(
    api: RawApi, unique: str, query: dict[str, str]
) -> None:
    api.post(LEASES, lease(unique, labels={"case": unique}))
    with api.watch(LEASES, labelSelector=f"case={unique}", timeoutSeconds=30, **query) as watch:
        api.delete(f"{LEASES}/{unique}")
        assert watch.take(2) == [("ADDED", unique), ("DELETED", unique)]


def test_a_watch_from_version_0_sends_all_stored_objects_and_then_a_later_bookmark(
    api: RawApi, unique: str
) -> None:
    """The agent finds missed changes with it, without a list (ADR 037)."""
    made = [api.post(LEASES, lease(f"{unique}-{each}", labels={"case": unique})) for each in ("a", "b")]
    query = {"allowWatchBookmarks": True, "timeoutSeconds": 6}
    with api.watch(LEASES, labelSelector=f"case={unique}", resourceVersion="0", **query) as watch:
        events = [watch.next() for _ in range(3)]

    assert sorted(item["metadata"]["name"] for kind, item in events[:2] if kind == "ADDED") == [
        f"{unique}-a",
        f"{unique}-b",
    ]
    kind, mark = events[2]
    assert kind == "BOOKMARK"
    assert int(mark["metadata"]["resourceVersion"]) >= max(int(answer.version) for answer in made)


def test_a_watch_that_begins_as_a_list_marks_the_lists_end_with_a_bookmark(api: RawApi, unique: str) -> None:
    api.post(LEASES, lease(unique, labels={"case": unique}))
    query = {"sendInitialEvents": True, "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": True}
    with api.watch(LEASES, labelSelector=f"case={unique}", timeoutSeconds=30, **query) as watch:
        added, (kind, mark) = watch.next(), watch.next()

    assert added[0] == "ADDED"
    assert (kind, mark["kind"], mark["apiVersion"]) == ("BOOKMARK", "Lease", "coordination.k8s.io/v1")
    assert mark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert int(mark["metadata"]["resourceVersion"]) > 0


def test_a_watch_ends_when_its_time_is_over(api: RawApi) -> None:
    version = api.get(LEASES).version
    with api.watch(LEASES, resourceVersion=version, timeoutSeconds=1, labelSelector="a=b") as watch:
        assert list(watch) == []


def test_a_watch_from_a_forgotten_version_ends_with_expired(server: Server, unique: str) -> None:
    """The answer's code is 200: the refusal is an event."""
    api = server.api
    old = api.get(LEASES).version
    api.post(LEASES, lease(unique))
    server.forget()
    with api.watch(LEASES, resourceVersion=old, timeoutSeconds=30) as watch:
        events: list[tuple[str, Json]] = list(watch)

    assert watch.status == 200
    [(kind, status)] = events
    assert (kind, status["kind"], status["code"], status["reason"]) == ("ERROR", "Status", 410, "Expired")
    assert status["message"].startswith(f"too old resource version: {old} (")


def test_a_watch_of_a_selector_that_is_not_known_is_refused(api: RawApi) -> None:
    with api.watch(LEASES, fieldSelector="spec.nope=1", timeoutSeconds=30) as watch:
        assert watch.status == 400
