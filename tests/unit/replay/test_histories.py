"""What a replay makes of a log: the verdicts of the same fold, on the log's own time."""

import json

import pytest

from gpuvitals.health.policy import Policy, policy_with
from gpuvitals.model.health import HealthState
from gpuvitals.model.signal import InventoryReport, Signal, Source
from gpuvitals.replay.comparison import differences
from gpuvitals.replay.findings import Kind
from gpuvitals.replay.report import Ending, ending_json, ending_text, happening_json, happening_text
from gpuvitals.signals.recorded import event_line
from support.saved import BUS, Replayed, Said, dmesg, kmsg, quiet, replayed, syslog, xid
from support.signals import GPU, good, moment
from support.signals import xid as xid_report

DEVICE = f"{BUS}.0"
IDENTITY = f"NVRM: GPU at PCI:{BUS}: GPU-5d3c0a11-8e42-4b7f-9c15-0f6a2be71d01"
LOST: list[Said] = [
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
    assert end.person


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
        [(5000.0, "NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  595.45.04")],
        [(300.0, asks(0, 1)), (5000.0, asks(1, 0))],
    ],
    ids=["identity", "boot", "driver load", "recovery action"],
)
def test_a_repair_that_the_log_shows_brings_the_gpu_back_on_probation(repair: list[Said]) -> None:
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
    ends = [each.seen.at for each in found.happenings if each.kind is Kind.VERDICT]

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
    assert found.texts(Kind.BURST) == [
        f"burst of 2001 lines in 4 s on 1 GPU: XID 45, 145; begun by XID 145 on {DEVICE}, as the driver says"
    ]
    assert len(found.texts(Kind.ISOLATED)) == 1


def test_suspicion_takes_no_more_than_half_of_the_node() -> None:
    hardware = "NVLink: fatal error detected on link 1(0x10, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)"
    said = [
        (at + bus, xid(74, hardware, bus=f"0000:{bus:02x}:00")) for at in (1000, 1250) for bus in range(1, 5)
    ]

    assert replayed(dmesg(said), gpus=8).tally.isolations == 4
    assert replayed(dmesg(said), gpus=4).tally.isolations == 2


def outcome(*later: Said) -> tuple[str, str]:
    found = replayed(dmesg(quiet([(200, xid(79)), *later], 90_000)))
    return found.outcomes[0]


@pytest.mark.parametrize(
    ("later", "because"),
    [
        ((200.5, f"NVRM: GPU {DEVICE}: GPU has fallen off the bus."), "the GPU fell off the bus at once"),
        ((201, xid(120)), "XID 120 1 s later"),
        ((900, xid(79)), "XID 79 700 s later"),
        ((201, asks(0, 1)), "the driver asked for ResetGpu 1 s later"),
        ((900, IDENTITY), "the GPU was initialised anew 700 s later"),
    ],
)
def test_later_evidence_confirms_an_isolation(later: Said, because: str) -> None:
    assert outcome(later) == ("confirmed", because)


def test_a_gpu_that_works_on_contradicts_its_isolation_until_something_confirms_it() -> None:
    works = (900.0, xid(31, "pid=9, name=infer, MMU fault"))

    assert outcome(works) == ("contradicted", "a process worked on with the GPU (XID 31 700 s later)")
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
def test_what_proves_nothing_leaves_an_isolation_undecided(later: Said) -> None:
    assert outcome(later)[0] == "undecided"


def test_two_policies_on_one_log_differ_where_they_differ() -> None:
    hardware = "NVLink: fatal error detected on link 1(0x10, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)"
    log = dmesg(quiet([(1000, xid(74, hardware)), (1250, xid(74, hardware))], 2000))
    loose, strict = replayed(log), replayed(log, policy=policy_with({"dwell_episodes": 3}))
    ends = [list(each.ends.values()) for each in (loose, strict)]
    found = differences(*ends, (loose.tally.kept, strict.tally.kept))

    assert [each.text for each in found] == [
        "only with policy: out for Xid74 (undecided)",
        "out of service for 750 s with policy, 0 s with compare",
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

    assert "now    Unhealthy, score 0, Xid79; out of service" in text
    assert "a reset, a reboot or an operator clears it" in text
    assert "do     reset the GPU" in text
    assert "1 would-be isolation: 1 confirmed, 0 contradicted, 0 undecided; false: 0" in text


def test_json_is_one_object_a_line_with_the_summary_last() -> None:
    found = replayed(syslog(quiet(LOST, 500)))
    lines = [happening_json(each, is_wall=True) for each in found.happenings] + [ending_json(ending(found))]
    objects = [json.loads(line) for line in lines]

    assert [each["kind"] for each in objects] == ["verdict", "isolated", "summary"]
    assert objects[0]["time"] == "2026-11-24T10:03:20+00:00"
    assert objects[-1]["gpus"][0]["reason"] == "Xid79"
    assert objects[-1]["false_isolations"] == {"least": 0, "most": 0}
    assert "2026-11-24T10:03:20Z" in happening_text(found.happenings[0], is_wall=True)
