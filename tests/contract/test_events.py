"""Events, in the two versions that are one stored object."""

import pytest

from support.kube_objects import EVENTS, event
from support.raw_api import MERGE_PATCH, STRATEGIC_PATCH, Json, RawApi
from support.realkube.answers import causes, names, refusal, stored

NEW_EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"


def new_event(name: str, **fields: object) -> Json:
    """A complete event of `events.k8s.io/v1`."""
    return {
        "metadata": {"name": name},
        "regarding": {"kind": "Pod", "namespace": "default", "name": "p"},
        "reason": "GpuFailed",
        "note": "XID 79",
        "type": "Warning",
        "action": "Isolate",
        "reportingController": "vitals.internal/agent",
        "reportingInstance": "node-a",
        "eventTime": "2026-11-24T01:02:03.000000Z",
        **fields,
    }


def test_an_event_is_seen_in_both_versions_under_their_names(api: RawApi, unique: str) -> None:
    stored(api.post(NEW_EVENTS, new_event(unique)))
    old = stored(api.get(f"{EVENTS}/{unique}"))

    assert (old["involvedObject"]["name"], old["message"]) == ("p", "XID 79")
    assert (old["reportingComponent"], old["reportingInstance"]) == ("vitals.internal/agent", "node-a")
    assert (old["firstTimestamp"], old["source"]) == (None, {})
    assert old["eventTime"] == "2026-11-24T01:02:03.000000Z"


def test_an_event_of_the_core_is_seen_in_the_new_version(api: RawApi, unique: str) -> None:
    fields = {"message": "hello", "count": 2, "source": {"component": "kubelet", "host": "node-a"}}
    stored(api.post(EVENTS, {**event(unique), **fields}))
    new = stored(api.get(f"{NEW_EVENTS}/{unique}"))

    assert (new["note"], new["deprecatedCount"]) == ("hello", 2)
    assert new["deprecatedSource"] == {"component": "kubelet", "host": "node-a"}
    assert new["regarding"] == {"kind": "Pod", "namespace": "default", "name": "p"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"eventTime": None}, "eventTime: Required value"),
        ({"type": "Bad"}, 'type: Invalid value: "": has invalid value: Bad'),
        ({"action": ""}, "action: Required value"),
        ({"reason": "r" * 129}, 'reason: Invalid value: "": can have at most 128 characters'),
        ({"note": "n" * 1025}, 'message: Invalid value: "": can have at most 1024 characters'),
        ({"reportingInstance": ""}, "reportingInstance: Required value"),
        ({"deprecatedCount": 2}, 'count: Invalid value: "": needs to be unset'),
    ],
    ids=["time", "type", "action", "reason", "note", "instance", "count"],
)
def test_an_event_of_the_new_version_is_complete(api: RawApi, change: Json, complaint: str) -> None:
    answer = api.post(NEW_EVENTS, new_event("a", **change), dryRun="All")

    assert causes(answer) == [complaint]
    assert answer.body["message"].startswith('Event "a" is invalid: ')


def test_an_event_of_the_core_may_be_bare(api: RawApi, unique: str) -> None:
    assert api.post(EVENTS, {**event(unique), "type": "", "message": "m" * 1025}).status == 201


@pytest.mark.parametrize(
    ("about", "accepted"),
    [({"kind": "Node", "name": "n"}, True), ({"kind": "Pod", "name": "p", "namespace": "other"}, False)],
    ids=["cluster-scoped", "another namespace"],
)
def test_an_event_lies_in_the_namespace_of_its_object(api: RawApi, about: Json, accepted: bool) -> None:
    answer = api.post(EVENTS, {**event("a"), "involvedObject": about}, dryRun="All")

    if accepted:
        assert answer.status == 201
    else:
        assert causes(answer) == [
            'involvedObject.namespace: Invalid value: "other": does not match event.namespace'
        ]


def test_only_the_series_of_a_new_event_changes(api: RawApi, unique: str) -> None:
    stored(api.post(NEW_EVENTS, new_event(unique)))
    path = f"{NEW_EVENTS}/{unique}"
    series = {"count": 2, "lastObservedTime": "2026-11-24T01:02:04.000000Z"}

    assert stored(api.patch(path, MERGE_PATCH, {"series": series}))["series"] == series
    assert causes(api.patch(path, MERGE_PATCH, {"note": "other"})) == [
        'message: Invalid value: "other": field is immutable'
    ]


def test_an_event_of_the_core_is_counted_up_by_a_patch(api: RawApi, unique: str) -> None:
    stored(api.post(EVENTS, {**event(unique), "count": 1}))
    counted = api.patch(f"{EVENTS}/{unique}", STRATEGIC_PATCH, {"count": 2, "message": "again"})

    assert (stored(counted)["count"], counted.body["message"]) == (2, "again")


def test_an_update_creates_an_event(api: RawApi, unique: str) -> None:
    assert api.put(f"{EVENTS}/{unique}", event(unique)).status == 201


def test_events_are_selected_by_their_object_under_each_versions_names(api: RawApi, unique: str) -> None:
    stored(api.post(EVENTS, event(unique)))

    old = api.get(EVENTS, fieldSelector=f"involvedObject.name=p,metadata.name={unique}")
    new = api.get(NEW_EVENTS, fieldSelector=f"regarding.name=p,metadata.name={unique}")
    assert names(old) == names(new) == [unique]
    assert refusal(api.get(NEW_EVENTS, fieldSelector="involvedObject.name=p")) == (400, "BadRequest")
