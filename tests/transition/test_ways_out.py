"""Clearing by observed resets and boots, faults from before the first start, and restarts of the agent."""

from dataclasses import replace

import pytest

from gpuvitals.health.clearing import after_restart
from gpuvitals.health.state import GpuState
from gpuvitals.model.health import Confidence, HealthState, NvlinkStatus, Phase, RowRemap
from gpuvitals.model.signal import ClearReport, OffBusReport, Reading, ReadStatus, Source
from support.signals import (
    BUS,
    POLICY,
    UUID,
    asks,
    broken,
    checkup,
    fold,
    good,
    identity,
    judge,
    links,
    moment,
    xid,
)


def steady(start: int, end: int, **changes: object) -> list[Reading]:
    """A reading each ten seconds, from `start` to `end`."""
    return [good(at, **changes) for at in range(start, end, 10)]


def rebooted(state: GpuState, *, age: float = 120) -> GpuState:
    return after_restart(state, same_boot=False, same_driver_load=False, age_seconds=age)


def reloaded(state: GpuState) -> GpuState:
    return after_restart(state, same_boot=True, same_driver_load=False, age_seconds=0)


@pytest.mark.parametrize("action", [1, 2, 4, 6, 7])
def test_an_action_that_only_a_reset_ends_shows_that_there_was_one(action: int) -> None:
    """A GPU that is well after its reset logs no identity: the driver does that just before the next XID."""
    state = fold(good(1000), xid(48, 1001), good(1002, recovery_action=action), *steady(1010, 1080))

    assert (judge(state, 1075).phase, judge(state, 1075).xid_errors) == (Phase.PROBATION, 0)


@pytest.mark.parametrize("action", [3, 5])
def test_an_action_that_passes_without_a_reset_shows_none(action: int) -> None:
    state = fold(good(1000), xid(48, 1001), good(1002, recovery_action=action), *steady(1010, 1080))

    assert judge(state, 1075).state is HealthState.UNHEALTHY


CLEARED_BY_HAND = [
    ({"ecc_uncorrected_volatile": 4}, {}),
    ({"ecc_uncorrected_volatile": 4}, {"ecc_uncorrected_volatile": 1}),
    ({"ecc_uncorrected_volatile": 4, "ecc_corrected_volatile": 9}, {}),
    ({"remap_pending": True}, {}),
    ({"links": links(12)}, {}),
    ({"recovery_action": None, "ecc_uncorrected_volatile": 4}, {}),
    ({"recovery_action": 3, "ecc_uncorrected_volatile": 4}, {}),
]


@pytest.mark.parametrize("code", [48, 79, 95, 119, 140])
@pytest.mark.parametrize(
    ("before", "after"),
    CLEARED_BY_HAND,
    ids=["zero", "fewer", "all counters", "remap", "links", "action unread", "action of peers"],
)
def test_values_that_fall_show_no_reset(
    code: int, before: dict[str, object], after: dict[str, object]
) -> None:
    """Finding R6: `nvidia-smi -p 0` zeroes the volatile counters of a GPU that is as broken as before."""
    state = fold(good(1000), xid(code, 1001), *steady(1002, 1100, **before), *steady(1100, 2000, **after))

    assert (judge(state, 1995).state, judge(state, 1995).reason) == (HealthState.UNHEALTHY, f"Xid{code}")


def test_counters_of_a_thorough_look_that_fall_show_no_reset() -> None:
    """Finding R6"""
    looks = (checkup(1002, link_replays=7, pcie_replays=9), checkup(1062), checkup(1122))
    state = fold(good(1000), xid(95, 1001), *looks, *steady(1130, 2000))

    assert judge(state, 1995).reason == "Xid95"


def test_counters_that_were_zeroed_do_not_hide_the_reset_that_follows() -> None:
    """Finding R6"""
    state = fold(good(1000), xid(95, 1001), good(1002, ecc_uncorrected_volatile=4, recovery_action=1))
    cleared = fold(*steady(1010, 1100, recovery_action=1), state=state)

    assert judge(cleared, 1095).state is HealthState.UNHEALTHY
    assert judge(fold(*steady(1200, 1300), state=cleared), 1295).phase is Phase.PROBATION


def test_what_came_between_the_readings_that_show_a_reset_may_have_come_after_it() -> None:
    """Finding R6: the reset lies between two polls, and so does the XID; nobody knows which was first."""
    state = fold(good(1000), xid(95, 1001), good(1002, recovery_action=1), xid(119, 1200), good(1205))

    assert judge(fold(*steady(1210, 1400), state=state), 1395).reason == "Xid119"


def test_the_first_identity_of_a_driver_load_shows_no_reset() -> None:
    """Finding R6: the driver logs it before its first XID, however long the GPU has been up."""
    off = OffBusReport(source=Source.KMSG, seen=moment(1001), bus_id=BUS)
    state = fold(good(1000), off, good(1005), identity(1200), xid(31, 1200), *steady(1205, 1400))

    assert judge(state, 1395).reason == "GpuLost"
    again = fold(identity(1500), xid(13, 1500), *steady(1505, 1520), state=state)
    assert judge(again, 1515).phase is Phase.PROBATION
    loaded = fold(identity(1500), xid(13, 1500), *steady(1505, 1520), state=reloaded(state))
    assert judge(loaded, 1515).phase is Phase.PROBATION


def test_an_answer_after_the_driver_had_refused_for_want_of_a_reset_shows_one() -> None:
    state = fold(good(1000), xid(46, 1001), broken(1002, ReadStatus.RESET_REQUIRED), good(1300))

    assert {fault.rule.reason for fault in state.faults} == {"ResetRequired"}
    assert judge(fold(good(1361), state=state), 1361).phase is Phase.PROBATION


def test_what_comes_while_the_driver_answers_again_is_not_repaired_by_that_answer() -> None:
    state = fold(good(1000), broken(1002, ReadStatus.RESET_REQUIRED), good(1300), xid(46, 1310), good(1320))

    assert judge(fold(good(1400), state=state), 1400).reason == "Xid46"


def test_an_answer_of_a_gpu_that_was_lost_shows_none() -> None:
    state = fold(good(1000), broken(1001, ReadStatus.LOST), *steady(1010, 5000))

    assert judge(state, 4995).state is HealthState.UNHEALTHY


@pytest.mark.parametrize(
    "left",
    [
        {"recovery_action": 2},
        {"ecc_uncorrected_volatile": 1},
        {"remap_pending": True},
        {"remap_failed": True},
        {"sram_threshold_exceeded": True},
        {"recovery_action": None},
        {"recovery_action": None, "ecc_uncorrected_volatile": None},
    ],
    ids=["action", "memory", "remap", "remap failed", "SRAM", "action unread", "nothing telling read"],
)
def test_an_incomplete_or_unobserved_reset_clears_nothing(
    left: dict[str, object],
) -> None:
    state = fold(good(1000), xid(119, 1001), identity(1100), *steady(1101, 1500, **left))

    assert judge(state, 1495).state is HealthState.UNHEALTHY


def test_a_model_without_a_recovery_action_is_vouched_for_by_its_counters() -> None:
    lacking = {"recovery_action": None, "unsupported": frozenset({"recovery_action"})}
    state = fold(good(1000, **lacking), xid(119, 1001), identity(1100), good(1101, **lacking))

    assert judge(state, 1101).phase is Phase.PROBATION


def test_a_reset_resolves_also_what_only_degraded() -> None:
    degraded = fold(good(1000), xid(94, 1001), xid(63, 1002), good(1003))
    state = fold(identity(1100), good(1101), state=degraded)

    assert judge(degraded, 1003).xid_errors == 2
    assert (judge(state, 1101).state, judge(state, 1101).xid_errors, judge(state, 1101).last_xid) == (
        HealthState.HEALTHY,
        0,
        0,
    )


def test_a_claim_from_before_the_reset_is_no_accomplice_of_one_after_it() -> None:
    state = fold(good(1000), xid(31, 1001, claim="a"), identity(1100), good(1101), xid(31, 1200, claim="b"))

    assert judge(state, 1150).state is HealthState.HEALTHY
    assert judge(fold(good(1201), state=state), 1201).state is HealthState.HEALTHY


def test_a_fault_from_before_the_reset_that_is_heard_of_late_is_history() -> None:
    state = fold(good(1000), xid(79, 1001), identity(1100), good(1101))

    assert fold(xid(48, 1050), state=state) == state
    assert fold(asks(1, 1050), state=state) == state
    assert judge(fold(xid(48, 1150), state=state), 1150).state is HealthState.UNHEALTHY


def test_an_xid_right_behind_the_identity_it_announces_is_not_repaired_by_it() -> None:
    state = fold(good(1000), identity(1001), xid(79, 1001), *steady(1010, 2000))

    assert judge(state, 1995).state is HealthState.UNHEALTHY


def test_an_operator_clears_what_nothing_else_does_until_it_is_read_again() -> None:
    clear = ClearReport(source=Source.OPERATOR, seen=moment(1100), uuid=UUID, operator_reason="ticket 123")
    failed = fold(good(1000), good(1001, remap_failed=True), good(1050))
    state = fold(clear, good(1101), state=failed)

    assert judge(failed, 1050).state is HealthState.UNHEALTHY
    assert judge(state, 1101).phase is Phase.PROBATION
    assert judge(fold(good(1102, remap_failed=True), state=state), 1102).reason == "RowRemapFailed"
    assert fold(clear, state=state) == state


def test_an_order_that_is_heard_of_late_ends_nothing_newer() -> None:
    late = ClearReport(source=Source.OPERATOR, seen=moment(1100), uuid=UUID, operator_reason="ticket 123")
    state = fold(good(1000), xid(79, 1200), late, good(1201))

    assert judge(state, 1201).reason == "Xid79"


def test_no_instant_of_an_earlier_boot_is_in_the_future_of_the_next() -> None:
    order = ClearReport(source=Source.OPERATOR, seen=moment(90_000), uuid=UUID, operator_reason="ticket 123")
    state = rebooted(fold(good(1000), order))

    assert judge(fold(good(10), state=state), 10).state is HealthState.HEALTHY
    assert judge(fold(good(10), xid(79, 11), state=state), 11).state is HealthState.UNHEALTHY


@pytest.mark.parametrize("restart", [rebooted, reloaded], ids=["boot", "driver load"])
def test_a_boot_or_driver_load_with_clean_readings_clears_both_kinds_of_fault(
    restart: object,
) -> None:
    assert callable(restart)
    failed = restart(fold(good(1000), xid(79, 1001), xid(94, 1002), good(1003)))
    state = fold(good(1500), state=failed)

    assert judge(failed, 1499).state is HealthState.UNHEALTHY
    assert (judge(state, 1500).phase, judge(state, 1500).xid_errors) == (Phase.PROBATION, 0)


@pytest.mark.parametrize("restart", [rebooted, reloaded], ids=["boot", "driver load"])
def test_a_boot_does_not_bring_spare_rows(restart: object) -> None:
    assert callable(restart)
    state = restart(fold(good(1000), good(1001, remap_failed=True)))

    assert judge(fold(good(1500), state=state), 1500).reason == "RowRemapFailed"


def test_faults_of_the_new_boot_are_told_from_those_before_it() -> None:
    state = rebooted(fold(good(1000), xid(79, 1001)))
    state = fold(xid(48, 20), good(50, recovery_action=1), state=state)

    assert judge(state, 50).state is HealthState.UNHEALTHY
    assert judge(fold(good(60), state=state), 60).xid_errors == 0


def test_a_restart_counts_no_blindness_for_the_time_in_which_no_agent_looked() -> None:
    state = after_restart(fold(good(1000)), same_boot=True, same_driver_load=True, age_seconds=3600)

    assert judge(state, 1000 + 3600 + 59).state is HealthState.HEALTHY
    assert judge(state, 1000 + 3600 + 60).state is HealthState.UNKNOWN


def test_a_restart_does_not_make_a_blind_agents_gpus_look_well() -> None:
    state = after_restart(fold(good(1000)), same_boot=True, same_driver_load=True, age_seconds=30)

    assert judge(state, 1000 + 30 + 500).state is HealthState.UNKNOWN


def test_probation_outlives_a_restart_and_a_boot() -> None:
    state = fold(good(1000), xid(79, 1001), identity(1100), good(1101))
    again = fold(good(1150), state=after_restart(state, same_boot=True, same_driver_load=True, age_seconds=9))
    booted = fold(good(20), state=rebooted(state, age=100))

    assert judge(again, 1150).phase is Phase.PROBATION
    assert judge(booted, 20).phase is Phase.PROBATION
    assert judge(fold(good(600), state=booted), 601).state is HealthState.HEALTHY


def test_each_relapse_doubles_the_probation_up_to_a_bound_and_a_quiet_day_forgives() -> None:
    state, at, lengths = fold(good(1000)), 1000.0, []
    for _ in range(9):
        state = fold(xid(79, at + 1), identity(at + 2), good(at + 3), state=state)
        assert state.probation_until is not None
        assert state.repaired_at is not None
        lengths.append(state.probation_until - state.repaired_at)
        at += 10
    assert lengths == [600 * 2**step for step in (0, 1, 2, 3, 4, 5, 6, 6, 6)]
    later = at + POLICY.relapse_seconds
    state = fold(xid(79, later), identity(later + 1), good(later + 2), state=state)
    assert state.probation_until == later + 2 + 600


def test_a_contained_level_ends_with_its_cause_and_needs_no_probation() -> None:
    state = fold(*steady(1000, 1100, hardware_slowdown=True), *steady(1100, 1151))

    assert judge(state, 1155).reason == "HardwareSlowdown"
    assert (judge(state, 1175).state, judge(state, 1175).score) == (HealthState.HEALTHY, 100)


@pytest.mark.parametrize(
    ("early", "reading", "stands"),
    [
        (xid(79, 500), {}, False),
        (xid(79, 500), {"recovery_action": 1}, True),
        (xid(79, 500), {"remap_pending": True}, False),
        (xid(48, 500), {"ecc_uncorrected_volatile": 1}, True),
        (xid(48, 500), {"links": links(17)}, False),
        (OffBusReport(source=Source.KMSG, seen=moment(500), bus_id=BUS), {}, False),
        (asks(1, 500), {}, False),
        (xid(79, 500), {"recovery_action": None, "ecc_uncorrected_volatile": None}, True),
    ],
    ids=[
        "clean",
        "the driver agrees",
        "another fault does not agree",
        "the counters agree",
        "links do not agree with memory",
        "off the bus, yet it answers",
        "an action, since gone",
        "nothing telling can be read",
    ],
)
def test_at_first_install_an_old_fault_needs_a_reading_that_agrees_or_none_that_can(
    early: object, reading: dict[str, object], stands: bool
) -> None:
    unread = fold(early)  # type: ignore[arg-type]  # a table of signals
    read = fold(good(1001, **reading), state=unread)

    assert judge(unread, 1000).state is HealthState.UNHEALTHY
    assert (judge(read, 1001).state is HealthState.UNHEALTHY) is stands
    assert judge(read, 1001).phase is not Phase.PROBATION


def test_an_older_fault_that_is_heard_of_after_a_good_reading_isolates_nobody() -> None:
    """The log is read back while the GPU is polled: which of the two comes first is chance."""
    state = fold(good(1001))

    for early in (xid(79, 500), OffBusReport(source=Source.KMSG, seen=moment(500), bus_id=BUS), asks(1, 500)):
        assert judge(fold(early, state=state), 1001) == judge(state, 1001)


def test_an_older_fault_that_was_agreed_with_needs_a_reset_like_any_other() -> None:
    state = fold(xid(48, 500), good(1001, ecc_uncorrected_volatile=1), *steady(1010, 1020))

    assert judge(state, 1011).reason == "Xid48"
    assert judge(fold(identity(1030), good(1031), state=state), 1031).phase is Phase.PROBATION


def test_an_answer_without_a_value_is_no_evidence() -> None:
    mute = replace(broken(1001, ReadStatus.OK), links=links(18))
    verdict = judge(fold(mute), 1001)

    assert (verdict.state, verdict.coverage) == (HealthState.UNKNOWN, 0)


@pytest.mark.parametrize("fault", [None, xid(79, 1001)], ids=["well", "failed"])
def test_what_was_read_too_long_ago_is_shown_as_not_read(fault: object) -> None:
    state = fold(good(1000), *([fault] if fault is not None else []))  # type: ignore[list-item]  # a signal
    verdict = judge(state, 1060)

    assert (verdict.nvlink_status, verdict.row_remap) == (NvlinkStatus.UNKNOWN, RowRemap.UNKNOWN)
    assert (verdict.recovery_action, verdict.coverage, verdict.nvlink_bandwidth_percent) == ("Unknown", 0, 0)


def test_what_the_driver_does_not_support_lowers_coverage_and_not_the_score() -> None:
    lacking = {"sram_threshold_exceeded": None, "unsupported": frozenset({"sram_threshold_exceeded"})}
    verdict = judge(fold(good(1000, **lacking)), 1000)

    assert (verdict.score, verdict.coverage) == (100, 90)
    assert judge(fold(good(1000, sram_threshold_exceeded=None)), 1000).coverage == 90


def test_a_verdict_says_how_sure_it_is() -> None:
    alone = fold(good(1000), xid(79, 1001), xid(79, 1002, source=Source.NVML_EVENT))

    assert judge(fold(good(1000)), 1000).confidence is Confidence.NONE
    assert judge(alone, 1002).confidence is Confidence.SINGLE
    seen = fold(broken(1003, ReadStatus.LOST), state=alone)
    assert judge(seen, 1003).confidence is Confidence.CORROBORATED
    assert judge(fold(asks(1, 1004), state=alone), 1004).confidence is Confidence.DRIVER


@pytest.mark.parametrize(
    "early",
    [xid(48, 500), OffBusReport(source=Source.KMSG, seen=moment(500), bus_id=BUS)],
    ids=["an XID", "off the bus"],
)
def test_what_a_reading_has_settled_is_not_judged_anew_by_what_happened_since(early: object) -> None:
    """Heard again, an old line must not find a witness in a request that the driver made later."""
    state = fold(good(1000), early, asks(1, 1001), good(1005, recovery_action=1))  # type: ignore[arg-type]  # a table

    assert judge(fold(early, state=state), 1005) == judge(state, 1005)  # type: ignore[arg-type]  # a table
