"""A GPU that is left alone on request keeps its verdict for as long as that lasts; one that nobody saw stays unseen."""

from gpuvitals.model.health import HealthState
from gpuvitals.model.signal import Reading, ReadStatus
from support.signals import START, broken, fold, good, judge, xid


def rests(start: float, seconds: int) -> list[Reading]:
    return [broken(start + each, ReadStatus.QUIESCED) for each in range(5, seconds + 1, 5)]


def test_a_healthy_gpu_stays_healthy_and_is_blind_a_minute_after_the_rest_ends() -> None:
    state = fold(good(START), *rests(START, 600))

    assert judge(state, START + 600).state is HealthState.HEALTHY
    assert judge(state, START + 659).state is HealthState.HEALTHY
    assert judge(state, START + 660).state is HealthState.UNKNOWN


def test_a_fault_stays_a_fault() -> None:
    state = fold(good(START), xid(79, START + 1), *rests(START + 1, 600))

    assert judge(state, START + 601).state is HealthState.UNHEALTHY


def test_what_the_kernel_says_meanwhile_counts() -> None:
    state = fold(good(START), *rests(START, 300), xid(79, START + 301))

    assert judge(state, START + 302).reason == "Xid79"


def test_a_gpu_that_nobody_saw_before_is_not_seen_by_resting() -> None:
    never = fold(*rests(START, 300))
    blind = fold(good(START), *rests(START + 60, 300))

    assert judge(never, START + 300).state is HealthState.UNKNOWN
    assert judge(blind, START + 360).state is HealthState.UNKNOWN
