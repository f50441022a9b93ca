"""Logs in the formats that users paste and send: parsed unchanged, with a count of lines that are not."""

import json

import pytest

from gpuvitals.model.signal import (
    InitFailureReport,
    OffBusReport,
    RecoveryActionReport,
    SwitchReport,
    XidReport,
)
from gpuvitals.replay.months import month_number
from gpuvitals.replay.reader import LogError, LogReader
from gpuvitals.replay.timeline import Restart
from support.log_writers import PEOPLES, SIGNED, Form
from support.saved_logs import (
    EPOCH,
    LOG,
    STAMPED,
    check_loss,
    dmesg,
    heard,
    journal_json,
    journal_short,
    kmsg,
    replayed,
    syslog,
    xid,
)


@pytest.mark.parametrize("form", PEOPLES, ids=lambda form: form.__name__)
@pytest.mark.parametrize("block", [1 << 16, 7], ids=["whole", "cut"])
def test_every_form_that_people_send_tells_the_same_at_the_same_times(form: Form, block: int) -> None:
    """Finding L3."""
    reader = check_loss(form(LOG), block)
    assert not reader.counts.is_incomplete


@pytest.mark.parametrize("form", PEOPLES, ids=lambda form: form.__name__)
def test_a_form_that_does_not_tell_who_wrote_a_line_is_said_to_be_one(form: Form) -> None:
    """Finding L3."""
    assert replayed(form(LOG)).counts.unsigned == (0 if form in SIGNED else 2)


@pytest.mark.parametrize(
    "line",
    [
        f"{{weird}} 17:40:36 {xid(79)}",
        f"node-7!kern!{xid(79)}",
        "2026/11/24 10h00 NVRM: GPU 0000:3b:00.0: GPU has fallen off the bus.",
        "|10:00|nvidia-nvswitch0: SXid (PCI:0000:05:00.0): 20034, Fatal, Link 28 x",
        "[    7.000000] fragment NVRM: Xid (PCI:0000:3b:00): 79, x",
        "[    7.000000] NVRM: Xid (PCI:3b): 79, x",
        f'{{"a":1,"b":"x {xid(79)}"}}',
        f"Nov 24 10:00:00 node-7 {xid(79)}",
        f"Nov 24 10:00:00 node-7 [kernel]: {xid(79)}",
        f"Nov 24 10:00:00 node-7 kernel - {xid(79)}",
        f"Nov 24 10:00:00 node-7 klogd: {xid(79)}",
        f"[Tue Nov 24 10:00:00 2026] node-7 linux: {xid(79)}",
        "Nov 24 10:00:00 node-7 nvidia-nvswitch0: SXid (PCI:0000:05:00.0): 20034, Fatal, Link 28 x",
        "[    7.000000] fragment NVRM: GPU 0000:3b:00.0: RmInitAdapter failed! (0x22:0x56:894)",
        f"<14>1 2026-11-24T10:00:00Z node-7 - - - - {xid(79)}",
    ],
)
@pytest.mark.parametrize("around", [b"", dmesg([(1, "usb 1-1: x")])], ids=["alone", "among others"])
def test_a_drivers_line_that_cannot_be_read_is_counted_and_shown(line: str, around: bytes) -> None:
    """Finding L3."""
    found = replayed(around + f"{line}\n".encode())

    assert found.counts.is_incomplete
    assert (found.counts.unread + found.counts.malformed, found.ends) == (1, {})
    assert found.counts.samples[0].text.startswith(line[:20])
    assert found.counts.samples[0].where == f"log-1:{2 if around else 1}"


@pytest.mark.parametrize(
    "line",
    [
        f"Nov 24 10:00:00 node-7 app[7]: {xid(79)}",
        f"Nov 24 10:00:00 node-7 app: kernel: {xid(79)}",
        f"Nov 24 10:00:00 app[7]: kernel: {xid(79)}",
        f"Tue 2026-11-24 10:00:00 UTC node-7 kubelet[9]: {xid(79)}",
        f"<14>1 2026-11-24T10:00:00Z node-7 app 7 - - {xid(79)}",
        f'{{"SYSLOG_IDENTIFIER":"app","MESSAGE":"{xid(79)}"}}',
        f'{{"_PID":"7","_COMM":"app","MESSAGE":"{xid(79)}"}}',
        f'{{"_TRANSPORT":"stdout","MESSAGE":"{xid(79)}"}}',
        f'{{"transport":"stdout","message":"{xid(79)}"}}',
        f'{{"systemd.transport":"syslog","message":"{xid(79)}"}}',
    ],
)
def test_a_program_that_quotes_the_driver_is_counted_and_has_no_effect(line: str) -> None:
    """Finding L3."""
    found = replayed(f"{line}\n".encode())

    assert (found.counts.mentions, found.counts.unread, found.ends) == (1, 0, {})


@pytest.mark.parametrize(
    "line",
    [
        f"10.5.0.2: user: warning: [2026-11-24T10:00:00.1Z]: {xid(79)}",
        f"Nov 24 10:00:00 node-7 user.warn kernel: {xid(79)}",
        f"<12>Nov 24 10:00:00 node-7 kernel: {xid(79)}",
        f'{{"dmesg":[{{"pri":12,"time":1.0,"msg":"{xid(79)}"}}]}}',
        f'{{"dmesg":[{{"fac":"user","pri":"warn","time":1.0,"msg":"{xid(79)}"}}]}}',
        f'{{"transport":"kernel","syslog_facility":"1","message":"{xid(79)}"}}',
        f'{{"systemd":{{"transport":"kernel"}},"log":{{"syslog":{{"facility":{{"code":1}}}}}},"message":"{xid(79)}"}}',
        f'{{"systemd.transport":"kernel","log.syslog.facility.code":1,"message":"{xid(79)}"}}',
        f'{{"Facility":"user","message":"{xid(79)}"}}',
    ],
)
def test_a_facility_that_is_not_the_kernels_is_spoofed_in_every_form_that_tells_it(line: str) -> None:
    """Finding L3."""
    found = replayed(f"{line}\n".encode())

    assert (found.counts.spoofed, found.ends) == (1, {})


def test_an_unknown_month_loses_the_time_and_not_the_fault() -> None:
    """Finding L3."""
    found = replayed(f"Qqq 24 10:00:00 node-7 kernel: {xid(79)}\n".encode())

    assert found.ends["0000:3b:00.0"].is_isolated
    assert found.counts.undated == 1


@pytest.mark.parametrize(
    ("name", "number"),
    [("Mär", 3), ("Dez", 12), ("août", 8), ("févr.", 2), ("ene", 1), ("10月", 10), ("3월", 3), ("окт", 10), ("OKT", 10),
     ("13月", None), ("foo", None), ("", None)],
)  # fmt: skip
def test_months_are_known_in_the_languages_of_their_users(name: str, number: int | None) -> None:
    assert month_number(name.encode()) == number


@pytest.mark.parametrize("newline", ["#012", "\\x0a"])
def test_escaped_newlines_of_the_load_lines_are_one_report(newline: str) -> None:
    """Finding L3."""
    text = newline.join(
        (
            "NVRM: The NVIDIA GPU 0000:18:00.0",
            "NVRM: (PCI ID: 10de:2330) installed in this system has",
            "NVRM: fallen off the bus and is not responding to commands.",
        )
    )
    (report,) = heard(syslog([(1, text)]))

    assert isinstance(report, OffBusReport)
    assert report.bus_id == "0000:18:00.0"


def test_the_parts_of_a_record_that_dmesg_prints_below_it_are_no_lines_of_their_own() -> None:
    content = dmesg([(1, "NVRM: The NVIDIA probe routine was not called for 1 device(s).")])
    found = replayed(content + f"{'':15}NVRM: This can occur when another driver was loaded\n".encode())
    forged = replayed(dmesg([(1, "usb 1-1: Product: x")]) + f"{'':15}{xid(79)}\n".encode())

    assert not found.counts.is_incomplete
    assert (forged.counts.unread, forged.ends) == (1, {})


@pytest.mark.parametrize("form", [*STAMPED, *PEOPLES], ids=lambda form: form.__name__)
def test_bytes_of_a_process_name_do_not_spoil_the_header(form: Form) -> None:
    """Finding L8."""
    names = ["поезд", "列车", "t\u00e9st", "a\tb"]
    found = replayed(
        form([(at, xid(79, f"pid=7, name={name}, x")) for at, name in enumerate(names, start=1)])
    )

    assert found.ends["0000:3b:00.0"].xids == ((79, 4),)


def test_invalid_utf8_in_a_process_name_does_not_spoil_the_header() -> None:
    """Finding L8."""
    for form in (dmesg, syslog, journal_short, kmsg):
        content = form([(2, xid(79, "pid=7, name=@@@, x"))]).replace(b"@@@", b"\xff\xc3\x80")
        (report,) = heard(content)

        assert isinstance(report, XidReport)
        assert report.process == "\\xff\\xc3\\x80"


@pytest.mark.parametrize(
    "content",
    [
        journal_short([(1, xid(13))]) + b"-- Boot 0123456789abcdef0123456789abcdef --\n" + journal_short([(900, xid(13))]),
        journal_short([(1, xid(13))]) + b"-- Reboot --\n" + journal_short([(900, xid(13)), (901, "Linux version 6.8")]),
        b"Nov 24 10:00:00 n kernel: [90000.5] usb x\nNov 24 11:00:00 n kernel: [   77.1] " + xid(13).encode() + b"\n",
        journal_json([(1, xid(13))], boot="a") + journal_json([(9, "usb x"), (900, xid(13))], boot="b"),
        dmesg([(5000, xid(13))]) + dmesg([(0, "Linux version 6.8"), (3, xid(13))]),
    ],
    ids=["boot line", "reboot line", "uptime beside a date", "boot id", "uptime alone"],
)  # fmt: skip
def test_a_boot_that_the_log_shows_is_found_once(content: bytes) -> None:
    """Finding L6."""
    if content.startswith(b"Nov 24 10:00:00 n kernel: [90000.5]"):
        content = content.replace(b"usb x", xid(31).encode())

    assert [each.what for each in heard(content) if isinstance(each, Restart)] == ["boot"]


def test_no_boot_is_found_where_the_log_shows_none() -> None:
    """Finding L6."""
    head = b"-- Journal begins at Tue 2026-11-24. --\n-- Boot 0123456789abcdef0123456789abcdef --\n"
    content = head + syslog([(100, xid(13)), (99, xid(13)), (5000, xid(13))])

    assert [each for each in heard(content) if isinstance(each, Restart)] == []


@pytest.mark.parametrize(
    ("text", "fatal", "link"),
    [
        ("26006, SOE HALTED", None, None),
        ("10003, Host_ext_irq fatal", None, None),
        ("12028, Fatal, Link 32 x", True, 32),
        ("20012, Correctable, Link 07 x", False, 7),
    ],
)
def test_an_sxid_counts_with_the_severity_that_it_has(
    text: str, fatal: bool | None, link: int | None
) -> None:
    """Finding L9."""
    (report,) = heard(dmesg([(1, f"nvidia-nvswitch2: SXid (PCI:0000:05:00.0): {text}")]))

    assert isinstance(report, SwitchReport)
    assert (report.fatal, report.link) == (fatal, link)


def test_the_details_of_an_sxid_are_no_errors_of_their_own() -> None:
    """Finding L9."""
    details = (
        "20034, Severity 1 Engine instance 28 Sub-engine instance 00",
        "20034, Data {0x00000001, 0x00000000}",
    )
    content = dmesg([(1, f"nvidia-nvswitch2: SXid (PCI:0000:05:00.0): {text}") for text in details])

    assert heard(content) == []


@pytest.mark.parametrize(
    ("text", "bus_id"),
    [
        ("NVRM: GPU 0000:3b:00.0: RmInitAdapter failed! (0x24:0x1c:1603)", "0000:3b:00.0"),
        ("NVRM: GPU 0000:3b:00.0: rm_init_adapter failed, device minor number 2", "0000:3b:00.0"),
        ("NVRM: GPU at PCI:0000:3b:00: RmInitAdapter failed! (0x22:0x56:894)", "0000:3b:00.0"),
        ("NVRM: RmInitAdapter failed! (0x30:0xffff:660)", None),
        ("nvidia: probe of 0000:3b:00.0 failed with error -1", "0000:3b:00.0"),
        ("nvidia 0000:3b:00.0: probe with driver nvidia failed with error -1", "0000:3b:00.0"),
        ("NVRM: rm_init_adapter failed for device bearing minor number 0", None),
        ("NVRM: rm_init_adapter(3) failed", None),
        ("nvidia c3a1:00:00.0: probe with driver nvidia failed with error -1", "c3a1:00:00.0"),
        ("nvidia 9f02:00:00.0: probe with driver nvidia failed with error -5", "9f02:00:00.0"),
    ],
)
def test_a_failed_initialisation_is_a_signal(text: str, bus_id: str | None) -> None:
    """Finding L5."""
    (report,) = heard(dmesg([(1, text)]))

    assert isinstance(report, InitFailureReport)
    assert report.bus_id == bus_id


@pytest.mark.parametrize(
    "text",
    [
        "NVRM: GPU 0000:3b:00.0: GPU has fallen off the bus.",
        "NVRM: GPU at 0000:3b:00.0 has fallen off the bus.",
        "NVRM: GPU at PCI:0000:3b:00: GPU has fallen off the bus.",
    ],
)
def test_a_lost_gpu_is_a_signal_in_the_words_of_every_driver(text: str) -> None:
    """Finding L3."""
    (report,) = heard(dmesg([(1, text)]))

    assert isinstance(report, OffBusReport)
    assert report.bus_id == "0000:3b:00.0"


@pytest.mark.parametrize(
    "lines",
    [
        [
            "NVRM: The NVIDIA GPU 0000:3b:00.0 (PCI ID: 10de:20b0)\\x0aNVRM: installed in this system is not supported by open"
        ],
        [
            "NVRM: The NVIDIA GPU 0000:3b:00.0 (PCI ID: 10de:20b0)",
            "NVRM: installed in this system is not supported by the",
        ],
    ],
    ids=["one record", "two records"],
)
def test_an_unsupported_gpu_is_not_blamed_for_another_lost_one(
    lines: list[str],
) -> None:
    """Finding L3: no line hurts a GPU that it does not name."""
    said: list[tuple[float, str]] = [(float(at), text) for at, text in enumerate(lines, start=1)]
    (report,) = heard(dmesg([*said, (5, "NVRM: fallen off the bus and is not responding to commands.")]))

    assert isinstance(report, OffBusReport)
    assert report.bus_id is None


@pytest.mark.parametrize(
    "text",
    [
        "NVRM: GPU in slot 3 has fallen off the bus.",
        "NVRM:Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.",
        xid(154, "GPU recovery action changed from 0x0 (None) to"),
        xid(154, "GPU recovery action changed"),
    ],
)
def test_a_line_of_the_driver_that_is_understood_in_part_makes_the_answer_incomplete(text: str) -> None:
    """Findings L3, N4."""
    assert replayed(dmesg([(1, "usb 1-1: x"), (2, text)])).counts.is_incomplete


@pytest.mark.parametrize(
    "body",
    [
        "0x0 (None) to 0x1 (GPU Reset Requ",
        "0x0 (None) to 0x1 (GPU Reset Required).",
        "0 (None) to 1 (GPU Reset Required)",
    ],
)
def test_an_action_is_read_although_its_name_is_cut_off_or_written_otherwise(body: str) -> None:
    """Finding N4."""
    (report,) = heard(dmesg([(1, xid(154, f"GPU recovery action changed from {body}"))]))

    assert isinstance(report, RecoveryActionReport)
    assert (report.action_from, report.action_to) == (0, 1)


def test_a_syslog_header_that_names_no_program_is_the_kernels_where_it_says_so() -> None:
    """Finding L3: RFC 5424 lets a sender leave the name out."""
    (report,) = heard(f"<3>1 2026-11-24T10:00:00Z node-7 - - - - {xid(79)}\n".encode())

    assert isinstance(report, XidReport)


@pytest.mark.parametrize(
    "line", [f"[   12.345678]\t{xid(79)}", f"[\u00a0  12.345678]\u00a0{xid(79)}".replace(" ", "\u00a0")]
)
def test_white_space_of_a_page_that_it_was_copied_from_spoils_no_line(line: str) -> None:
    """Finding L3."""
    (report,) = heard(line.encode())

    assert isinstance(report, XidReport)


@pytest.mark.parametrize("tag", ["kernel: kernel:", "kernel :", "kernel:"])
def test_the_kernels_tag_is_known_however_a_relay_writes_it(tag: str) -> None:
    """Finding L3."""
    (report,) = heard(f"Nov 24 10:00:00 node-7 {tag} {xid(79)}\n".encode())

    assert isinstance(report, XidReport)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"LPKSHHRH\x00\x01" + b"\x00" * 200, "log-1:1: is a binary journal file"),
        (b'{\n "dmesg": [\n  {"pri": 1, "msg": "x"},\n  {"pri": 2,', "log-1:4: is not json"),
        (b'[\n {"a": 1}\n]\n]', "log-1:4: is not json"),
        (b'[\n {"a": ' + b"1" * (1 << 22), "log-1:2: an entry of more than"),
    ],
)
def test_damaged_documents_name_file_and_line(content: bytes, named: str) -> None:
    with pytest.raises(LogError) as caught:
        heard(content)

    assert str(caught.value).lower().startswith(named)


def test_an_entry_with_a_newline_in_its_text_is_no_second_record() -> None:
    entry = {
        "message": f"usb 1-1: Product: x\n{xid(79)}",
        "timestamp": "2026-11-24T10:00:00Z",
        "ident": "kernel",
    }

    assert heard(f"{json.dumps(entry)}\n".encode()) == []


def test_times_of_dmesg_that_count_from_the_line_before_add_up() -> None:
    """Finding L3: `dmesg -H` prints the minute where it has changed, else the time since the line before."""
    head = "[Nov24 10:03] usb 1-1: x\n[  +1.500000] usb 1-1: y\n[  +0.250000] "
    content = f"{head}{xid(79)}\n[ +30.000000] usb 1-1: z\n[  +2.000000] {xid(120)}\n[Nov24 10:09] eth0: x\n"
    reader = LogReader()
    first, second = heard(content.encode(), reader=reader)

    assert isinstance(first, XidReport)
    assert isinstance(second, XidReport)
    assert (first.seen.time - EPOCH).total_seconds() == pytest.approx(180 + 1.75)
    assert second.seen.at - first.seen.at == pytest.approx(32)
    assert (reader.clock.now.time - EPOCH).total_seconds() == 540
    assert reader.counts.undated == 0


def test_a_log_of_several_nodes_says_so() -> None:
    """Finding L3: two nodes have GPUs with the same bus IDs."""
    lines = [
        f"Nov 24 10:00:00 {host} kernel: {xid(79)}\n" for host in ("node-7", "node-8", "node-7.example.com")
    ]
    talos_lines = [f"10.5.0.{node}: kern: err: [2026-11-24T10:00:00Z]: {xid(79)}\n" for node in (2, 3)]

    assert replayed("".join(lines).encode()).counts.hosts == ["node-7", "node-8"]
    assert replayed("".join(talos_lines).encode()).counts.hosts == ["10.5.0.2", "10.5.0.3"]
    assert replayed(lines[0].encode()).counts.hosts == ["node-7"]


@pytest.mark.parametrize(
    "line",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  595.45.04",
        "    - /dev/nvidia-uvm: 0666",
        "nvidia-smi -q",
        "nvidia_uvm           1540096  4",
        "Xid errors: none",
    ],
)
def test_what_only_names_the_driver_makes_no_answer_incomplete(line: str) -> None:
    found = replayed(dmesg([(1, "usb 1-1: x")]) + f"{line}\n".encode())

    assert not found.counts.is_incomplete


@pytest.mark.parametrize(
    "line",
    [
        "x? nvidia-modeset: ERROR: GPU:0: Idling",
        "x? [drm:f [nvidia-drm]] *ERROR* [GPU ID 0x1]",
        "x? SXid (PCI:0",
    ],
)
def test_every_mark_of_a_driver_is_one(line: str) -> None:
    assert replayed(dmesg([(1, "usb 1-1: x")]) + f"{line}\n".encode()).counts.unread == 1
