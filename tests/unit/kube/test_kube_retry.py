"""When a step is tried again."""

import threading
from dataclasses import replace

import pytest

from gpuvitals.kube.errors import ApiError, Invalid, Refused, Retryable
from gpuvitals.kube.retry import EVENTS, SLICES, Retries, RetryPolicy, retrying
from gpuvitals.observability.metrics import NodeMetrics


class Loop:
    """A loop whose sleeps take no time; it stops after so many of them."""

    def __init__(self, sleeps: int = 12, *, urgent: bool = False) -> None:
        self.stop = threading.Event()
        self.waits: list[float] = []
        self.metrics = NodeMetrics("test")
        self.retries = Retries(
            stop=self.stop,
            metrics=self.metrics,
            failed=lambda error, seconds: self.waits.append(seconds),
            urgent=lambda: urgent,
            sleep=lambda seconds: self.stop.set() if len(self.waits) >= sleeps else None,
        )

    def run(self, policy: RetryPolicy, error: ApiError) -> list[float]:
        def step() -> None:
            raise error

        with pytest.raises(type(error)):
            retrying(policy, self.retries)(step)
        return self.waits


def test_waits_double_up_to_the_cap_with_jitter() -> None:
    waits = Loop().run(SLICES, Retryable("x", status=503))

    assert waits[0] <= 0.1
    assert all(later <= 2 * 2 * earlier + 1e-9 for earlier, later in zip(waits, waits[1:], strict=False))
    assert 15 <= waits[-1] <= 30
    assert len({round(wait, 6) for wait in waits}) == len(waits)


@pytest.mark.parametrize("status", [0, 500, 503])
def test_what_waits_for_the_servers_return_is_tried_every_second(status: int) -> None:
    assert max(Loop(urgent=True).run(SLICES, Retryable("x", status=status))) <= 1


def test_a_missing_right_is_asked_for_every_five_minutes() -> None:
    waits = Loop(20, urgent=True).run(SLICES, Refused("x", status=403))

    assert 150 <= waits[-1] <= 300


def test_the_servers_own_time_wins() -> None:
    waits = Loop(3, urgent=True).run(SLICES, Retryable("x", status=429, retry_after_seconds=7))

    assert all(7 <= wait < 8 for wait in waits)


def test_a_bounded_policy_gives_up_and_never_repeats_what_can_not_help() -> None:
    assert len(Loop(99).run(EVENTS, Retryable("x", status=503))) == 5
    assert Loop(99).run(EVENTS, Invalid("x", status=422)) == []


def test_each_retry_is_counted_by_code() -> None:
    loop = Loop(3)
    loop.run(replace(SLICES, attempts=3), Retryable("x", status=503))

    assert loop.metrics.registry.get_sample_value("gpuvitals_api_retries_total", {"code": "503"}) == 2


def test_a_stopped_loop_does_not_wait() -> None:
    loop = Loop()
    loop.stop.set()

    assert loop.run(SLICES, Retryable("x")) == []
