"""When a step is tried again."""

import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuvitals.kube.errors import ApiError, Conflict, Invalid, NotFound, Refused, Retryable
from gpuvitals.kube.retry import (
    CLAIMS,
    SLICES,
    WATCH,
    Backoff,
    RetriedLoop,
    RetryPolicy,
    retrying,
)
from gpuvitals.observability.metrics import NodeMetrics


class Loop(RetriedLoop):
    """A loop whose sleeps take no time; it stops after so many of them."""

    def __init__(self, sleeps: int = 12, *, urgent: bool = False) -> None:
        self.stop = threading.Event()
        self.waits: list[float] = []
        self.metrics = NodeMetrics("test")
        self.sleeps = sleeps
        self.urgent = urgent

    def failed(self, error: ApiError, seconds: float) -> None:
        self.waits.append(seconds)

    def is_urgent(self) -> bool:
        return self.urgent

    def sleep(self, seconds: float, stopping: threading.Event) -> None:
        if len(self.waits) >= self.sleeps:
            stopping.set()

    def run(self, policy: RetryPolicy, error: ApiError) -> list[float]:
        def step() -> None:
            raise error

        with pytest.raises(type(error)):
            retrying(policy, self, self.stop, self.metrics)(step)
        return self.waits


def test_waits_double_up_to_the_cap_with_jitter() -> None:
    waits = Loop().run(SLICES, Retryable("x", status=503))

    assert waits[0] <= 0.1
    assert all(later <= 2 * 2 * earlier + 1e-9 for earlier, later in zip(waits, waits[1:], strict=False))
    assert 15 <= waits[-1] <= 30
    assert len({round(wait, 6) for wait in waits}) == len(waits)


@pytest.mark.parametrize("status", [0, 502, 503, 504])
def test_what_waits_for_the_servers_return_is_tried_every_second(status: int) -> None:
    assert max(Loop(urgent=True).run(SLICES, Retryable("x", status=status))) <= 1


def test_a_long_outage_is_tried_every_two_seconds() -> None:
    """Finding R13: a fleet that waits for its API server must not keep it from coming up."""
    waits = Loop(60, urgent=True).run(SLICES, Retryable("x"))

    assert 1 <= waits[-1] <= 2


def test_an_answered_500_backs_off_also_while_a_verdict_waits() -> None:
    """Finding K5."""
    waits = Loop(20, urgent=True).run(SLICES, Retryable("x", status=500))

    assert 5 <= waits[-1] <= 10


@pytest.mark.parametrize("policy", [SLICES, CLAIMS, WATCH])
@pytest.mark.parametrize(
    "error", [Refused("x", status=403), NotFound("x", status=404), Invalid("x", status=422)]
)
def test_a_verdict_that_waits_is_tried_every_few_seconds_whatever_the_error(
    policy: RetryPolicy, error: ApiError
) -> None:
    """Finding K1."""
    waits = Loop(40, urgent=True).run(policy, error)

    assert waits[-1] <= 5


def test_a_missing_right_that_nothing_waits_for_is_asked_for_every_five_minutes() -> None:
    waits = Loop(20).run(SLICES, Refused("x", status=403))

    assert 150 <= waits[-1] <= 300


def test_the_servers_own_time_wins_up_to_the_cap_of_the_policy() -> None:
    """Finding R12."""
    named = Retryable("x", status=429, retry_after_seconds=7)
    assert all(7 <= wait < 8 for wait in Loop(3).run(WATCH, named))
    longer = Retryable("x", status=503, retry_after_seconds=3600)
    assert max(Loop(3).run(WATCH, longer)) <= 61
    assert max(Loop(3, urgent=True).run(SLICES, longer)) <= 6


def test_a_server_that_names_no_seconds_is_not_asked_in_a_hot_loop() -> None:
    """Finding R12: `Retry-After: 0` again and again backs off like an answer without it."""
    waits = Loop(20).run(WATCH, Retryable("x", status=429, retry_after_seconds=0))

    assert waits[-1] >= 15


ERRORS = (
    Retryable("no answer"),
    Retryable("x", status=503),
    Retryable("x", status=500),
    Retryable("x", status=429, retry_after_seconds=1),
    Refused("x", status=403),
    Conflict("x", status=409),
    Invalid("x", status=422),
)


@given(before=st.lists(st.sampled_from(ERRORS), max_size=80), error=st.sampled_from(ERRORS))
@settings(max_examples=500, deadline=None)
def test_the_first_error_of_a_kind_waits_as_long_as_ever_whatever_came_before(
    before: list[ApiError], error: ApiError
) -> None:
    """Finding K1: an outage does not lengthen the wait after the first answer that follows it."""
    backoff = Backoff(SLICES)
    for earlier in before:
        if earlier.kind != error.kind:
            backoff.seconds(earlier, urgent=True)

    assert backoff.seconds(error, urgent=False) <= 1.1


@given(errors=st.lists(st.sampled_from(ERRORS), min_size=1, max_size=80))
@settings(max_examples=500, deadline=None)
def test_while_something_waits_no_history_of_errors_makes_a_wait_longer_than_seconds(
    errors: list[ApiError],
) -> None:
    """Finding K1."""
    backoff = Backoff(SLICES)

    assert max(backoff.seconds(error, urgent=True) for error in errors) <= 10


def test_two_kinds_that_alternate_back_off() -> None:
    backoff = Backoff(WATCH)
    waits = [backoff.seconds(error) for _ in range(12) for error in ERRORS[:2]]

    assert min(waits[-2:]) >= 15


def test_a_bounded_policy_gives_up_and_never_repeats_what_can_not_help() -> None:
    bounded = replace(WATCH, attempts=6)
    assert len(Loop(99).run(bounded, Retryable("x", status=503))) == 5
    assert Loop(99).run(bounded, Invalid("x", status=422)) == []


def test_each_retry_is_counted_by_code() -> None:
    loop = Loop(3)
    loop.run(replace(SLICES, attempts=3), Retryable("x", status=503))

    assert loop.metrics.registry.get_sample_value("gpuvitals_api_retries_total", {"code": "503"}) == 2


def test_a_stopped_loop_does_not_wait() -> None:
    loop = Loop()
    loop.stop.set()

    assert loop.run(SLICES, Retryable("x")) == []
