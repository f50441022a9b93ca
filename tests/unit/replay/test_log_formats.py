"""Kernel lines are recognised in every log format; other lines are not."""

from collections.abc import Callable, Iterable

import pytest

from gpuvitals.model.signal import GapReport, IdentityReport, OffBusReport
from gpuvitals.replay.reader import LogError, LogReader
from gpuvitals.replay.timeline import Restart
from support.saved_logs import (
    LOG,
    STAMPED,
    WRITTEN,
    LogLine,
    check_loss,
    dmesg,
    heard,
    journal_export,
    journal_json,
    kmsg,
    replayed,
    syslog,
    xid,
)

Form = Callable[[Iterable[LogLine]], bytes]


@pytest.mark.parametrize("form", STAMPED, ids=lambda form: form.__name__)
@pytest.mark.parametrize("block", [1 << 16, 7], ids=["whole", "cut"])
def test_every_form_tells_the_same_at_the_same_times(form: Form, block: int) -> None:
    check_loss(form(LOG), block)


def test_a_log_without_time_stamps_tells_what_but_not_when() -> None:
    found = replayed("".join(f"{text}\n" for _, text in LOG).encode())

    assert found.ends["0000:3b:00.0"].is_isolated
    assert found.reader.clock.began is None


@pytest.mark.parametrize("form", [dmesg, syslog], ids=["three lines", "three records"])
def test_the_driver_load_lines_are_one_report(form: Form) -> None:
    first, second, third = (
        "NVRM: The NVIDIA GPU 0000:18:00.0",
        "NVRM: (PCI ID: 10de:2330) installed in this system has",
        "NVRM: fallen off the bus and is not responding to commands.",
    )
    if form is dmesg:
        content = dmesg([(1, first)]) + f"{'':15}{second}\n{'':15}{third}\n".encode()
    else:
        content = syslog([(1, first), (1, second), (1, third)])
    (report,) = heard(content)

    assert isinstance(report, OffBusReport)
    assert report.bus_id == "0000:18:00.0"


def test_the_driver_load_lines_of_a_journal_are_one_entry() -> None:
    text = "NVRM: The NVIDIA GPU 0000:18:00.0\nNVRM: (PCI ID: 10de:2330)\nNVRM: fallen off the bus and is not responding to commands."

    for form in (journal_json, journal_export):
        (report,) = heard(form([(1, text)]))
        assert isinstance(report, OffBusReport)


def test_a_newline_inside_of_a_record_makes_no_second_record() -> None:
    forged = xid(79)

    assert heard(dmesg([(1, "usb 1-1: Product: x")]) + f"{forged}\n    {forged}\n".encode()) == []
    assert heard(journal_json([(1, f"usb 1-1: Product: x\n{forged}")])) == []


@pytest.mark.parametrize(
    "line",
    [
        f"12,1,1,-;{xid(79)}",
        f"<12>[    1.0] {xid(79)}",
        f"user  :warn  : [    1.0] {xid(79)}",
        f'{{"_TRANSPORT":"kernel","SYSLOG_FACILITY":"1","MESSAGE":"{xid(79)}"}}',
    ],
    ids=["kmsg", "raw", "decoded", "journal"],
)
def test_a_line_that_a_process_wrote_is_counted_and_has_no_effect(line: str) -> None:
    found = replayed(f"{line}\n".encode())

    assert (found.counts.spoofed, found.ends) == (1, {})


@pytest.mark.parametrize(
    "line",
    [
        f"Nov 24 10:00:00 node-7 app[7]: {xid(79)}",
        f"2026-11-24T10:00:00+00:00 node-7 app: {xid(79)}",
        f"Nov 24 10:00:00 node-7 app: x kernel: {xid(79)}",
        f"[    1.000000] app: {xid(79)}",
        f'{{"_TRANSPORT":"stdout","MESSAGE":"{xid(79)}"}}',
    ],
)
def test_a_line_of_another_program_is_none_of_the_kernels(line: str) -> None:
    assert heard(f"{line}\n".encode()) == []


def test_a_journal_message_of_bytes_is_read_and_odd_ones_are_counted() -> None:
    numbers = list(xid(79).encode())
    good = '{"_TRANSPORT":"kernel","MESSAGE":' + str(numbers).replace(" ", "") + "}\n"
    odd = '{"_TRANSPORT":"kernel","MESSAGE":' + str([255, *numbers]).replace(" ", "") + "}\n"
    reader = LogReader()

    assert len(heard(good.encode() + odd.encode(), reader=reader)) == 1
    assert reader.counts.unread == 1


def test_missing_records_are_told_with_their_number() -> None:
    content = kmsg(LOG).replace(b"4,3,", b"4,13,", 1).replace(b"4,4,", b"4,14,", 1)

    assert [each.lost for each in heard(content) if isinstance(each, GapReport)] == [10]


@pytest.mark.parametrize(
    "files",
    [
        (kmsg([(500, "usb 1-1: x"), (0, "Linux version 6.8"), (1, "usb 1-1: x")]),),
        (dmesg([(500, "usb 1-1: x")]), dmesg([(1, "usb 1-1: x")])),
        (syslog([(500, "usb 1-1: x"), (600, "Linux version 6.8.0")]),),
        (journal_json([(500, xid(13))], boot="a"), journal_json([(600, xid(13))], boot="b")),
    ],
    ids=["first record", "stamps fall back", "syslog", "journal"],
)
def test_a_boot_within_a_log_is_found_once(files: tuple[bytes, ...]) -> None:
    assert [each.what for each in heard(*files) if isinstance(each, Restart)] == ["boot"]


def test_a_driver_load_is_found() -> None:
    text = "NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  595.45.04"

    assert [each.what for each in heard(dmesg([(5, text)])) if isinstance(each, Restart)] == ["driver load"]


def test_identity_lines_come_through() -> None:
    (report,) = heard(dmesg([(1, "NVRM: GPU at PCI:0000:3b:00: GPU-5d3c0a11-8e42-4b7f-9c15-0f6a2be71d01")]))

    assert isinstance(report, IdentityReport)


def test_the_year_of_a_stamp_without_one_is_the_last_that_it_can_be() -> None:
    reader = LogReader()
    heard(b"Dec 30 10:00:00 n kernel: x\nFeb 29 10:00:00 n kernel: x\n", reader=reader)

    assert WRITTEN.year == 2026
    assert reader.clock.began is not None
    assert reader.clock.began.time.year == 2025


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"\x89PNG\r\n\x1a\n\x00", "log-1:1: is not a log"),
        (b"hello\nworld\n", "log-1:1: is not a log"),
        (b'{"MESSAGE": "x"\n', "log-1:1: is not json"),
        (b'{"MESSAGE":"x"}\n{"_TRANSPORT":"kernel","MESSAGE":"NVRM', "log-1:2: is not json"),
        (b'{"MESSAGE": 5}\n', "log-1:1: MESSAGE"),
        (
            b'{"MESSAGE":"x","__REALTIME_TIMESTAMP":"y","_TRANSPORT":"kernel"}\n',
            "log-1:1: __REALTIME_TIMESTAMP",
        ),
        (b"__CURSOR=x\nMESSAGE\n\x05\x00\x00\x00\x00\x00\x00\x00ab", "log-1:2: ends within a value"),
        (b"__CURSOR=x\n_TRANSPORT=kernel\nSYSLOG_FACILITY=many\nMESSAGE=x\n\n", "log-1:1: SYSLOG_FACILITY"),
    ],
)
def test_bad_input_names_file_and_line(content: bytes, named: str) -> None:
    with pytest.raises(LogError) as caught:
        heard(content)

    assert str(caught.value).lower().startswith(named.lower())


def test_an_empty_log_is_a_log() -> None:
    assert heard(b"", b"\n\n") == []
