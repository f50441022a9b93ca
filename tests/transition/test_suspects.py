"""Class B: isolates after five minutes, or at the second episode in as long, on what was read and nothing else."""

import pytest

from gpuvitals.model.health import HealthState, NvlinkStatus, Phase
from gpuvitals.model.signal import FabricState, Reading, ReadStatus, Source, XidReport
from support.signals import BUS, broken, fold, good, judge, links, moment, xid

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


def test_a_bad_link_event_needs_its_like_within_five_minutes_and_never_ends_by_itself() -> None:
    def broken_link(at: float) -> XidReport:
        words = (1 << 8, 0, 0, 0, 0, 0, 0)
        return XidReport(source=Source.KMSG, seen=moment(at), bus_id=BUS, code=74, words=words)

    once = fold(good(1000), *(broken_link(1001 + second) for second in range(60)), good(1061))
    assert (judge(once, 1061).state, judge(once, 1061).phase) == (HealthState.DEGRADED, Phase.SUSPECT)
    assert judge(fold(good(300_000), state=once), 300_000).state is HealthState.DEGRADED
    apart = fold(broken_link(9000), good(9001), state=once)
    assert judge(apart, 9001).state is HealthState.DEGRADED
    assert judge(fold(broken_link(1250), state=once), 1250).state is HealthState.UNHEALTHY


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
