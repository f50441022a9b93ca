"""Events: one a change, never in the way."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from gpuvitals.kube.events import EventLimits, EventRecord, EventRecorder, EventSource, Regarding
from gpuvitals.kube.retry import EVENTS
from gpuvitals.kube.transport import ConnectSettings, connect
from gpuvitals_sim.apiserver import ApiServer, Match
from support.waiting import eventually

KIND = "events.events.k8s.io"
NODE = Regarding(api_version="v1", kind="Node", name="node-a")
LOST = EventRecord(regarding=NODE, reason="GpuOutOfService", note="gpu-3: XID 79", warning=True)
SOURCE = EventSource(controller="gpu.example.com/agent", instance="agent-a")
QUICK = EventLimits(policy=replace(EVENTS, first_seconds=0.01, cap_seconds=0.02, refused_cap_seconds=0.02))


@contextmanager
def recording(server: ApiServer, limits: EventLimits = QUICK) -> Iterator[EventRecorder]:
    transport = connect(ConnectSettings(url=server.url))
    recorder = EventRecorder(transport, SOURCE, limits=limits)
    recorder.start()
    try:
        yield recorder
    finally:
        recorder.stop(5)


def notes(server: ApiServer) -> list[str]:
    """In the order in which they happened: a list is ordered by names, and those are random."""
    events = sorted(server.client("test").list(KIND), key=lambda event: str(event["eventTime"]))
    return [event["note"] for event in events]


def numbered(index: int) -> EventRecord:
    return replace(LOST, reason=f"Reason{index}", note=str(index))


def test_a_note_with_a_file_name_that_is_no_text_is_sent_and_so_is_the_next() -> None:
    """Finding R2: bytes of a file name that are not UTF-8 ended the thread of the events."""
    with ApiServer() as server:
        with recording(server) as recorder:
            recorder.emit(replace(LOST, note="/reports/\udcff.json: no list"))
            recorder.emit(numbered(1))
        assert notes(server) == ["/reports/\\udcff.json: no list", "1"]


def test_an_equal_event_is_sent_once_in_its_quiet_time_and_again_after_it() -> None:
    with ApiServer() as server:
        with recording(server, replace(QUICK, quiet_seconds=0.2)) as recorder:
            for _ in range(3):
                recorder.emit(LOST)
            eventually(lambda: len(notes(server)) == 1)
            time.sleep(0.25)
            assert len(notes(server)) == 1
            recorder.emit(LOST)
        assert len(notes(server)) == 2


def test_an_event_names_its_object_and_its_sender() -> None:
    """Finding K9: the sender has the API group of its release."""
    claim = Regarding(
        api_version="resource.k8s.io/v1", kind="ResourceClaim", name="c", namespace="default", uid="u"
    )
    with ApiServer() as server:
        with recording(server) as recorder:
            recorder.emit(replace(LOST, regarding=claim, warning=False))
        event = server.client("test").list(KIND)[0]

    assert event["regarding"] == {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "name": "c",
        "namespace": "default",
        "uid": "u",
    }
    assert (event["metadata"]["namespace"], event["type"]) == ("default", "Normal")
    assert (event["reportingController"], event["reportingInstance"]) == ("gpu.example.com/agent", "agent-a")


def test_a_long_note_is_cut_to_what_the_server_takes_at_a_whole_character() -> None:
    with ApiServer() as server:
        with recording(server) as recorder:
            recorder.emit(replace(LOST, note="ä" * 2000))
        assert notes(server) == ["ä" * 512]


def test_stop_sends_what_waits() -> None:
    with ApiServer() as server:
        with recording(server) as recorder:
            for index in range(20):
                recorder.emit(numbered(index))
        assert len(notes(server)) == 20


def test_a_full_queue_loses_its_oldest_and_counts_it() -> None:
    with ApiServer() as server:
        delayed = server.faults.delay(0.5, times=1, match=Match(resource="events"))
        with recording(server, replace(QUICK, queued=3)) as recorder:
            recorder.emit(numbered(0))
            eventually(lambda: delayed.hits == 1)
            for index in range(1, 7):
                recorder.emit(numbered(index))
            assert recorder.dropped == 4
        assert notes(server) == ["0", "4", "5", "6"]


def test_a_busy_server_is_asked_again_and_an_invalid_event_is_not_sent_again() -> None:
    with ApiServer() as server:
        server.faults.fail(503, times=2)
        with recording(server) as recorder:
            recorder.emit(numbered(1))
            eventually(lambda: notes(server) == ["1"])
            server.faults.fail(422, times=1)
            recorder.emit(numbered(2))
            recorder.emit(numbered(3))
        assert notes(server) == ["1", "3"]
        assert recorder.dropped == 1


def test_an_event_that_is_refused_while_rights_are_loaded_is_not_lost() -> None:
    """Finding K1, for events."""
    with ApiServer() as server:
        server.faults.fail(403, times=3)
        with recording(server) as recorder:
            recorder.emit(LOST)
            eventually(lambda: len(notes(server)) == 1)
        assert recorder.dropped == 0


def test_an_event_that_is_never_allowed_is_given_up_and_holds_up_no_other() -> None:
    """Finding R8, for events: its namespace may be going."""
    with ApiServer() as server:
        denied = Match(resource="events", when=lambda request: request.namespace == "going")
        server.faults.fail(403, times=None, match=denied)
        with recording(server) as recorder:
            claim = Regarding(api_version="v1", kind="Pod", name="p", namespace="going")
            recorder.emit(replace(LOST, regarding=claim))
            recorder.emit(LOST)
            eventually(lambda: len(notes(server)) == 1)
            eventually(lambda: recorder.dropped == 1)


def test_events_of_an_outage_are_sent_when_it_ends() -> None:
    with ApiServer() as server, recording(server) as recorder:
        with server.outage():
            for index in range(5):
                recorder.emit(numbered(index))
            time.sleep(1)
        eventually(lambda: len(notes(server)) == 5)


def test_texts_that_differ_in_a_count_are_ten_events_and_then_one_summary() -> None:
    """Finding R16."""
    with ApiServer() as server:
        with recording(server, replace(QUICK, seconds=1.0)) as recorder:
            for count in range(461):
                recorder.emit(replace(LOST, reason="SignalGap", note=f"{count} records were lost"))
            eventually(lambda: len(notes(server)) == 11)
        assert notes(server)[-1] == "460 records were lost (and 450 more SignalGap since)"


def test_the_events_of_one_object_are_no_reason_to_hold_back_those_of_another() -> None:
    """Finding R16."""
    with ApiServer() as server:
        with recording(server, replace(QUICK, burst=1)) as recorder:
            for name in ("a", "b", "c"):
                about = replace(NODE, name=name)
                for reason in ("GpuUnhealthy", "GpuDegraded"):
                    recorder.emit(replace(LOST, regarding=about, reason=reason))
        assert len(notes(server)) == 6


def test_stop_is_quick_also_in_an_outage() -> None:
    with ApiServer() as server, recording(server, EventLimits()) as recorder, server.outage():
        recorder.emit(LOST)
        time.sleep(0.05)
        began = time.monotonic()
        recorder.stop(0.2)

        assert time.monotonic() - began < 0.5
