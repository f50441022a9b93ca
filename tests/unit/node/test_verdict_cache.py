"""A cached verdict is equal to a new evaluation."""

from dataclasses import replace

from gpuvitals.health.evaluate import advance, evaluate
from gpuvitals.health.policy import Policy
from gpuvitals.health.state import initial_state
from gpuvitals.health.verdict import verdict
from gpuvitals.model.health import HealthState
from gpuvitals.node.verdict_cache import VerdictCache
from support.signals import moment
from support.worlds.agent_world import fault, gpu, reading

POLICY = Policy()
STATE = evaluate(initial_state(gpu(0), moment(1000)), reading(0, 1000.0), POLICY)


def test_the_same_state_is_judged_once() -> None:
    cache = VerdictCache()
    first = cache.verdict_of(STATE, moment(1001), POLICY)
    assert cache.verdict_of(first.state, moment(1002), POLICY) is first


def test_a_new_signal_and_a_new_policy_are_judged_at_once() -> None:
    cache = VerdictCache()
    healthy = cache.verdict_of(STATE, moment(1001), POLICY)
    assert healthy.verdict.state is HealthState.HEALTHY
    failed = cache.verdict_of(evaluate(STATE, fault(0, 79, 1001.5), POLICY), moment(1002), POLICY)
    assert failed.verdict.state is HealthState.UNHEALTHY

    other = replace(POLICY, blind_seconds=1)
    assert cache.verdict_of(STATE, moment(1002), other).verdict.state is HealthState.UNKNOWN


def test_what_time_alone_turns_is_seen_in_time() -> None:
    cache = VerdictCache()
    state = STATE
    for tenth in range(10, 10 * POLICY.blind_seconds + 20):
        now = moment(1000 + tenth / 10)
        cached = cache.verdict_of(state, now, POLICY)
        state = cached.state
        assert cached.verdict == verdict(advance(STATE, now.at, POLICY), now, POLICY)
