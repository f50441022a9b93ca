"""The switches: refusals, delay, lost answers, broken watches, outages, dropped fields."""

import http.client
import time

import pytest

from gpuvitals_sim.apiserver import ApiServer, Match
from support.raw_api import MERGE_PATCH, RawApi

NODES = "/api/v1/nodes"
SLICES = "/apis/resource.k8s.io/v1/resourceslices"
NODE = {"metadata": {"name": "n"}}


def test_the_next_requests_are_refused_and_then_no_more(server: ApiServer, raw: RawApi) -> None:
    fault = server.faults.fail(409, times=2, match=Match(verbs=("create",), resource="nodes"))
    assert [raw.post(NODES, NODE).status for _ in range(3)] == [409, 409, 201]
    assert fault.hits == 2
    assert raw.get(NODES).status == 200


def test_429_carries_retry_after(server: ApiServer, raw: RawApi) -> None:
    server.faults.fail(429, retry_after_seconds=3)
    answer = raw.get(NODES)
    assert (answer.status, answer.headers["retry-after"], answer.body["reason"]) == (
        429,
        "3",
        "TooManyRequests",
    )


def test_a_lasting_fault_ends_by_hand(server: ApiServer, raw: RawApi) -> None:
    fault = server.faults.fail(503, times=None, match=Match(path="/nodes"))
    assert [raw.get(NODES).status, raw.get(NODES).status] == [503, 503]
    fault.end()
    assert raw.get(NODES).status == 200


def test_requests_can_be_delayed(server: ApiServer, raw: RawApi) -> None:
    server.faults.delay(0.2, times=1)
    began = time.monotonic()
    raw.get(NODES)
    assert time.monotonic() - began >= 0.2


def test_a_lost_answer_leaves_the_write_done(server: ApiServer, raw: RawApi) -> None:
    server.faults.lose_answer()
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        raw.post(NODES, NODE)
    assert raw.get(f"{NODES}/n").status == 200
    assert raw.post(NODES, NODE).status == 409


def test_watches_end_when_dropped(server: ApiServer, raw: RawApi) -> None:
    with raw.watch(NODES) as stream:
        assert server.faults.drop_watches("nodes") == 1
        with pytest.raises(EOFError):
            stream.next()


def test_an_abrupt_drop_breaks_the_connection(server: ApiServer, raw: RawApi) -> None:
    with raw.watch(NODES) as stream:
        server.faults.drop_watches(abrupt=True)
        with pytest.raises((http.client.IncompleteRead, ConnectionError, EOFError)):
            stream.next()


def test_stalled_watches_keep_quiet_and_go_on_later(server: ApiServer, raw: RawApi) -> None:
    with raw.watch(NODES) as stream:
        server.faults.stall_watches()
        raw.post(NODES, NODE)
        time.sleep(0.1)
        server.faults.resume_watches()
        assert stream.take(1) == [("ADDED", "n")]


def test_compaction_answers_410(server: ApiServer, raw: RawApi) -> None:
    raw.post(NODES, NODE)
    raw.post(NODES, {"metadata": {"name": "m"}})
    page = raw.get(NODES, limit=1)
    server.faults.compact()
    gone = raw.get(NODES, limit=1, **{"continue": page.body["metadata"]["continue"]})
    assert (gone.status, gone.body["reason"]) == (410, "Expired")
    with raw.watch(NODES, resourceVersion=page.version) as stream:
        kind, status = stream.next()
        assert (kind, status["code"], status["reason"]) == ("ERROR", 410, "Expired")


def test_a_watch_can_be_refused_with_410(server: ApiServer, raw: RawApi) -> None:
    server.faults.fail(410, match=Match(verbs=("watch",)))
    with raw.watch(NODES) as stream:
        assert stream.status == 410


def test_an_outage_refuses_connections_and_keeps_the_objects(server: ApiServer, raw: RawApi) -> None:
    raw.post(NODES, NODE)
    with server.outage(), pytest.raises(ConnectionRefusedError):
        raw.get(NODES)
    assert raw.get(f"{NODES}/n").status == 200


def test_device_taints_are_lost_as_on_kubernetes_1_34(server: ApiServer, raw: RawApi) -> None:
    device = {"name": "gpu-0", "taints": [{"key": "a", "effect": "None"}]}
    pool = {"name": "n", "generation": 1, "resourceSliceCount": 1}
    item = {
        "metadata": {"name": "s"},
        "spec": {"driver": "d", "nodeName": "n", "pool": pool, "devices": [device]},
    }
    server.faults.drop_device_taints()
    probe = raw.post(SLICES, item, dryRun="All")
    assert (probe.status, probe.body["spec"]["devices"]) == (201, [{"name": "gpu-0"}])
    server.faults.clear()
    assert raw.post(SLICES, item).body["spec"]["devices"][0]["taints"][0]["key"] == "a"


def test_faults_see_what_matters_of_a_request(server: ApiServer, raw: RawApi) -> None:
    """A matcher tells a status write from a write to the object."""
    raw.post(NODES, NODE)
    server.faults.fail(500, match=Match(verbs=("patch",), subresource="status", name="n"))
    assert raw.patch(f"{NODES}/n", MERGE_PATCH, {}).status == 200
    assert raw.patch(f"{NODES}/n/status", MERGE_PATCH, {}).status == 500
