"""Class B: isolates after five minutes, or at the second episode within that time, by readings only."""

import pytest

from gpuvitals.health.verdict import next_change_at
from gpuvitals.model.health import HealthState, NvlinkStatus, Phase
from gpuvitals.model.signal import FabricState, Reading, ReadStatus, Source, XidReport
from support.signals import BUS, POLICY, broken, fold, good, identity, judge, links, moment, xid

DOWN = {"links": links(8)}
FABRIC = {"fabric": FabricState.FAILED}


def bad(start: int, end: int, **changes: object) -> list[Reading]:
    """A reading each ten seconds, from `start` to `end`, both included."""
    return [good(at, **changes) for at in range(start, end + 1, 10)]


@pytest.mark.parametrize(
    ("changes", "reason"), [(DOWN, "NvlinkDown"), (FABRIC, "FabricFailed")], ids=["links", "fabric"]
)
def test_a_class_b_level_is_suspect_at_once_and_out_after_its_dwell(
    changes: dict[str, object], reason: str
) -> None:
    early = judge(fold(good(1000), *bad(1010, 1300, **changes)), 1300)
    late = judge(fold(good(1000), *bad(1010, 1310, **changes)), 1310)

    assert (early.state, early.phase, early.reason) == (HealthState.DEGRADED, Phase.SUSPECT, reason)
    assert early.score <= 90
    assert (late.state, late.reason, late.definitive, late.score) == (HealthState.UNHEALTHY, reason, False, 0)


def test_half_of_the_links_is_not_more_than_half() -> None:
    state = fold(good(1000), *bad(1010, 2000, links=links(9)))

    assert (judge(state, 2000).state, judge(state, 2000).reason) == (HealthState.DEGRADED, "NvlinkDegraded")


def test_the_dwell_is_the_classs_and_goes_on_under_another_name() -> None:
    """Links down for 150 s, then the fabric failed: never good in between, so five minutes are five minutes."""
    renamed = fold(good(1000), *bad(1010, 1160, **DOWN), *bad(1170, 1310, **FABRIC))

    assert judge(renamed, 1310).state is HealthState.UNHEALTHY
    assert judge(renamed, 1310).reason in ("FabricFailed", "NvlinkDown")


def test_the_dwell_starts_anew_once_everything_was_good_for_a_while() -> None:
    apart = [*bad(1010, 1160, **DOWN), *bad(1170, 1600), *bad(1610, 1900, **DOWN)]
    verdict = judge(fold(good(1000), *apart), 1900)

    assert (verdict.state, verdict.phase) == (HealthState.DEGRADED, Phase.SUSPECT)


def test_a_second_episode_within_five_minutes_isolates_at_once() -> None:
    twice = [*bad(1010, 1020, **DOWN), *bad(1030, 1100), good(1110, **DOWN)]
    verdict = judge(fold(good(1000), *twice), 1110)

    assert (verdict.state, verdict.reason) == (HealthState.UNHEALTHY, "NvlinkDown")


def test_a_second_episode_is_the_classs_too() -> None:
    twice = [*bad(1010, 1020, **DOWN), *bad(1030, 1100), good(1110, **FABRIC)]

    assert judge(fold(good(1000), *twice), 1110).state is HealthState.UNHEALTHY


def test_two_levels_at_once_are_one_episode() -> None:
    assert judge(fold(good(1000), *bad(1010, 1100, **DOWN, **FABRIC)), 1100).state is HealthState.DEGRADED


def test_one_bad_reading_and_then_blindness_is_not_five_minutes() -> None:
    state = fold(good(1000), good(1010, **DOWN))

    assert judge(state, 1400).state is HealthState.UNKNOWN
    assert judge(state, 90_000).state is HealthState.UNKNOWN


def test_a_hang_lasts_until_the_gpu_answers_and_stays_the_reason_of_not_being_seen() -> None:
    state = fold(good(1000), broken(1001, ReadStatus.HUNG))

    shown = [(judge(state, at).state, judge(state, at).reason) for at in (1030, 1100, 1301)]
    assert shown == [
        (HealthState.DEGRADED, "NvmlHung"),
        (HealthState.UNKNOWN, "NvmlHung"),
        (HealthState.UNHEALTHY, "NvmlHung"),
    ]
    assert judge(state, 1100).score == 0
    answered = fold(good(1100), good(1130), state=state)
    assert judge(answered, 1160).state is HealthState.HEALTHY


def test_a_level_that_could_not_be_read_stays_bad() -> None:
    state = fold(good(1000), *bad(1010, 1310, **DOWN), *bad(1320, 2000, links=None))

    assert judge(state, 2000).state is HealthState.UNHEALTHY


def broken_link(at: float, *, words: tuple[int, ...] = (1 << 8, 0, 0, 0, 0, 0, 0)) -> XidReport:
    """XID 74 with a word that NVIDIA reads as hardware."""
    return XidReport(source=Source.KMSG, seen=moment(at), bus_id=BUS, code=74, words=words)


def out_at(*reports: float, until: float = 200_000.0) -> float | None:
    """When the GPU leaves service, as an agent sees it that polls and that wakes when the verdict can change."""
    state, heard, now = fold(good(1000)), list(reports), 1000.0
    while now < until:
        wakes = next_change_at(state, now, POLICY)
        now = min(x for x in (now + 5, wakes, *heard[:1]) if x is not None)
        while heard and heard[0] <= now:
            state = fold(broken_link(heard.pop(0)), state=state)
        state = fold(good(now), state=state)
        if judge(state, now).state is HealthState.UNHEALTHY:
            return now
        if not heard and now > reports[-1] + 1000:
            return None
    return None


def test_the_lines_of_one_breakdown_are_one_report_and_never_end_by_themselves() -> None:
    once = fold(good(1000), *(broken_link(1001 + step / 100) for step in range(40)), good(1061))

    assert (judge(once, 1061).state, judge(once, 1061).phase) == (HealthState.DEGRADED, Phase.SUSPECT)
    assert judge(fold(good(300_000), state=once), 300_000).state is HealthState.DEGRADED
    apart = fold(broken_link(9000), good(9001), state=once)
    assert judge(apart, 9001).state is HealthState.DEGRADED
    assert judge(fold(broken_link(1250), state=once), 1250).state is HealthState.UNHEALTHY


@pytest.mark.parametrize(
    ("reports", "wanted"),
    [
        ((1001, 1002), 1301),
        ((1001, 1101), 1301),
        ((1001, 1171), 1301),
        ((1001, 1180.9), 1301),
        ((1001, 1181), 1181),
        ((1001, 1300.9), 1300.9),
        ((1001, 1002, 1003), 1003),
        ((1001, 1311, 1621), 1621),
        ((1001, 29_801, 58_601), 58_601),
        ((1001, 44_201, 87_401), 87_401),
        ((1001, 1311), None),
        ((1001, 44_202, 87_403), None),
    ],
    ids=str,
)
def test_a_bad_link_event_isolates_when_it_comes_back(
    reports: tuple[float, ...], wanted: float | None
) -> None:
    """Finding L1"""
    assert out_at(*reports) == wanted


def test_what_has_come_back_stays_out_until_a_reset() -> None:
    """Finding L1: reports that are long over, and a new one, lift nothing."""
    state = fold(good(1000), broken_link(1001), broken_link(1101))
    assert judge(fold(good(90_000), state=state), 90_000).state is HealthState.UNHEALTHY
    for start in range(12):
        at = 100_000 + 90_000 * start
        state = fold(broken_link(at), good(at + 1), state=state)
        assert judge(state, at + 1).state is HealthState.UNHEALTHY
    again = fold(identity(2_000_000), good(2_000_001), state=state)
    assert judge(again, 2_000_001).phase is Phase.PROBATION
    anew = fold(broken_link(2_000_100), good(2_000_101), state=again)
    assert judge(anew, 2_000_101).phase is Phase.SUSPECT


@pytest.mark.parametrize("changes", [DOWN, FABRIC], ids=["links", "fabric"])
@pytest.mark.parametrize("spacing", [10, 20, 25, 30, 35, 40, 45, 50, 55, 60, 100, 170, 250, 295])
def test_a_level_that_is_bad_again_and_again_isolates_within_its_dwell(
    changes: dict[str, object], spacing: int
) -> None:
    """Finding L1: a poll each 5 s, of which one each `spacing` is bad."""
    state, taken_out = fold(good(1000)), None
    for at in range(1005, 1005 + 400, 5):
        is_bad = (at - 1005) % spacing == 0
        state = fold(good(at, **(changes if is_bad else {})), state=state)
        if taken_out is None and judge(state, at).state is HealthState.UNHEALTHY:
            taken_out = at - 1005

    assert taken_out is not None
    assert taken_out <= POLICY.dwell_seconds + 5


def test_a_level_that_was_bad_once_and_reads_good_is_not_isolated_meanwhile() -> None:
    state = fold(good(1000), *bad(1010, 1270, **DOWN), *bad(1280, 1330))

    assert judge(state, 1330).state is HealthState.DEGRADED
    assert judge(fold(good(1345), state=state), 1345).state is HealthState.HEALTHY


def test_a_line_that_only_degrades_is_no_report_of_the_class_b_cause() -> None:
    """Finding L1"""
    signal = (1 << 21, 0, 0, 0, 0, 0, 0)
    mild = fold(good(1000), *(broken_link(1001 + 10 * step, words=signal) for step in range(9)), good(1100))
    once = fold(broken_link(1101), good(1102), state=mild)

    assert judge(mild, 1100).state is HealthState.DEGRADED
    assert judge(once, 1102).phase is Phase.SUSPECT
    assert judge(fold(good(2000), state=once), 2000).phase is Phase.SUSPECT


@pytest.mark.parametrize("changes", [DOWN, FABRIC], ids=["links", "fabric"])
def test_the_third_time_within_a_day_that_a_level_is_bad_isolates(changes: dict[str, object]) -> None:
    """Finding L1: as for events; each time it had read good again."""
    runs = [*bad(10_000, 10_020, **changes), *bad(10_030, 10_500)]
    runs += [*bad(30_000, 30_020, **changes), *bad(30_030, 30_500)]
    twice = fold(good(1000), *runs)
    thrice = fold(good(60_000, **changes), state=twice)

    assert judge(twice, 30_500).state is HealthState.HEALTHY
    assert judge(thrice, 60_000).state is HealthState.UNHEALTHY
    late = fold(good(120_000, **changes), state=twice)
    assert judge(late, 120_000).phase is Phase.SUSPECT


def test_a_link_that_flaps_is_one_change_of_the_status_and_not_one_a_reading() -> None:
    once = fold(good(1000), good(1005, links=links(17)), good(1010))
    assert judge(once, 1010).nvlink_status is NvlinkStatus.ACTIVE
    state, shown = fold(good(1000), good(1005)), []
    for step in range(60):
        state = fold(good(1010 + 5 * step, links=links(17 if step % 2 else 18)), state=state)
        shown.append(judge(state, 1010 + 5 * step).nvlink_status)

    changes = sum(before is not after for before, after in zip(shown, shown[1:], strict=False))
    assert (shown[0], shown[-1], changes) == (NvlinkStatus.ACTIVE, NvlinkStatus.DEGRADED, 1)


def test_a_lesser_link_fault_is_there_when_half_of_the_links_come_back() -> None:
    state = fold(good(1000), *bad(1010, 1100, **DOWN), *bad(1110, 1180, links=links(16)))
    verdict = judge(state, 1180)

    assert (verdict.state, verdict.reason, verdict.phase) == (
        HealthState.DEGRADED,
        "NvlinkDegraded",
        Phase.STEADY,
    )


def test_an_event_never_makes_a_suspect_level_better() -> None:
    state = fold(good(1000), *bad(1010, 1310, **DOWN), xid(45, 1311), xid(94, 1312), xid(13, 1313, claim="a"))

    assert judge(state, 1313).state is HealthState.UNHEALTHY
