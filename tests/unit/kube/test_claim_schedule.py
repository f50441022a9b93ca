"""Which claim is written next, in a time of the test's own."""

from gpuvitals.inventory.claims import ClaimEntry, ClaimRef, ConditionStatus
from gpuvitals.kube.claim_schedule import RECHECK_SECONDS, ClaimSchedule
from gpuvitals.kube.errors import Refused, Retryable
from gpuvitals.model.ids import ClaimUid
from support.claims import entry

CLAIMS = tuple(ClaimRef(namespace="n", name=f"c-{index}", uid=ClaimUid(f"u-{index}")) for index in range(8))


def shows(
    status: ConditionStatus, reason: str, claims: tuple[ClaimRef, ...] = CLAIMS
) -> dict[ClaimRef, tuple[ClaimEntry, ...]]:
    return {claim: (entry(status, reason),) for claim in claims}


def write_all(schedule: ClaimSchedule, now: float) -> list[ClaimRef]:
    """Writes all due claims; each write succeeds."""
    written = []
    while (chosen := schedule.next(now)) is not None:
        schedule.done(*chosen, now)
        written.append(chosen[0])
    return written


def test_a_failing_claim_waits_alone_and_the_others_go_first() -> None:
    """Finding R8."""
    schedule = ClaimSchedule()
    schedule.show(shows(ConditionStatus.TRUE, "None"), 0, is_urgent=True)
    first = schedule.next(0)
    assert first is not None
    schedule.failed(*first, Refused("x", status=403), 0)

    assert write_all(schedule, 0) == [claim for claim in CLAIMS if claim != first[0]]
    assert schedule.wait_seconds(0, 30) <= 5
    assert write_all(schedule, 10) == [first[0]]


def test_many_failing_claims_are_one_try_a_second_together() -> None:
    """Finding R8: a webhook that denies all claims of a node is no storm."""
    schedule = ClaimSchedule()
    schedule.show(shows(ConditionStatus.TRUE, "None"), 0, is_urgent=True)
    tries = 0
    for tick in range(1200):
        now = tick / 10
        while (chosen := schedule.next(now)) is not None:
            schedule.failed(*chosen, Refused("x", status=403), now)
            tries += 1

    assert tries <= len(CLAIMS) + 120


def test_once_the_server_is_back_every_claim_is_written_at_once() -> None:
    """Finding R8."""
    schedule = ClaimSchedule()
    schedule.show(shows(ConditionStatus.TRUE, "None"), 0, is_urgent=True)
    for tick in range(300):
        while (chosen := schedule.next(tick / 10)) is not None:
            schedule.failed(*chosen, Retryable("no answer"), tick / 10)

    assert len(write_all(schedule, 40)) == len(CLAIMS)


def test_a_new_fault_does_not_wait_for_the_back_off_of_an_old_one() -> None:
    """Finding K1, for claims."""
    schedule = ClaimSchedule()
    schedule.show(shows(ConditionStatus.FALSE, "Xid79"), 0, is_urgent=True)
    for tick in range(300):
        while (chosen := schedule.next(tick / 10)) is not None:
            schedule.failed(*chosen, Refused("x", status=403), tick / 10)
    schedule.show(shows(ConditionStatus.FALSE, "Xid48"), 30, is_urgent=True)

    assert len(write_all(schedule, 30)) == len(CLAIMS)


def test_noise_is_one_write_a_claim_and_minute_and_a_fault_never_waits() -> None:
    """Finding R4, for claims."""
    schedule = ClaimSchedule()
    writes: list[float] = []
    for second in range(600):
        status, reason = (
            (ConditionStatus.TRUE, "None") if second % 8 < 4 else (ConditionStatus.UNKNOWN, "NoReading")
        )
        schedule.show(shows(status, reason, CLAIMS[:1]), second, is_urgent=True)
        writes += [second for _ in write_all(schedule, second)]

    assert len(writes) <= 12
    schedule.show(shows(ConditionStatus.FALSE, "Xid79", CLAIMS[:1]), 600, is_urgent=True)
    assert write_all(schedule, 600) == [CLAIMS[0]]
    schedule.show(shows(ConditionStatus.TRUE, "None", CLAIMS[:1]), 601, is_urgent=True)
    assert write_all(schedule, 601) == [CLAIMS[0]]


def test_after_a_take_over_every_claim_is_applied_again_twice() -> None:
    """Finding R9: a write of the instance before may land late."""
    schedule = ClaimSchedule()
    schedule.taken_over(0, 0)
    schedule.show(shows(ConditionStatus.TRUE, "None"), 0, is_urgent=True)
    written = {second: len(write_all(schedule, float(second))) for second in range(200)}

    assert {second for second, count in written.items() if count} == {0, *map(int, RECHECK_SECONDS)}
    assert set(written.values()) == {0, len(CLAIMS)}
