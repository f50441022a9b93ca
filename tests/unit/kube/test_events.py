"""Events: one a change, never in the way."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from gpuvitals.kube.client import ConnectSettings, connect
from gpuvitals.kube.events import EventLimits, EventRecord, EventRecorder, Regarding
from gpuvitals.kube.retry import EVENTS
from gpuvitals.sim.apiserver import ApiServer, Match

KIND = "events.events.k8s.io"
NODE = Regarding(api_version="v1", kind="Node", name="node-a")
LOST = EventRecord(regarding=NODE, reason="GpuOutOfService", note="gpu-3: XID 79", warning=True)
QUICK = EventLimits(policy=replace(EVENTS, first_seconds=0.01, cap_seconds=0.02))


@contextmanager
def recording(server: ApiServer, limits: EventLimits = QUICK) -> Iterator[EventRecorder]:
    transport = connect(ConnectSettings(url=server.url))
    recorder = EventRecorder(transport, reporting_instance="agent-a", limits=limits)
    recorder.start()
    try:
        yield recorder
    finally:
        recorder.stop(5)


def wait(holds: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < 5, "did not happen in time"
        time.sleep(0.005)


def notes(server: ApiServer) -> list[str]:
    """In the order in which they happened: a list is ordered by names, and those are random."""
    events = sorted(server.client("test").list(KIND), key=lambda event: str(event["eventTime"]))
    return [event["note"] for event in events]


def numbered(index: int) -> EventRecord:
    return replace(LOST, note=str(index))


def test_an_equal_event_is_sent_once_in_its_quiet_time_and_again_after_it() -> None:
    with ApiServer() as server:
        with recording(server, replace(QUICK, quiet_seconds=0.2)) as recorder:
            for _ in range(3):
                recorder.emit(LOST)
            wait(lambda: len(notes(server)) == 1)
            time.sleep(0.25)
            assert len(notes(server)) == 1
            recorder.emit(LOST)
        assert len(notes(server)) == 2


def test_an_event_names_its_object_and_its_sender() -> None:
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
    assert (event["reportingController"], event["reportingInstance"]) == ("vitals.internal/agent", "agent-a")


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
        server.faults.delay(0.2, times=1, match=Match(resource="events"))
        with recording(server, replace(QUICK, queued=3)) as recorder:
            recorder.emit(numbered(0))
            wait(lambda: not recorder._waiting)
            for index in range(1, 7):
                recorder.emit(numbered(index))
            assert recorder.dropped == 3
        assert notes(server) == ["0", "4", "5", "6"]


def test_a_busy_server_is_asked_again_and_a_refusal_is_not() -> None:
    with ApiServer() as server:
        server.faults.fail(503, times=2)
        with recording(server) as recorder:
            recorder.emit(numbered(1))
            wait(lambda: notes(server) == ["1"])
            server.faults.fail(403, times=1)
            recorder.emit(numbered(2))
            recorder.emit(numbered(3))
        assert notes(server) == ["1", "3"]
        assert recorder.dropped == 1


def test_stop_is_quick_also_in_an_outage() -> None:
    with ApiServer() as server, recording(server, EventLimits()) as recorder, server.outage():
        recorder.emit(LOST)
        time.sleep(0.05)
        began = time.monotonic()
        recorder.stop(0.2)

        assert time.monotonic() - began < 0.5
