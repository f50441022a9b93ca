"""(state, recovery action) -> verdict: from NVML, from XID 154, and the effect on XID 109."""

import pytest

from gpuvitals.model.health import Confidence, HealthState
from support.signals import START, asks, fold, fresh, good, identity, judge, xid

DISRUPTIVE = [(1, "RecoveryResetGpu"), (2, "RecoveryRebootNode"), (4, "RecoveryDrainAndReset")]
DISRUPTIVE += [(6, "RecoveryBusReset"), (7, "RecoverySystemReboot")]
MILD = [
    (3, "RecoveryDrainP2P"),
    (5, "RecoveryImexDomain"),
    (8, "RecoveryUnknown"),
    (2**32 - 1, "RecoveryUnknown"),
]


@pytest.mark.parametrize(("action", "reason"), DISRUPTIVE)
def test_an_action_that_takes_a_reset_isolates_at_once_read_or_logged(action: int, reason: str) -> None:
    read = judge(fold(good(1000), good(1001, recovery_action=action)), 1001)
    logged = judge(fold(good(1000), asks(action, 1001)), 1001)

    for verdict in (read, logged):
        assert (verdict.state, verdict.reason, verdict.definitive) == (HealthState.UNHEALTHY, reason, True)
        assert (verdict.score, verdict.confidence) == (0, Confidence.DRIVER)


@pytest.mark.parametrize(("action", "reason"), MILD)
def test_an_action_for_a_group_or_an_unknown_one_that_is_read_degrades_once_it_lasts(
    action: int, reason: str
) -> None:
    once = fold(good(1000), good(1005, recovery_action=action))
    lasting = fold(*(good(at, recovery_action=action) for at in range(1010, 5000, 5)), state=once)

    assert judge(once, 1005).state is HealthState.HEALTHY
    verdict = judge(lasting, 4996)
    assert (verdict.state, verdict.reason) == (HealthState.DEGRADED, reason)
    assert 0 < verdict.score <= 90


UNREAD = [
    {"recovery_action": None},
    {"recovery_action": None, "unsupported": frozenset({"recovery_action"})},
    {},
]


@pytest.mark.parametrize("lacking", UNREAD, ids=["unread", "unsupported", "read"])
@pytest.mark.parametrize(("action", "reason"), MILD)
def test_an_action_that_is_logged_is_shown_at_once(
    action: int, reason: str, lacking: dict[str, object]
) -> None:
    """Finding N4: an event needs no second reading."""
    state = fold(good(1000, **lacking), asks(action, 1001))
    shown = judge(state, 1001)

    assert (shown.state, shown.reason) == (HealthState.DEGRADED, reason)
    assert 0 < shown.score <= 90
    assert shown.recovery_action != "None"


@pytest.mark.parametrize("lacking", UNREAD[:2], ids=["unread", "unsupported"])
@pytest.mark.parametrize(("action", "reason"), MILD)
def test_where_the_field_cannot_be_read_the_line_alone_ends_what_a_line_began(
    action: int, reason: str, lacking: dict[str, object]
) -> None:
    """Finding N4"""
    state = fold(good(1000, **lacking), asks(action, 1001))
    polled = fold(*(good(at, **lacking) for at in range(1005, 1605, 5)), state=state)
    ended = fold(
        asks(0, 1610, before=action), *(good(at, **lacking) for at in range(1611, 1700, 5)), state=polled
    )

    assert judge(polled, 1600).reason == reason
    assert judge(ended, 1691).state is HealthState.HEALTHY


@pytest.mark.parametrize(("action", "reason"), DISRUPTIVE)
def test_where_the_field_cannot_be_read_the_line_shows_the_reset(action: int, reason: str) -> None:
    """Findings N4, R6: the action goes back to None, and the GPU reads clean."""
    lacking = UNREAD[1]
    state = fold(good(1000, **lacking), xid(95, 1001), asks(action, 1002))
    ended = fold(
        asks(0, 1100, before=action), *(good(at, **lacking) for at in range(1101, 1200, 5)), state=state
    )

    assert judge(state, 1002).reason in (reason, "Xid95")
    assert judge(ended, 1190).reason == "Probation"


def test_where_the_field_cannot_be_read_another_action_takes_the_place_of_the_first() -> None:
    """Finding N4"""
    lacking = UNREAD[1]
    state = fold(good(1000, **lacking), asks(1, 1001), asks(3, 1050, before=1))
    later = fold(*(good(at, **lacking) for at in range(1055, 1200, 5)), state=state)

    assert judge(state, 1050).reason == "RecoveryResetGpu"
    assert judge(later, 1195).recovery_action == "DrainP2P"


def test_no_action_is_no_fault() -> None:
    assert judge(fold(good(1000), asks(0, 1001, before=1)), 1001).state is HealthState.HEALTHY


def test_the_line_that_clears_clears_nothing_since_only_the_field_tells() -> None:
    state = fold(good(1000), asks(1, 1001), asks(0, 1002, before=1))

    assert judge(state, 1050).state is HealthState.UNHEALTHY
    mended = fold(*(good(at) for at in range(1005, 1070, 5)), state=state)
    assert judge(mended, 1066).reason == "Probation"


def test_an_action_that_can_not_be_read_stays_what_it_was() -> None:
    asked = fold(good(1000), good(1001, recovery_action=1))
    unread = fold(*(good(at, recovery_action=None) for at in range(1005, 2000, 5)), state=asked)

    assert judge(unread, 1996).state is HealthState.UNHEALTHY


def test_a_line_that_is_heard_of_after_a_newer_reading_of_the_field_asks_for_nothing() -> None:
    state = fold(good(1000), good(1005))

    assert judge(fold(asks(1, 1001), state=state), 1005) == judge(state, 1005)


def test_the_graver_of_two_definitive_causes_names_the_verdict_in_any_order() -> None:
    grave_last = fold(good(1000), xid(48, 1001), good(1002, recovery_action=2))
    grave_first = fold(good(1000), good(1001, recovery_action=2), xid(48, 1002))

    assert judge(grave_last, 1002).reason == judge(grave_first, 1002).reason == "RecoveryRebootNode"


def test_109_alone_degrades_for_a_day() -> None:
    state = fold(good(1000), xid(109, 1001))

    assert (judge(state, 1001).state, judge(state, 1001).reason) == (HealthState.DEGRADED, "Xid109")
    later = 1001 + 86_400
    assert judge(fold(good(later), state=state), later).state is HealthState.HEALTHY


@pytest.mark.parametrize("logged", [True, False], ids=["by XID 154", "by a reading"])
@pytest.mark.parametrize("first", [True, False], ids=["109 first", "action first"])
def test_109_is_a_reset_class_xid_where_the_recovery_action_agrees(logged: bool, first: bool) -> None:
    agreement = asks(1, 1002) if logged else good(1002, recovery_action=1)
    at = 1001 if first else 1003
    history = sorted([agreement, xid(109, at)], key=lambda signal: signal.seen.at)
    verdict = judge(fold(good(1000), *history), 1003)

    assert (verdict.state, verdict.confidence) == (HealthState.UNHEALTHY, Confidence.DRIVER)
    assert verdict.reason == ("Xid109" if first else "RecoveryResetGpu")
    assert verdict.xid_errors == 1


def test_an_agreed_109_ends_with_the_reset_that_was_asked_for() -> None:
    state = fold(good(1000), xid(109, 1001), good(1002, recovery_action=1), identity(1100))
    state = fold(*(good(at) for at in range(1105, 1200, 5)), state=state)

    assert (judge(state, 1196).reason, judge(state, 1196).xid_errors) == ("Probation", 0)


@pytest.mark.parametrize("action", [3, 5, 99])
def test_an_action_for_something_else_does_not_agree_with_109(action: int) -> None:
    state = fold(
        good(1000), xid(109, 1001), *(good(at, recovery_action=action) for at in range(1005, 1100, 5))
    )

    assert judge(state, 1096).state is HealthState.DEGRADED


def test_a_request_that_was_taken_back_is_not_made_again_by_its_own_line_heard_late() -> None:
    """Finding N4: the line to None ended it; heard again a minute later, the first line raised it anew."""
    asked, over = asks(1, START), asks(0, START + 0.5)
    state = fold(asked, over, xid(13, START + 61.5), state=fresh())

    assert judge(fold(asked, state=state), START + 62) == judge(state, START + 62)
