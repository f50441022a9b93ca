"""Claims against the embedded API server: read live, written by apply, once a change."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from gpuvitals.inventory.claims import ConditionStatus
from gpuvitals.kube.claim_reader import ClaimReader
from gpuvitals.kube.claim_writer import ClaimStatusWriter
from gpuvitals.kube.errors import NotFound
from gpuvitals.kube.events import EventRecord, EventRecorder, EventSource, Regarding
from gpuvitals.kube.nodes import node_owner
from gpuvitals.kube.transport import ConnectSettings, connect
from gpuvitals.model.ids import ClaimUid
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals_sim.apiserver import ApiServer, Match
from support.claims import KIND, allocated_claim, entry, reference
from support.waiting import eventually


@contextmanager
def writer_on(server: ApiServer) -> Iterator[ClaimStatusWriter]:
    writer = ClaimStatusWriter(connect(ConnectSettings(url=server.url)), NodeMetrics("test"))
    writer.start()
    try:
        yield writer
    finally:
        writer.stop(5)


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
        eventually(lambda: len(patches(server)) == 1)
        writer.show({claim: (entry(),)})
        writer.show({claim: (entry(ConditionStatus.FALSE, "Xid79"),)})
        eventually(lambda: len(patches(server)) == 2)
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
        eventually(lambda: len(patches(server)) == 1)
        time.sleep(0.2)
        stored = server.client("test").get(KIND, "c", "default")

    assert len(patches(server)) == 1
    assert "devices" not in stored["status"]


def test_a_busy_server_is_asked_again() -> None:
    with ApiServer() as server, writer_on(server) as writer:
        claim = reference(allocated_claim(server))
        server.faults.fail(503, times=2)
        writer.show({claim: (entry(),)})
        eventually(lambda: 200 in patches(server))


def test_events_are_sent_once_and_name_their_object() -> None:
    with ApiServer() as server:
        source = EventSource(controller="vitals.internal/agent", instance="agent-a")
        recorder = EventRecorder(connect(ConnectSettings(url=server.url)), source)
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


CLAIM_WRITES = Match(resource="resourceclaims", verbs=("patch",))


def shown(server: ApiServer, name: str) -> list[str]:
    """The reasons that the claim's entry shows."""
    devices = server.client("test").get(KIND, name, "default")["status"].get("devices", [])
    return [condition["reason"] for device in devices for condition in device["conditions"]]


@pytest.mark.parametrize("status", [403, 422, 429, 500])
def test_a_claim_whose_write_is_denied_holds_up_no_other(status: int) -> None:
    """Finding R8."""
    with ApiServer() as server, writer_on(server) as writer:
        claims = [reference(allocated_claim(server, name)) for name in ("a", "b", "c")]
        denied = Match(resource="resourceclaims", verbs=("patch",), name="a")
        server.faults.fail(status, times=None, match=denied)
        for reason in ("None", "Xid79", "Xid48"):
            began = time.monotonic()
            state = ConditionStatus.TRUE if reason == "None" else ConditionStatus.FALSE
            writer.show({claim: (entry(state, reason),) for claim in claims})
            eventually(lambda expected=reason: shown(server, "b") == shown(server, "c") == [expected])  # type: ignore[misc]
            assert time.monotonic() - began < 2

        assert shown(server, "a") == []
        server.faults.clear()
        eventually(lambda: shown(server, "a") == ["Xid48"], 15)


def test_a_claim_that_gets_no_answer_holds_up_others_by_one_deadline_at_most() -> None:
    """Finding R8: a webhook that hangs for one claim."""
    with ApiServer() as server, writer_on(server) as writer:
        claims = [reference(allocated_claim(server, name)) for name in ("a", "b")]
        hung = server.faults.delay(
            30, times=None, match=Match(resource="resourceclaims", verbs=("patch",), name="a")
        )
        writer.show({claim: (entry(),) for claim in claims})
        eventually(lambda: hung.hits > 0)
        writer.show({claim: (entry(ConditionStatus.FALSE, "Xid79"),) for claim in claims})
        began = time.monotonic()
        eventually(lambda: shown(server, "b") == ["Xid79"], 15)

        took = time.monotonic() - began
        hung.end()
        eventually(lambda: shown(server, "a") == ["Xid79"], 15)

        assert took < 8


def test_claims_of_an_outage_are_written_soon_after_its_end_also_after_a_403() -> None:
    """Finding K1, for claims."""
    with ApiServer() as server, writer_on(server) as writer:
        claims = [reference(allocated_claim(server, f"c-{index}")) for index in range(8)]
        with server.outage():
            writer.show({claim: (entry(ConditionStatus.FALSE, "Xid79"),) for claim in claims})
            time.sleep(3)
            loading = server.faults.fail(403, times=None, match=CLAIM_WRITES)
        eventually(lambda: loading.hits > 0, 10)
        loading.end()
        began = time.monotonic()
        eventually(lambda: all(shown(server, claim.name) == ["Xid79"] for claim in claims), 20)

        assert time.monotonic() - began < 12


def test_a_claim_is_written_although_a_server_that_starts_first_answers_404() -> None:
    """Finding K1, for claims: a 404 that does not name the claim does not say that the claim is gone."""
    with ApiServer() as server, writer_on(server) as writer:
        claims = [reference(allocated_claim(server, name)) for name in ("a", "b")]
        loading = server.faults.fail(404, times=None, match=CLAIM_WRITES)
        writer.show({claim: (entry(ConditionStatus.FALSE, "Xid79"),) for claim in claims})
        eventually(lambda: loading.hits > 1, 10)
        loading.end()

        eventually(lambda: shown(server, "a") == shown(server, "b") == ["Xid79"], 10)


def test_what_waits_to_be_written_is_dropped_when_another_instance_takes_over() -> None:
    """Finding R9."""
    with ApiServer() as server, writer_on(server) as old, writer_on(server) as new:
        claim = reference(allocated_claim(server))
        refused = server.faults.fail(503, times=None, match=CLAIM_WRITES)
        old.show({claim: (entry(),)})
        eventually(lambda: refused.hits > 1)
        old.set_active(False)
        refused.end()
        new.set_active(False)
        new.set_active(True)
        new.show({claim: (entry(ConditionStatus.FALSE, "Xid79"),)})
        eventually(lambda: shown(server, "c") == ["Xid79"])
        old.show({claim: (entry(),)})
        time.sleep(1.5)

        assert shown(server, "c") == ["Xid79"]


def test_a_read_that_shows_the_entries_of_somebody_else_has_them_applied_again() -> None:
    """Finding R9: a write of the instance before, or of a person."""
    with ApiServer() as server, writer_on(server) as writer:
        claim = reference(allocated_claim(server))
        reader = ClaimReader(connect(ConnectSettings(url=server.url)), writer)
        writer.show({claim: (entry(ConditionStatus.FALSE, "Xid79"),)})
        eventually(lambda: shown(server, "c") == ["Xid79"])
        reader.read("default", "c")
        stale = server.client("test").get(KIND, "c", "default")
        stale["status"]["devices"][0]["conditions"][0] |= {"status": "True", "reason": "None"}
        server.client("test").update_status(KIND, stale)
        reader.read("default", "c")
        eventually(lambda: shown(server, "c") == ["Xid79"])

        assert patches(server) == [200, 200]


def test_conditions_that_others_add_to_our_entry_are_left_alone() -> None:
    """Finding R9: they are no reason to apply again."""
    with ApiServer() as server, writer_on(server) as writer:
        claim = reference(allocated_claim(server))
        reader = ClaimReader(connect(ConnectSettings(url=server.url)), writer)
        writer.show({claim: (entry(),)})
        eventually(lambda: shown(server, "c") == ["None"])
        theirs = server.client("test").get(KIND, "c", "default")
        planned = {"type": "RemediationScheduled", "status": "True", "reason": "Reset", "message": "m"}
        planned["lastTransitionTime"] = "2026-11-24T01:02:03Z"
        theirs["status"]["devices"][0]["conditions"].append(planned)
        server.client("test").update_status(KIND, theirs)
        reader.read("default", "c")
        writer.show({claim: (entry(ConditionStatus.FALSE, "Xid79"),)})
        eventually(lambda: "Xid79" in shown(server, "c"))

        assert patches(server) == [200, 200]
        assert "Reset" in shown(server, "c")
