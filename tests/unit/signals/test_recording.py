"""The recording: every signal is read back unchanged, the file is bounded, and no source waits for the disk."""

import json
from pathlib import Path
from typing import get_args

import pytest

from gpuvitals.model.ids import PciBusId
from gpuvitals.model.signal import (
    Checkup,
    ClearReport,
    ConfigSpace,
    ExternalReport,
    ExternalReports,
    GapReport,
    InitFailureReport,
    InventoryReport,
    MonitorReport,
    MonitorState,
    Nvlink5Detail,
    OffBusReport,
    PresenceReport,
    ReportedState,
    Signal,
    Source,
    SwitchReport,
    XidReport,
)
from gpuvitals.signals.clock import SystemClock
from gpuvitals.signals.recording import (
    MAX_WAITING,
    SignalRecorder,
    event_line,
    recorded_kind,
    signal_of_event,
)
from support.signals import BUS, GPU, UUID, asks, good, identity, links, moment, xid
from support.worlds.nvml_world import Recorder

KMSG, POLL, AT = Source.KMSG, Source.NVML_POLL, moment(1000)
EXAMPLES: list[Signal] = [
    XidReport(
        source=KMSG,
        seen=AT,
        bus_id=BUS,
        code=145,
        gpu_instance=0,
        process="a\\x0ab",
        words=(1, 2),
        nvlink5=Nvlink5Detail(unit="RLW_REMAP", intr_info=4, error_status=None),
    ),
    OffBusReport(source=KMSG, seen=AT, bus_id=None),
    InitFailureReport(source=KMSG, seen=AT, bus_id=BUS),
    asks(1, 1000),
    identity(1000),
    good(1000, links=links(17), unsupported=frozenset({"fabric"})),
    Checkup(
        source=POLL, seen=AT, uuid=UUID, link_replays=3, idle=False, unsupported=frozenset({"processes"})
    ),
    PresenceReport(source=Source.SYSFS, seen=AT, bus_id=BUS, present=True, config_space=ConfigSpace.ALL_ONES),
    ClearReport(source=Source.OPERATOR, seen=AT, uuid=UUID, operator_reason="ticket 123"),
    SwitchReport(
        source=KMSG, seen=AT, switch_bus_id=PciBusId("0000:05:00.0"), switch=3, code=1, link=None, fatal=True
    ),
    GapReport(source=KMSG, seen=AT, lost=7),
    MonitorReport(source=POLL, seen=AT, state=MonitorState.UNRESPONSIVE, detail="late"),
    InventoryReport(source=POLL, seen=AT, gpus=(GPU,), driver_load="570/1"),
    ExternalReports(
        source=Source.DROP_IN,
        seen=AT,
        reports=(
            ExternalReport(gpu="gpu-1", state=ReportedState.BAD, by="jane", reason="ticket 123", at=AT),
        ),
    ),
]


def test_there_is_an_example_of_every_kind() -> None:
    assert {type(signal) for signal in EXAMPLES} == set(get_args(Signal))


@pytest.mark.parametrize("signal", EXAMPLES, ids=lambda signal: type(signal).__name__)
def test_a_signal_comes_back_as_it_went_in(signal: Signal) -> None:
    line = event_line(signal, moment(1500).time)
    found = signal_of_event(json.loads(line))

    assert "\n" not in line
    assert found is not None
    assert (found.signal, found.time) == (signal, moment(1500).time)


GOOD_EVENT = json.loads(event_line(xid(79, 1000), moment(1000).time))


def test_external_reports_keep_the_names_that_recordings_have_always_had() -> None:
    event = json.loads(event_line(EXAMPLES[-1], AT.time))

    assert event["kind"] == "StatementsReport"
    assert event["signal"]["statements"][0]["says"] == "bad"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"kind": "NewReport"}, "kind: 'NewReport' is no signal"),
        ({"kind": None}, "kind: 'None'"),
        ({"signal": {}}, "signal: object missing required field"),
        ({"signal": GOOD_EVENT["signal"] | {"code": "x"}}, "signal: expected `int`"),
        ({"time": "yesterday"}, "time: 'yesterday' is no time"),
        ({"time": "2026-11-24T10:00:00"}, "has no time zone"),
    ],
)
def test_an_event_that_is_none_is_refused_by_its_field(change: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError) as caught:
        signal_of_event(GOOD_EVENT | change)

    assert named in str(caught.value)


def test_an_event_of_another_name_is_no_signal() -> None:
    assert signal_of_event({"event": "verdict"}) is None


def recorded(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_what_is_put_is_handed_on_and_recorded_by_the_end(tmp_path: Path) -> None:
    sink, path = Recorder(), tmp_path / "heard.jsonl"
    recorder = SignalRecorder(sink, SystemClock(), path)
    recorder.start()
    for signal in EXAMPLES:
        recorder.put(signal)
    recorder.stop(10)

    assert sink.signals == EXAMPLES
    assert [event["kind"] for event in recorded(path)] == [recorded_kind(signal) for signal in EXAMPLES]


def test_without_a_path_it_hands_on_and_records_nothing(tmp_path: Path) -> None:
    sink = Recorder()
    recorder = SignalRecorder(sink, SystemClock(), None)
    recorder.start()
    recorder.put(EXAMPLES[0])
    recorder.stop(1)

    assert sink.signals == EXAMPLES[:1]
    assert list(tmp_path.iterdir()) == []


def test_two_files_of_bounded_size_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "heard.jsonl"
    for _ in range(5):
        recorder = SignalRecorder(Recorder(), SystemClock(), path, max_bytes=100)
        recorder.start()
        recorder.put(EXAMPLES[0])
        recorder.stop(10)

    assert sorted(each.name for each in tmp_path.iterdir()) == ["heard.jsonl", "heard.jsonl.1"]
    assert len(recorded(path)) == 1


def test_what_the_disk_can_not_keep_up_with_is_counted_in_the_recording(tmp_path: Path) -> None:
    path = tmp_path / "heard.jsonl"
    recorder = SignalRecorder(Recorder(), SystemClock(), path)
    for _ in range(MAX_WAITING + 3):
        recorder.put(EXAMPLES[1])
    recorder.start()
    recorder.stop(30)

    assert recorded(path)[-1]["count"] == 3
    assert len(recorded(path)) == MAX_WAITING + 1


def test_a_disk_that_refuses_ends_the_recording_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Recorder()
    recorder = SignalRecorder(sink, SystemClock(), tmp_path / "missing" / "heard.jsonl")
    recorder.start()
    recorder.put(EXAMPLES[0])
    recorder.stop(10)
    recorder.put(EXAMPLES[1])

    assert len(sink.signals) == 2
    assert "signals not recorded any more" in caplog.text
