"""The DCGM exporter as a source, over real HTTP: its signals, stale values, and the limits of a request."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from gpuvitals.model.signal import MonitorReport, MonitorState, Reading, Signal, Source, XidReport
from gpuvitals.signals.clock import SystemClock
from gpuvitals.signals.dcgm import DcgmSettings, DcgmSource, refused_address
from gpuvitals.signals.dcgm_text import UNCORRECTED, XID, DcgmTextError, dcgm_gpus
from support.fakes.dcgm_exporter import Exporter, exporting, exposition
from support.waiting import eventually

ONE, TWO = "GPU-604ac76c-d9cf-fef3-62e9-d92044ab6e52", "GPU-34319582-d595-d1c7-d1d2-179bcfa61660"
REMAP = "DCGM_FI_DEV_ROW_REMAP_FAILURE"
RECOVERY = "DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL"
THERMAL = "DCGM_FI_DEV_THERMAL_VIOLATION"


class Heard:
    """Keeps every signal of the source."""

    def __init__(self) -> None:
        self.signals: list[Signal] = []

    def put(self, signal: Signal) -> None:
        self.signals.append(signal)

    def readings(self, uuid: str = ONE) -> list[Reading]:
        return [each for each in self.signals if isinstance(each, Reading) and each.uuid == uuid]

    def xids(self) -> list[int]:
        return [each.code for each in self.signals if isinstance(each, XidReport)]

    def monitors(self) -> list[MonitorState]:
        return [each.state for each in self.signals if isinstance(each, MonitorReport)]

    def trouble(self) -> str:
        return next(each.detail for each in reversed(self.signals) if isinstance(each, MonitorReport))


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    with exporting() as running:
        running.values = {
            ONE: {XID: 0, REMAP: 0, UNCORRECTED: 0, RECOVERY: 4, THERMAL: 100},
            TWO: {XID: 0, REMAP: 0},
        }
        yield running


Start = Callable[..., Heard]


@pytest.fixture
def start(exporter: Exporter) -> Iterator[Start]:
    started: list[DcgmSource] = []

    def begin(**changes: float) -> Heard:
        heard = Heard()
        settings = replace(DcgmSettings(url=exporter.url, period_seconds=0.02), **changes)  # type: ignore[arg-type]  # names checked by replace()
        started.append(DcgmSource(settings, SystemClock(), heard))
        started[-1].start()
        return heard

    yield begin
    exporter.released.set()
    for source in started:
        source.stop(5)


def test_each_gpu_is_a_reading_with_the_values_that_are_shown(start: Start) -> None:
    heard = start()
    eventually(lambda: len(heard.readings()) > 1 and heard.readings(TWO))
    one, two = heard.readings()[1], heard.readings(TWO)[0]

    assert heard.monitors() == [MonitorState.WATCHING]
    assert one.source is Source.DCGM
    assert (one.ecc_uncorrected_volatile, one.remap_failed, one.remap_pending) == (0, False, None)
    assert (one.link_errors, one.hardware_slowdown) == (False, False)
    assert (two.ecc_uncorrected_volatile, two.remap_failed, two.link_errors) == (None, False, None)
    assert heard.xids() == []


def test_counters_tell_by_their_growth_and_a_reset_is_none(exporter: Exporter, start: Start) -> None:
    heard = start()
    eventually(lambda: len(heard.readings()) > 1)
    exporter.values[ONE] |= {RECOVERY: 5, THERMAL: 200, UNCORRECTED: 2}
    eventually(lambda: heard.readings()[-1].ecc_uncorrected_volatile == 2)
    eventually(lambda: any(each.link_errors and each.hardware_slowdown for each in heard.readings()))
    exporter.values[ONE] |= {RECOVERY: 0, THERMAL: 0}
    eventually(lambda: heard.readings()[-1].link_errors is False)
    before = sum(bool(each.link_errors) for each in heard.readings())
    time.sleep(0.1)

    assert sum(bool(each.link_errors) for each in heard.readings()) == before


def test_only_a_change_of_the_last_xid_is_news(exporter: Exporter, start: Start) -> None:
    exporter.values[ONE][XID] = 31
    heard = start()
    eventually(lambda: len(heard.readings()) > 2)
    assert heard.xids() == []
    exporter.values[ONE][XID] = 79
    eventually(heard.xids)
    time.sleep(0.1)

    assert heard.xids() == [79]


def test_a_gpu_whose_energy_stands_still_is_no_evidence(exporter: Exporter, start: Start) -> None:
    heard = start(stale_seconds=0.1)
    eventually(lambda: heard.readings() and heard.readings(TWO))
    exporter.frozen.add(ONE)
    time.sleep(0.3)
    count = len(heard.readings())
    eventually(lambda: len(heard.readings(TWO)) > count + 5)

    assert len(heard.readings()) == count
    assert heard.monitors() == [MonitorState.WATCHING]
    exporter.frozen.add(TWO)
    eventually(lambda: heard.monitors()[-1] is MonitorState.UNRESPONSIVE)
    assert "repeats old values of every GPU" in heard.trouble()


def test_a_missing_exporter_is_told_once_and_seen_when_it_is_there(exporter: Exporter, start: Start) -> None:
    exporter.status = 503
    heard = start()
    eventually(heard.monitors)
    time.sleep(0.1)
    assert heard.monitors() == [MonitorState.UNRESPONSIVE]
    assert "answers 503" in heard.trouble()
    exporter.status = 200
    eventually(heard.readings)

    assert heard.monitors() == [MonitorState.UNRESPONSIVE, MonitorState.WATCHING]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"# TYPE node_load1 gauge\nnode_load1 0.3\n", "is this the DCGM exporter?"),
        (b"<html>", "not the text format of Prometheus"),
        (b"", "is this the DCGM exporter?"),
        (b"\xff\xfe\x00", "not the text format"),
        (b'DCGM_FI_DEV_XID_ERRORS{UUID="GPU-1"} many\n', "not the text format"),
        (b"x" * 5000, "more than 4096 bytes"),
        (
            "".join(f'DCGM_FI_DEV_XID_ERRORS{{UUID="GPU-{n}"}} 0\n' for n in range(65)).encode(),
            "65 GPUs, more than 64",
        ),
    ],
    ids=["another", "page", "nothing", "bytes", "no-number", "too-long", "too-many"],
)
def test_an_answer_that_is_none_is_told_and_is_no_evidence(
    exporter: Exporter, start: Start, body: bytes, why: str
) -> None:
    exporter.body = body
    heard = start(max_bytes=4096)
    eventually(heard.monitors)

    assert heard.monitors() == [MonitorState.UNRESPONSIVE]
    assert why in heard.trouble()
    assert heard.readings() == []


def test_an_answer_that_never_ends_is_given_up(exporter: Exporter, start: Start) -> None:
    exporter.pause_seconds = 30
    began = time.monotonic()
    heard = start(deadline_seconds=0.2)
    eventually(heard.monitors)

    assert time.monotonic() - began < 2
    assert heard.monitors() == [MonitorState.UNRESPONSIVE]


@pytest.mark.parametrize(
    ("url", "node", "any_host", "why"),
    [
        ("http://127.0.0.1:9400/metrics", "", False, ""),
        ("http://[::1]:9400/metrics", "", False, ""),
        ("http://localhost:9400/metrics", "", False, ""),
        ("http://10.0.0.7:9400/metrics", "10.0.0.7", False, ""),
        ("http://dcgm.monitoring:9400/metrics", "10.0.0.7", True, ""),
        ("http://10.0.0.8:9400/metrics", "10.0.0.7", False, "neither loopback nor this node's address"),
        ("http://169.254.169.254/latest", "10.0.0.7", False, "neither loopback"),
        ("http://dcgm.monitoring:9400/metrics", "", False, "(not known)"),
        ("https://127.0.0.1:9400/metrics", "", True, "expected http://"),
        ("file:///etc/passwd", "", True, "expected http://"),
        ("http://me:secret@127.0.0.1:9400/", "", True, "expected http://"),
        ("http://127.0.0.1:99999/", "", False, "port"),
    ],
)
def test_only_this_nodes_own_exporter_is_asked_unless_said_so(
    url: str, node: str, any_host: bool, why: str
) -> None:
    refused = refused_address(url, node, any_host=any_host)

    assert (why in refused) if why else refused == ""


def test_blank_values_are_not_read() -> None:
    blanks = (2147483632, 2147483634, 9223372036854775794, 140737488355328)
    for blank in blanks:
        (gpu,) = dcgm_gpus(exposition({ONE: {UNCORRECTED: blank, REMAP: 1}})).values()
        assert (gpu.count(UNCORRECTED), gpu.flag(REMAP)) == (None, True)


def test_the_rows_of_mig_instances_are_their_gpus_and_the_greatest_counts() -> None:
    first = exposition({ONE: {UNCORRECTED: 0}}, GPU_I_PROFILE="2g.20gb", GPU_I_ID="3")
    other = exposition({ONE: {UNCORRECTED: 7}}, GPU_I_PROFILE="2g.20gb", GPU_I_ID="5")
    (gpu,) = dcgm_gpus(first + "".join(other.splitlines(keepends=True)[2:])).values()

    assert gpu.count(UNCORRECTED) == 7


def test_event_reasons_are_read_by_their_bits() -> None:
    for reasons, slows in ((0x8, True), (0x40, True), (0x80, True), (0x4 | 0x1 | 0x20, False)):
        (gpu,) = dcgm_gpus(exposition({ONE: {"DCGM_FI_DEV_CLOCK_THROTTLE_REASONS": reasons}})).values()
        assert gpu.hardware_slowdown() is slows


def test_the_old_order_with_all_types_first_is_understood() -> None:
    text = (
        "# HELP DCGM_FI_DEV_SM_CLOCK SM clock frequency (in MHz).\n# TYPE DCGM_FI_DEV_SM_CLOCK gauge\n"
        "# HELP DCGM_FI_DEV_XID_ERRORS Value of the last XID error encountered.\n"
        "# TYPE DCGM_FI_DEV_XID_ERRORS gauge\n"
        f'DCGM_FI_DEV_SM_CLOCK{{gpu="0", UUID="{ONE}"}} 139\nDCGM_FI_DEV_XID_ERRORS{{gpu="0", UUID="{ONE}"}} 79\n'
    )

    assert dcgm_gpus(text)[ONE].count(XID) == 79  # type: ignore[index]  # a UUID as text


def test_an_exporters_own_old_timestamp_is_kept_for_the_judgement_of_freshness() -> None:
    line = f'DCGM_FI_DEV_XID_ERRORS{{UUID="{ONE}"}} 79 1700000000000\n'
    (gpu,) = dcgm_gpus(line).values()

    assert gpu.timestamp_seconds == 1_700_000_000
    with pytest.raises(DcgmTextError):
        dcgm_gpus("")
