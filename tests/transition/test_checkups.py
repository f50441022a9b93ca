"""Checkups: wear degrades and never isolates; counters are evaluated by their growth between two checkups."""

import pytest

from gpuvitals.health.evaluate import advance
from gpuvitals.health.fold_checkup import growth, replay_limit
from gpuvitals.health.state import GpuState
from gpuvitals.model.health import HealthState
from gpuvitals.model.signal import ConfigSpace, PresenceReport, Source
from support.signals import BUS, POLICY, START, UUID, asks, checkup, fold, good, identity, judge, moment

MINUTE = 60.0


def looked_at(*looks: dict[str, object]) -> tuple[GpuState, float]:
    """The state after these checkups, a minute apart with good readings between, and the instant of the last."""
    state, at = fold(good(START)), START
    for values in looks:
        at += MINUTE
        state = fold(good(at), checkup(at, **values), state=state)
    return state, at


def reasons(state: GpuState) -> set[str]:
    return {str(fault.rule.reason) for fault in state.faults}


BAD_LEVELS = {
    "RepairPending": {"repair_pending": True},
    "MemoryUnrepairable": {"memory_unrepairable": True},
    "PageRetirementPending": {"page_retirement_pending": True},
    "PagesRetired": {"retired_pages": 63},
    "PcieDegraded": {"pcie_lanes": 8},
    "NvlinkErrors": {"link_errors_per_petabit": 1000},
}


@pytest.mark.parametrize("reason", BAD_LEVELS)
def test_a_bad_level_degrades_at_the_second_look_and_ends_a_minute_after_it_was_good(reason: str) -> None:
    once, at = looked_at(BAD_LEVELS[reason])
    assert judge(once, at).state is HealthState.HEALTHY
    twice, at = looked_at(BAD_LEVELS[reason], BAD_LEVELS[reason])
    judged = judge(twice, at)
    assert (judged.state, judged.reason, judged.score) == (HealthState.DEGRADED, reason, 90)

    well = fold(good(at + MINUTE), checkup(at + MINUTE), state=twice)
    assert judge(well, at + MINUTE).reason == reason
    ended = advance(well, at + 2 * MINUTE, POLICY)
    assert reasons(ended) == set()


def test_polls_in_between_neither_end_nor_hide_what_only_a_checkup_reads() -> None:
    state, at = looked_at(BAD_LEVELS["RepairPending"], BAD_LEVELS["RepairPending"])
    state = fold(*(good(at + 5 * step) for step in range(1, 40)), state=state)

    assert reasons(state) == {"RepairPending"}


def test_what_could_not_be_read_stays_as_it_was() -> None:
    state, at = looked_at(BAD_LEVELS["RepairPending"], BAD_LEVELS["RepairPending"])
    state = fold(checkup(at + MINUTE, repair_pending=None), good(at + 3 * MINUTE), state=state)

    assert reasons(state) == {"RepairPending"}


@pytest.mark.parametrize(
    ("first", "then", "is_bad"),
    [
        pytest.param({"link_replays": 7}, {"link_replays": 7}, False, id="replays of long ago"),
        pytest.param({}, {"link_replays": 1}, True, id="a replay"),
        pytest.param({}, {"link_recoveries": 1}, True, id="a recovery"),
        pytest.param({}, {"link_recoveries_failed": 1}, True, id="a link that did not come back"),
        pytest.param({}, {"link_crc_errors": 5999}, False, id="crc errors, just under 100 a second"),
        pytest.param({}, {"link_crc_errors": 6000}, True, id="crc errors, 100 a second"),
        pytest.param({"link_replays": 900}, {"link_replays": 3}, False, id="a counter that began anew"),
        pytest.param({"link_replays": None}, {"link_replays": 3}, False, id="read for the first time"),
        pytest.param({}, {"link_errors_per_petabit": 999}, False, id="a rate just better than 1e-12"),
    ],
)
def test_link_errors_count_by_their_growth(
    first: dict[str, object], then: dict[str, object], is_bad: bool
) -> None:
    state, _ = looked_at(first, then)

    assert (reasons(state) == {"NvlinkErrors"}) is is_bad


@pytest.mark.parametrize(
    ("lanes", "generation", "limit"),
    [(16, 3, 8), (16, 4, 16), (16, 5, 31), (16, 6, 62), (8, 3, 4), (16, 1, 8)],
)
def test_the_limit_of_replays_follows_lanes_and_generation(lanes: int, generation: int, limit: int) -> None:
    """Source: NVIDIA/DCGM v4.6.0, as docs/reference/policy.md names it."""
    assert replay_limit(lanes, generation, POLICY) == limit


@pytest.mark.parametrize(("replays", "is_bad"), [(31, False), (32, True)])
def test_more_replays_a_minute_than_the_slot_may_have_are_too_many(replays: int, is_bad: bool) -> None:
    state, _ = looked_at({"pcie_replays": 1000}, {"pcie_replays": 1000 + replays})

    assert (reasons(state) == {"PcieReplays"}) is is_bad


@pytest.mark.parametrize(
    ("values", "is_bad"),
    [
        pytest.param({"pcie_generation": 1, "idle": True}, False, id="idle GPUs save power"),
        pytest.param({"pcie_generation": 1, "idle": None}, False, id="nobody knows whether it is idle"),
        pytest.param({"pcie_generation": 4, "idle": False}, True, id="slower than it can be, at work"),
        pytest.param({"pcie_lanes": 8, "pcie_lanes_max": 8}, False, id="a narrow slot"),
        pytest.param({"pcie_lanes": 8, "pcie_lanes_max": None}, False, id="maximum not read"),
    ],
)
def test_a_link_is_held_against_what_it_can_be_in_its_slot(values: dict[str, object], is_bad: bool) -> None:
    state, _ = looked_at(values)

    assert (reasons(state) == {"PcieDegraded"}) is is_bad


def test_a_fatal_pcie_error_degrades_at_once_and_for_a_day_whoever_counts_it() -> None:
    by_nvml, at = looked_at({}, {"pcie_fatal_errors": 1})
    by_kernel = fold(good(START), fatal(START + 1, 3), good(START + 2), fatal(START + 3, 4))

    for state, now in ((by_nvml, at), (by_kernel, START + 3)):
        judged = judge(state, now)
        assert (judged.state, judged.reason) == (HealthState.DEGRADED, "PcieErrors")
        assert reasons(advance(state, now + 86_399, POLICY)) == {"PcieErrors"}
        assert reasons(advance(state, now + 86_400, POLICY)) == set()


def test_fatal_errors_from_before_the_first_look_and_a_count_that_fell_are_nobodys() -> None:
    state = fold(good(START), fatal(START + 1, 9), fatal(START + 2, 2), fatal(START + 3, 2))

    assert reasons(state) == set()


def test_an_observed_reset_ends_a_fatal_pcie_error() -> None:
    state, at = looked_at({}, {"pcie_fatal_errors": 1})
    state = fold(asks(1, at + 1), good(at + 2, recovery_action=1), state=state)
    state = fold(identity(at + 10), good(at + 12), state=state)

    assert "PcieErrors" not in reasons(state)


def test_an_older_or_repeated_checkup_changes_nothing() -> None:
    state, at = looked_at({}, {"link_replays": 4})

    assert fold(checkup(at, link_replays=4), state=state) == state
    assert fold(checkup(at - 1, link_replays=9), state=state) == state


@pytest.mark.parametrize(("before", "after", "grown"), [(3, 5, 2), (5, 3, 0), (None, 3, 0), (3, None, 0)])
def test_growth_is_never_negative(before: int | None, after: int | None, grown: int) -> None:
    """Decreasing counters."""
    assert growth(before, after) == grown


def fatal(at: float, count: int) -> PresenceReport:
    return PresenceReport(
        source=Source.SYSFS,
        seen=moment(at),
        bus_id=BUS,
        uuid=UUID,
        present=True,
        config_space=ConfigSpace.ANSWERS,
        fatal_errors=count,
    )
