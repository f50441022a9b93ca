"""When a failed step is tried again: one tenacity policy for each purpose.

Every loop of this package runs its step through `retrying`, so back-off, Retry-After, the stop event and the metric
are decided here and nowhere else.
"""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

import tenacity

from gpuvitals.kube.errors import ApiError, Refused, Retryable
from gpuvitals.observability.metrics import NodeMetrics


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Doubles from `first_seconds` with jitter, up to `cap_seconds`, or `refused_cap_seconds` where a right is missing.

    `urgent_cap_seconds` holds instead while something waits that must be stored at once when the server is back.
    `attempts` None tries whatever went wrong until the stop event; a number tries only what is Retryable.
    """

    first_seconds: float = 0.1
    cap_seconds: float = 30.0
    urgent_cap_seconds: float = 1.0
    refused_cap_seconds: float = 300.0
    attempts: int | None = None


WATCH = RetryPolicy()
SLICES = RetryPolicy(first_seconds=0.05)
CLAIMS = RetryPolicy()
EVENTS = RetryPolicy(first_seconds=0.5, cap_seconds=10.0, urgent_cap_seconds=10.0, attempts=6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """What a loop lends to its policy.

    `urgent` tells whether something waits; `failed` hears each error and the seconds until the next try; `sleep` waits,
    and may return early where there is news.
    """

    stop: threading.Event
    metrics: NodeMetrics | None
    failed: Callable[[ApiError, float], None]
    urgent: Callable[[], bool] = lambda: False
    sleep: Callable[[float], None] | None = None


def retrying(policy: RetryPolicy, loop: Retries) -> tenacity.Retrying:
    """Calls a step until it succeeds, the attempts are used up, or the loop stops; then the last ApiError is raised."""
    given_up = tenacity.stop_when_event_set(loop.stop)
    waiting = _Wait(policy, loop.urgent)

    def before(state: tenacity.RetryCallState) -> None:
        error = _error(state)
        if loop.metrics is not None:
            loop.metrics.api_retries.labels(code=str(error.status)).inc()
        loop.failed(error, state.upcoming_sleep)

    return tenacity.Retrying(
        sleep=loop.sleep or tenacity.sleep_using_event(loop.stop),
        stop=given_up if policy.attempts is None else given_up | tenacity.stop_after_attempt(policy.attempts),
        wait=waiting,
        retry=tenacity.retry_if_exception_type(ApiError if policy.attempts is None else Retryable),
        before_sleep=before,
        reraise=True,
    )


class _Wait(tenacity.wait.wait_base):
    def __init__(self, policy: RetryPolicy, urgent: Callable[[], bool]) -> None:
        self._policy = policy
        self._urgent = urgent
        self._random = random.Random()

    def __call__(self, state: tenacity.RetryCallState) -> float:
        return self.seconds(_error(state), state.attempt_number)

    def seconds(self, error: ApiError, attempt: int) -> float:
        if isinstance(error, Retryable) and error.retry_after_seconds is not None:
            # Later by a little, never sooner: a fleet that was told the same second must not return in it.
            return error.retry_after_seconds + self._random.uniform(0, self._policy.first_seconds)
        policy = self._policy
        if isinstance(error, Refused):
            cap = policy.refused_cap_seconds
        elif error.ambiguous and self._urgent():
            cap = policy.urgent_cap_seconds
        else:
            cap = policy.cap_seconds
        longest = min(cap, policy.first_seconds * 2 ** min(attempt, 20))
        return self._random.uniform(longest / 2, longest)


def _error(state: tenacity.RetryCallState) -> ApiError:
    error = state.outcome.exception() if state.outcome is not None else None
    if not isinstance(error, ApiError):
        raise AssertionError(f"retry asked without an API error: {error!r}")
    return error
