"""A remembered verdict is the one that judging anew would give."""

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
    judge = VerdictCache()
    first = judge.judged(STATE, moment(1001), POLICY)
    assert judge.judged(first.state, moment(1002), POLICY) is first


def test_a_new_signal_and_a_new_policy_are_judged_at_once() -> None:
    judge = VerdictCache()
    healthy = judge.judged(STATE, moment(1001), POLICY)
    assert healthy.verdict.state is HealthState.HEALTHY
    failed = judge.judged(evaluate(STATE, fault(0, 79, 1001.5), POLICY), moment(1002), POLICY)
    assert failed.verdict.state is HealthState.UNHEALTHY

    other = replace(POLICY, blind_seconds=1)
    assert judge.judged(STATE, moment(1002), other).verdict.state is HealthState.UNKNOWN


def test_what_time_alone_turns_is_seen_in_time() -> None:
    judge = VerdictCache()
    state = STATE
    for tenth in range(10, 10 * POLICY.blind_seconds + 20):
        now = moment(1000 + tenth / 10)
        judged = judge.judged(state, now, POLICY)
        state = judged.state
        assert judged.verdict == verdict(advance(STATE, now.at, POLICY), now, POLICY)
