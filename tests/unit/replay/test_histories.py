"""Verdicts, isolations and summaries of a replay, on the log's own time."""

import json

import pytest

from gpuvitals.health.policy import Policy, policy_with
from gpuvitals.model.health import HealthState
from gpuvitals.model.signal import InventoryReport, Signal, Source
from gpuvitals.replay.comparison import differences
from gpuvitals.replay.report import Ending, ending_json, ending_text, entry_json, entry_text
from gpuvitals.replay.timeline import EntryKind
from gpuvitals.signals.recording import event_line
from support.saved_logs import BUS, LogLine, Replayed, dmesg, kmsg, quiet, replayed, syslog, xid
from support.signals import GPU, good, moment
from support.signals import xid as xid_report

DEVICE = f"{BUS}.0"
IDENTITY = f"NVRM: GPU at PCI:{BUS}: GPU-5d3c0a11-8e42-4b7f-9c15-0f6a2be71d01"
LOADING = "NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  595.45.04"
LOST: list[LogLine] = [
    (100, "usb 1-1: x"),
    (200, xid(79)),
    (201, f"NVRM: GPU {DEVICE}: GPU has fallen off the bus."),
]


def asks(before: int, after: int) -> str:
    return xid(154, f"GPU recovery action changed from {before:#x} (a) to {after:#x} (b)")


def test_a_lost_gpu_is_out_to_the_end_and_no_other_is_named() -> None:
    found = replayed(dmesg(quiet(LOST, 100_000)))

    assert list(found.ends) == [DEVICE]
    end = found.ends[DEVICE]
    assert (end.verdict.state, end.is_isolated, end.isolations) == (HealthState.UNHEALTHY, True, 1)
    assert end.seconds_out == pytest.approx(100_000 - 200)
    assert "reset" in end.verdict.message
    assert end.advice


@pytest.mark.parametrize(
    ("action", "reason"), [(3, "RecoveryDrainP2P"), (5, "RecoveryImexDomain"), (9, "RecoveryUnknown")]
)
@pytest.mark.parametrize("first", [[], [(200.0, asks(0, 1))]], ids=["alone", "behind another"])
def test_an_action_that_only_degrades_is_shown_where_it_was_logged(
    action: int, reason: str, first: list[LogLine]
) -> None:
    """Finding N4."""
    said = [*first, (200.0, asks(1 if first else 0, action))]
    (end,) = replayed(dmesg(quiet(said, 1000))).ends.values()

    assert (end.verdict.state, end.verdict.reason) == (HealthState.DEGRADED, reason)
    assert not end.is_isolated


@pytest.mark.parametrize("times", [1, 2], ids=["first", "second"])
def test_a_reset_repairs_an_xid_of_the_second_in_which_the_driver_asked_for_it(times: int) -> None:
    """Finding L2: stamps of syslog are whole seconds."""
    said: list[LogLine] = []
    for start in (1000.0 * each for each in range(1, times + 1)):
        said += [(start, xid(46)), (start, asks(0, 1)), (start + 300, asks(1, 0))]
    found = replayed(dmesg(quiet(said, 9000)))

    (end,) = found.ends.values()
    assert (end.verdict.state, end.isolations) == (HealthState.HEALTHY, times)


@pytest.mark.parametrize("asked", [0, 1], ids=["nothing asked", "reset asked"])
def test_a_gpu_that_failed_to_initialise_is_up_once_a_process_works_with_it(asked: int) -> None:
    """Finding L5: the driver tries again when the GPU is opened the next time."""
    said: list[LogLine] = [
        (100, f"NVRM: GPU {DEVICE}: RmInitAdapter failed! (0x22:0x56:894)"),
        *([(150.0, asks(0, asked))] if asked else []),
        (300, xid(13, "pid=9, name=infer, Graphics Exception")),
    ]
    found = replayed(dmesg(quiet(said, 9000)))

    (end,) = found.ends.values()
    assert end.verdict.reason == ("RecoveryResetGpu" if asked else "None")


@pytest.mark.parametrize(
    "line", ["NVRM: No NVIDIA GPU found.", "NVRM: None of the NVIDIA devices were initialized."]
)
def test_a_boot_after_which_the_driver_brought_up_no_gpu_repairs_none(line: str) -> None:
    """Finding L2."""
    said = [*LOST, (5000.0, "Linux version 6.8.0"), (5020.0, line)]
    found = replayed(dmesg(quiet(said, 9000)))

    end = found.ends[DEVICE]
    assert (end.verdict.reason, end.is_isolated) == ("InitFailed", True)
    assert any("brought up no GPU" in each.text for each in found.timeline)


def test_application_errors_take_nobody_out() -> None:
    said = [(float(at), xid(13, "pid=7, name=a, x")) for at in range(0, 90_000, 500)]
    found = replayed(dmesg(said))

    assert (found.tally.isolations, found.ends[DEVICE].verdict.state) == (0, HealthState.HEALTHY)
    assert found.ends[DEVICE].xids == ((13, 180),)


@pytest.mark.parametrize(
    "repair",
    [
        [(5000.0, IDENTITY)],
        [(5000.0, "Linux version 6.8.0")],
        [(4900.0, LOADING), (5000.0, xid(13, "pid=9, name=infer, Graphics Exception"))],
        [(300.0, asks(0, 1)), (5000.0, asks(1, 0))],
    ],
    ids=["identity", "boot", "driver load", "recovery action"],
)
def test_a_repair_that_the_log_shows_brings_the_gpu_back_on_probation(repair: list[LogLine]) -> None:
    found = replayed(syslog(quiet([*LOST, *repair], 5100)))

    assert found.ends[DEVICE].verdict.reason == "Probation"
    assert not found.ends[DEVICE].is_isolated
    over = replayed(syslog(quiet([*LOST, *repair], 90_000)))
    assert over.ends[DEVICE].verdict.state is HealthState.HEALTHY


def test_the_drivers_advice_is_counted_among_what_was_heard() -> None:
    found = replayed(dmesg([(1, asks(0, 1)), (2, xid(48)), (9, asks(1, 0))]))

    assert found.ends[DEVICE].xids == ((48, 1), (154, 2))


def test_time_alone_brings_no_gpu_back() -> None:
    assert replayed(syslog(quiet(LOST, 2e6))).ends[DEVICE].is_isolated


def test_the_end_of_a_probation_stands_at_its_own_instant() -> None:
    found = replayed(dmesg(quiet([*LOST, (1000, IDENTITY)], 9000)))
    ends = [each.seen.at for each in found.timeline if each.kind is EntryKind.VERDICT]

    assert ends[-1] == pytest.approx(1000 + Policy().probation_seconds, abs=1)


def test_a_contained_fault_is_its_instances_alone() -> None:
    found = replayed(dmesg([(1, f"NVRM: Xid (PCI:{BUS} GPU-I:05): 95, x"), (2, xid(13, "pid=7, name=a, x"))]))

    assert found.ends[f"{DEVICE} GI5 CI0"].is_isolated
    assert not found.ends[DEVICE].is_isolated


def test_a_flood_is_one_fault_and_a_burst_has_a_root() -> None:
    flood = [
        (300 + number / 500, xid(45, f"pid=7, name=a, Ch {number:08x} caused by previous Xid 145"))
        for number in range(2000)
    ]
    root = xid(145, "RLW_REMAP Fatal XC0 i0 Link 08 (0x00000004 0x00000040)")
    found = replayed(dmesg(quiet([(299.9, root), *flood], 1000)))

    assert found.ends[DEVICE].xids == ((45, 2000), (145, 1))
    assert found.texts(EntryKind.BURST) == [
        f"burst of 2001 lines in 4 s on 1 GPU: XID 45, 145; started by XID 145 on {DEVICE}, named by the driver"
    ]
    assert len(found.texts(EntryKind.ISOLATED)) == 1


def test_suspicion_takes_no_more_than_half_of_the_node() -> None:
    hardware = "NVLink: fatal error detected on link 1(0x10, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)"
    said = [
        (at + bus, xid(74, hardware, bus=f"0000:{bus:02x}:00")) for at in (1000, 1250) for bus in range(1, 5)
    ]

    assert replayed(dmesg(said), gpus=8).tally.isolations == 4
    assert replayed(dmesg(said), gpus=4).tally.isolations == 2


def outcome(*later: LogLine) -> tuple[str, str]:
    found = replayed(dmesg(quiet([(200, xid(79)), *later], 90_000)))
    return found.outcomes[0]


@pytest.mark.parametrize(
    ("later", "because"),
    [
        ((900, f"NVRM: GPU {DEVICE}: GPU has fallen off the bus."), "the GPU fell off the bus 700 s later"),
        ((201, xid(120)), "XID 120 1 s later"),
        ((900, xid(79)), "XID 79 700 s later"),
        ((201, asks(0, 1)), "the driver asked for ResetGpu 1 s later"),
        ((900, IDENTITY), "the GPU was initialised again 700 s later"),
    ],
)
def test_later_evidence_confirms_an_isolation(later: LogLine, because: str) -> None:
    assert outcome(later) == ("confirmed", because)


FALLEN = f"NVRM: GPU {DEVICE}: GPU has fallen off the bus."


@pytest.mark.parametrize(
    "said",
    [
        [(200, xid(79, "GPU has fallen off the bus.")), (200, FALLEN)],
        [(200, FALLEN), (200.1, xid(79, "GPU has fallen off the bus."))],
        [(200, xid(79)), (200, FALLEN), (200, f"NVRM: GPU {DEVICE}: GPU serial number is 1650922001234.")],
        [(200, xid(48)), (200.01, xid(95)), (200.01, xid(64))],
        [(200, xid(95)), (200.01, xid(140))],
        [(200, xid(119)), (245, xid(120))],
    ],
    ids=["79 and its line", "the line first", "with the serial", "memory", "escaped", "firmware"],
)
def test_lines_of_one_breakdown_are_one_witness(said: list[LogLine]) -> None:
    """Finding L4"""
    found = replayed(dmesg(quiet(said, 90_000)))

    assert [each[0] for each in found.outcomes] == ["undecided"]
    assert [each.verdict.confidence.value for each in found.ends.values()] == ["single"]
    assert all(each.verdict.reason.startswith("Xid") or said[0][1] == FALLEN for each in found.ends.values())


def test_a_gpu_that_works_on_contradicts_its_isolation_until_something_confirms_it() -> None:
    works = (900.0, xid(31, "pid=9, name=infer, MMU fault"))

    assert outcome(works) == ("contradicted", "a process kept using the GPU (XID 31 700 s later)")
    assert outcome(works, (950.0, xid(120)))[0] == "confirmed"


@pytest.mark.parametrize(
    "later",
    [
        (201.0, xid(79)),
        (900.0, xid(45, "pid=9, name=a, Ch 1")),
        (210.0, xid(31, "pid=9, name=infer, x")),
        (900.0, xid(31)),
        (900.0, "Linux version 6.8.0"),
    ],
    ids=["same burst", "cleanup", "too soon", "no process", "boot"],
)
def test_what_proves_nothing_leaves_an_isolation_undecided(later: LogLine) -> None:
    assert outcome(later)[0] == "undecided"


@pytest.mark.parametrize(
    ("spacing", "taken_out"),
    [(1, 2), (30, 60), (100, 200), (160, 300), (179, 300), (200, 200), (299, 299), (310, 620), (3600, 7200)],
)
def test_a_hardware_fault_of_a_link_that_is_logged_again_and_again_isolates(
    spacing: int, taken_out: int
) -> None:
    """Finding L1"""
    hardware = "NVLink: fatal error detected on link 6(0x100, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)"
    found = replayed(
        dmesg([(1000 + spacing * step, xid(74, hardware)) for step in range(320 // spacing + 4)])
    )

    assert found.tally.kept[0].began.at == pytest.approx(1000 + taken_out, abs=0.01)


def test_a_hardware_fault_of_a_link_that_was_logged_twice_isolates_after_the_dwell() -> None:
    """Finding L1: nothing has repaired it since."""
    hardware = "NVLink: fatal error detected on link 6(0x0, 0x0, 0x2000, 0x0, 0x0, 0x0, 0x0)"
    twice = replayed(dmesg(quiet([(50, xid(74, hardware)), (140, xid(74, hardware))], 700)))
    once = replayed(dmesg(quiet([(50, xid(74, hardware))], 700)))

    assert [each.reason for each in twice.tally.kept] == ["Xid74"]
    assert once.tally.isolations == 0


def test_two_policies_on_one_log_differ_where_they_differ() -> None:
    hardware = "NVLink: fatal error detected on link 1(0x10, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)"
    log = dmesg(quiet([(1000, xid(74, hardware)), (1250, xid(74, hardware))], 1290))
    loose, strict = replayed(log), replayed(log, policy=policy_with({"dwell_episodes": 3}))
    ends = [list(each.ends.values()) for each in (loose, strict)]
    found = differences(*ends, (loose.tally.kept, strict.tally.kept))

    assert [each.text for each in found] == [
        "only with policy: out for Xid74 (undecided)",
        "out of service for 40 s with policy, 0 s with compare",
        "ends as Unhealthy (Xid74) with policy, as Degraded (Xid74) with compare",
    ]
    assert differences(ends[0], ends[0], (loose.tally.kept, loose.tally.kept)) == []


def recording(*signals: Signal) -> bytes:
    return "".join(f"{event_line(each, each.seen.time)}\n" for each in signals).encode()


def test_recorded_signals_bring_readings_and_claims() -> None:
    there = InventoryReport(source=Source.NVML_POLL, seen=moment(1000), gpus=(GPU,), driver_load="1")
    found = replayed(
        recording(
            there, good(1001), xid_report(13, 1002, claim="a"), xid_report(13, 1003, claim="b"), good(1004)
        )
    )
    end = found.ends[GPU.bus_id]

    assert (end.uuid, end.verdict.state, end.verdict.reason) == (GPU.uuid, HealthState.DEGRADED, "Xid13")
    blind = replayed(recording(there, good(1001), good(1002), xid_report(13, 1100)))
    assert blind.ends[GPU.bus_id].verdict.state is HealthState.UNKNOWN


def test_a_recorded_signal_that_was_heard_late_is_seen_when_it_was() -> None:
    line = event_line(xid_report(13, 1000), moment(1500).time)
    found = replayed(recording(good(1400)) + f"{line}\n".encode())

    assert found.reader.clock.now.at == moment(1500).time.timestamp()


def ending(found: Replayed) -> Ending:
    clock = found.reader.clock
    return Ending(
        counts=found.counts,
        steps_back=clock.steps_back,
        is_wall=clock.is_wall,
        began=clock.began,
        ended=clock.now,
        tally=found.tally,
        gpus=list(found.ends.values()),
    )


def test_the_summary_says_state_reason_way_out_and_next_step() -> None:
    text = "\n".join(ending_text(ending(replayed(kmsg(quiet(LOST, 500))))))

    assert "state  Unhealthy, score 0, Xid79; out of service" in text
    assert "a reset, a reboot or an operator clears it" in text
    assert "action restart the machine" in text
    assert "1 would-be isolation: 0 confirmed, 0 contradicted, 1 undecided; false: between 0 and 1" in text


def test_json_is_one_object_a_line_with_the_summary_last() -> None:
    found = replayed(syslog(quiet(LOST, 500)))
    lines = [entry_json(each, is_wall=True) for each in found.timeline] + [ending_json(ending(found))]
    objects = [json.loads(line) for line in lines]

    assert [each["kind"] for each in objects] == ["verdict", "isolated", "summary"]
    assert objects[0]["time"] == "2026-11-24T10:03:20+00:00"
    assert objects[-1]["gpus"][0]["reason"] == "Xid79"
    assert objects[-1]["false_isolations"] == {"least": 0, "most": 1}
    assert "2026-11-24T10:03:20Z" in entry_text(found.timeline[0], is_wall=True)


FAILED = f"NVRM: GPU {DEVICE}: RmInitAdapter failed! (0x24:0x1c:1603)"
PROBE = (
    f"NVRM: The NVIDIA GPU {DEVICE}\\x0aNVRM: (PCI ID: 10de:2330) installed in this system has"
    "\\x0aNVRM: fallen off the bus and is not responding to commands."
)


@pytest.mark.parametrize(
    "said",
    [
        [
            (5000.0, PROBE),
            (5001.0, "NVRM: The NVIDIA probe routine failed for 1 device(s)."),
            (5001.5, LOADING),
        ],
        [(5001.5, LOADING)],
        [(5001.5, LOADING), (5020.0, FAILED)],
        [(5001.5, LOADING), (5020.0, xid(13, bus="0000:5e:00"))],
        [(5001.5, LOADING), (5020.0, xid(45, "pid=9, name=a, Ch 1"))],
        [(5001.5, LOADING), (5020.0, FAILED), (6000.0, LOADING)],
        [(5000.0, "Linux version 6.8"), (5001.0, PROBE), (5001.5, LOADING), (5020.0, FAILED)],
    ],
    ids=[
        "probe failed",
        "load alone",
        "not initialised",
        "another works",
        "a cleanup",
        "loaded twice",
        "boot",
    ],
)
def test_a_load_heals_no_gpu_that_did_not_come_up_in_it(said: list[LogLine]) -> None:
    """Finding L2."""
    end = replayed(kmsg(quiet([*LOST, *said], 90_000))).ends[DEVICE]

    assert end.is_isolated
    assert end.verdict.state is HealthState.UNHEALTHY


@pytest.mark.parametrize("work", [IDENTITY, xid(31, "pid=9, name=infer, MMU Fault"), asks(1, 0)])
def test_a_load_heals_a_gpu_that_is_seen_at_work_after_it(work: str) -> None:
    """Finding L2."""
    found = replayed(kmsg(quiet([*LOST, (5000, LOADING), (5100, work)], 5200)))

    assert not found.ends[DEVICE].is_isolated
    assert found.ends[DEVICE].verdict.reason == "Probation"


def test_a_gpu_that_cannot_be_initialised_leaves_service_until_it_comes_up() -> None:
    """Finding L5."""
    said = [(10, FAILED), (10, f"NVRM: GPU {DEVICE}: rm_init_adapter failed, device minor number 0")]
    found = replayed(dmesg(quiet(said, 90_000)))
    cured = replayed(dmesg(quiet([*said, (5000, IDENTITY)], 90_000)))

    assert (found.ends[DEVICE].verdict.reason, found.ends[DEVICE].is_isolated) == ("InitFailed", True)
    assert found.tally.isolations == 1
    assert "kernel log" in found.ends[DEVICE].advice
    assert cured.ends[DEVICE].verdict.state is HealthState.HEALTHY


def test_a_failed_initialisation_that_names_no_gpu_is_told_and_blames_none() -> None:
    """Finding L5."""
    found = replayed(dmesg([(1, "NVRM: RmInitAdapter failed! (0x30:0xffff:660)")]))

    assert found.ends == {}
    assert found.tally.unattributed == 1
    assert "a GPU could not be initialised, and the line does not say which" in found.texts(EntryKind.NODE)[0]


@pytest.mark.parametrize("boot", ["Linux version 6.8.0", LOADING])
@pytest.mark.parametrize("later", [xid(13, "pid=9, name=a, x"), xid(79), xid(120)])
def test_nothing_after_a_boot_or_load_says_anything_of_an_isolation_before_it(boot: str, later: str) -> None:
    """Finding L6."""
    assert outcome((5000, boot), (9000, later))[0] == "undecided"


def test_a_burst_carries_its_own_time() -> None:
    """Finding L10."""
    found = replayed(dmesg(quiet([(1000, xid(62)), (1001, xid(45, "pid=7, name=a, Ch 1"))], 200_000)))
    (burst,) = (each for each in found.timeline if each.kind is EntryKind.BURST)

    assert burst.seen.at == 1000
    assert burst.text.startswith("burst of 2 lines in 1 s")


def test_switch_errors_without_a_severity_are_counted_and_told() -> None:
    """Finding L9."""
    said = [(at, f"nvidia-nvswitch0: SXid (PCI:0000:05:00.0): {26006 + at}, SOE HALTED") for at in range(2)]
    found = replayed(dmesg(said))
    text = "\n".join(ending_text(ending(found)))

    assert (
        found.tally.switch_errors,
        found.tally.fatal_switch_errors,
        found.tally.unrated_switch_errors,
    ) == (2, 0, 2)
    assert "NVSwitch errors: 2 (0 fatal, 2 of unknown severity" in text
    assert "NVSwitch 0: SXid of unknown severity 26006" in found.texts(EntryKind.NODE)[0]


SURPRISE = "pcieport 0000:37:01.0:    [ 5] SDES                   (First)"


def test_a_link_that_broke_off_before_a_gpu_was_lost_is_told_and_advised() -> None:
    """Finding L12."""
    found = replayed(dmesg(quiet([(199, SURPRISE), (200, xid(79))], 500)))
    late = replayed(dmesg(quiet([(199, SURPRISE), (2000, xid(79))], 2500)))

    assert "0000:37:01.0 broke off first: check the seating" in found.ends[DEVICE].advice
    assert [each.gpu for each in found.timeline if "broke off first" in each.text] == [DEVICE]
    assert "broke off" not in late.ends[DEVICE].advice


def test_a_refusal_until_a_reset_is_told_once() -> None:
    """Finding L12."""
    line = "NVRM: GPU0 nvAssertOkFailedNoLog: Assertion failed: GPU requires reset [NV_ERR_RESET_REQUIRED] (0x00000062) returned"
    found = replayed(dmesg([(1, line), (2, line)]))

    assert ["NV_ERR_RESET_REQUIRED" in text for text in found.texts(EntryKind.NODE)] == [True]


def test_the_summary_says_what_could_not_be_read() -> None:
    """Finding L3."""
    found = replayed(dmesg([(1, "usb 1-1: x")]) + b"?? NVRM: Xid (PCI:0000:3b:00): 79, x\n")
    text = "\n".join(ending_text(ending(found)))

    assert "driver lines in an unknown format: 1 (not evaluated: the result is incomplete)" in text
    assert "log-1:2: ?? NVRM: Xid (PCI:0000:3b:00): 79, x" in text
    assert "The log says nothing about a GPU" not in text
