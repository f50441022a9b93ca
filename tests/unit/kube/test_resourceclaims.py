"""Claims against the embedded API server: read live, written by apply, once a change."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from gpuvitals.inventory.claims import ConditionStatus
from gpuvitals.kube.client import ConnectSettings, connect
from gpuvitals.kube.errors import NotFound
from gpuvitals.kube.events import EventRecord, EventRecorder, Regarding
from gpuvitals.kube.nodes import node_owner
from gpuvitals.kube.resourceclaims import ClaimReader, ClaimStatusWriter
from gpuvitals.model.ids import ClaimUid
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals.sim.apiserver import ApiServer
from support.claims import KIND, allocated_claim, entry, reference


@contextmanager
def writer_on(server: ApiServer) -> Iterator[ClaimStatusWriter]:
    writer = ClaimStatusWriter(connect(ConnectSettings(url=server.url)), NodeMetrics("test"))
    writer.start()
    try:
        yield writer
    finally:
        writer.stop(5)


def wait(holds: Callable[[], bool]) -> None:
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < 5, "did not happen in time"
        time.sleep(0.005)


def patches(server: ApiServer) -> list[int]:
    return [
        request.status
        for request in server.requests.writes(resource="resourceclaims")
        if request.method == "PATCH"
    ]


def test_a_claim_is_read_with_its_allocation() -> None:
    with ApiServer() as server:
        claim = allocated_claim(server)
        read = ClaimReader(connect(ConnectSettings(url=server.url))).read("default", "c")

    assert (read.uid, read.allocated) == (claim["metadata"]["uid"], True)
    assert [result.device for result in read.results] == ["gpu-0"]


def test_a_claim_that_does_not_exist_is_not_found() -> None:
    with ApiServer() as server, pytest.raises(NotFound, match="default/resourceclaims/nope"):
        ClaimReader(connect(ConnectSettings(url=server.url))).read("default", "nope")


def test_a_changed_condition_is_one_patch_and_an_equal_one_none() -> None:
    with ApiServer() as server, writer_on(server) as writer:
        claim = reference(allocated_claim(server))
        writer.show({claim: (entry(),)})
        wait(lambda: len(patches(server)) == 1)
        writer.show({claim: (entry(),)})
        writer.show({claim: (entry(ConditionStatus.FALSE, "Xid79"),)})
        wait(lambda: len(patches(server)) == 2)
        time.sleep(0.1)
        stored = server.client("test").get(KIND, "c", "default")

    assert patches(server) == [200, 200]
    conditions = stored["status"]["devices"][0]["conditions"]
    assert [(each["status"], each["reason"]) for each in conditions] == [("False", "Xid79")]
    assert conditions[0]["lastTransitionTime"] == "2026-11-24T01:02:03Z"


def test_a_claim_created_anew_under_the_same_name_is_left_alone() -> None:
    with ApiServer() as server, writer_on(server) as writer:
        claim = reference(allocated_claim(server))
        writer.show({replace(claim, uid=ClaimUid("another")): (entry(),)})
        wait(lambda: len(patches(server)) == 1)
        time.sleep(0.2)
        stored = server.client("test").get(KIND, "c", "default")

    assert len(patches(server)) == 1
    assert "devices" not in stored["status"]


def test_a_busy_server_is_asked_again() -> None:
    with ApiServer() as server, writer_on(server) as writer:
        claim = reference(allocated_claim(server))
        server.faults.fail(503, times=2)
        writer.show({claim: (entry(),)})
        wait(lambda: 200 in patches(server))


def test_events_are_sent_once_and_name_their_object() -> None:
    with ApiServer() as server:
        recorder = EventRecorder(connect(ConnectSettings(url=server.url)), reporting_instance="agent-a")
        recorder.start()
        node = Regarding(api_version="v1", kind="Node", name="node-a")
        for _ in range(3):
            recorder.emit(
                EventRecord(regarding=node, reason="GpuOutOfService", note="gpu-3: XID 79", warning=True)
            )
        recorder.stop(5)
        events = server.client("test").list("events.events.k8s.io")

    assert [event["reason"] for event in events] == ["GpuOutOfService"]


def test_the_nodes_uid_is_its_owner_reference() -> None:
    with ApiServer() as server:
        made = server.client("test").create(
            "nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}
        )
        transport = connect(ConnectSettings(url=server.url))

        assert node_owner(transport, "n").uid == made["metadata"]["uid"]
        with pytest.raises(NotFound):
            node_owner(transport, "absent")
