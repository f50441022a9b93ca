"""Cases beyond the contract suite that need access to the embedded server."""

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from gpuvitals_sim.apiserver import ApiServer, ApiSettings, InProcessClient
from gpuvitals_sim.apiserver.api import Api
from gpuvitals_sim.apiserver.request import ListOptions, Target
from support.raw_api import MERGE_PATCH, RawApi

NODES = "/api/v1/nodes"
PODS = "/api/v1/namespaces/default/pods"
EVENTS = "/api/v1/namespaces/default/events"
POD = {"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}}


def test_a_pod_on_a_node_waits_for_its_kubelet(raw: RawApi) -> None:
    raw.post(PODS, POD)
    going = raw.delete(f"{PODS}/p").body["metadata"]
    assert going["deletionGracePeriodSeconds"] == 30
    assert raw.get(f"{PODS}/p").status == 200
    assert raw.delete(f"{PODS}/p", {"gracePeriodSeconds": 0}).status == 200
    assert raw.get(f"{PODS}/p").status == 404


def test_an_event_shows_in_both_groups(raw: RawApi) -> None:
    about = {"kind": "Node", "name": "n"}
    raw.post(EVENTS, {"metadata": {"name": "e"}, "involvedObject": about, "reason": "R", "message": "m"})
    seen = raw.get("/apis/events.k8s.io/v1/namespaces/default/events/e").body
    assert (seen["apiVersion"], seen["note"], seen["regarding"]) == ("events.k8s.io/v1", "m", about)
    assert len(raw.get(EVENTS, fieldSelector="involvedObject.name=n,reason=R").body["items"]) == 1
    assert raw.get(EVENTS, fieldSelector="involvedObject.kind=Pod").body["items"] == []


def test_quiet_watches_hear_bookmarks_with_the_newest_version() -> None:
    settings = ApiSettings(bookmark_seconds=0.1)
    with ApiServer(settings=settings) as server:
        raw = RawApi(server.url)
        with raw.watch(NODES, resourceVersion=raw.get(NODES).version, allowWatchBookmarks=True) as stream:
            made = raw.post(PODS, POD)
            for _ in range(20):
                kind, item = stream.next()
                assert (kind, item["kind"]) == ("BOOKMARK", "Node")
                if item["metadata"]["resourceVersion"] == made.version:
                    break
            else:
                raise AssertionError("no bookmark reached the version of the pod")


def test_a_watch_ends_at_its_timeout(raw: RawApi) -> None:
    began = time.monotonic()
    with raw.watch(NODES, timeoutSeconds=1) as stream:
        assert list(stream) == []
    assert 0.9 < time.monotonic() - began < 3.0


def test_an_object_moves_in_and_out_of_a_selector(raw: RawApi) -> None:
    with raw.watch(NODES, labelSelector="gpu=yes") as stream:
        raw.post(NODES, {"metadata": {"name": "n"}})
        for value in ("yes", "no", "yes"):
            raw.patch(f"{NODES}/n", MERGE_PATCH, {"metadata": {"labels": {"gpu": value}}})
        assert stream.take(3) == [("ADDED", "n"), ("DELETED", "n"), ("ADDED", "n")]


def test_a_fifty_three_kilobyte_slice_is_written_in_milliseconds(raw: RawApi) -> None:
    """64 devices with 16 attributes; the bound is generous, a busy machine is no failure."""
    attributes = {f"health/value{number}": {"int": number} for number in range(16)}
    pool = {"name": "n", "generation": 1, "resourceSliceCount": 1}
    devices = [{"name": f"gpu-{number}", "attributes": attributes} for number in range(64)]
    item = {
        "metadata": {"name": "s"},
        "spec": {"driver": "d", "nodeName": "n", "pool": pool, "devices": devices},
    }
    path = "/apis/resource.k8s.io/v1/resourceslices"
    raw.post(path, item)
    began = time.monotonic()
    for number in range(10):
        item["spec"]["pool"]["generation"] = number + 2  # type: ignore[index]  # a literal of mixed values
        assert raw.put(f"{path}/s", item).status == 200
    assert (time.monotonic() - began) / 10 < 0.2


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 12), st.integers(1, 5), st.integers(0, 12))
def test_pages_show_one_moment_whatever_happens_between_them(count: int, limit: int, changed: int) -> None:
    api = Api()
    client = InProcessClient(api, "test")
    for number in range(count):
        client.create(
            "configmaps",
            {"metadata": {"name": f"c{number:02}", "namespace": "default"}, "data": {"v": "old"}},
        )
    target = Target(kind=api.catalogue.named("configmaps"), namespace="default")
    seen, token = [], ""
    while True:
        page = api.list(target, ListOptions(limit=limit, continue_token=token))
        seen += [(item["metadata"]["name"], item["data"]["v"]) for item in page["items"]]
        name = f"c{changed:02}"
        if client.find("configmaps", name, "default"):
            client.patch("configmaps", ("default", name), {"data": {"v": "new"}})
        else:
            client.create(
                "configmaps", {"metadata": {"name": name, "namespace": "default"}, "data": {"v": "new"}}
            )
        token = page["metadata"].get("continue", "")
        if not token:
            break
    assert seen == [(f"c{number:02}", "old") for number in range(count)]
