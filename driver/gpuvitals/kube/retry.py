"""Retry policies: how long a failed API call waits before the next attempt, one policy for each purpose.

Every loop of this package runs its step through `retrying`, or uses a `Backoff` of its own for objects that fail one by one. Back-off,
Retry-After, the stop event and the metric are decided here and nowhere else.
"""

import random
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

import tenacity

from gpuvitals.kube.errors import ApiError, NotFound, Refused, Retryable
from gpuvitals.observability.metrics import NodeMetrics

_UNREACHABLE = (0, 502, 503, 504)
"""No answer, and the answers of a load balancer without a server behind it."""
_LONG_OUTAGE_ATTEMPTS = 30
_MAX_DOUBLINGS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Doubles from `first_seconds` with jitter, up to a cap. Each kind of error has its own count of attempts.

    The cap is `refused_cap_seconds` for a missing right or kind, else `cap_seconds`. An urgent step has shorter caps:
    `urgent_cap_seconds` while no server answers (twice that in a long outage), `urgent_broken_cap_seconds` for
    an answered 500 (a dead webhook), `urgent_refused_cap_seconds` for all other errors. A Retry-After above
    `retry_after_cap_seconds` is a proxy's mistake and is cut to it.
    With `attempts` None every ApiError is retried until the stop event; with a number only Retryable ones, that often.
    """

    first_seconds: float = 0.1
    cap_seconds: float = 30.0
    refused_cap_seconds: float = 300.0
    urgent_cap_seconds: float = 1.0
    urgent_refused_cap_seconds: float = 5.0
    urgent_broken_cap_seconds: float = 10.0
    retry_after_cap_seconds: float = 60.0
    attempts: int | None = None


WATCH = RetryPolicy()
WATCH_LATER = RetryPolicy(urgent_cap_seconds=3.0)
"""For the other objects that the first slice needs: a fleet that restarts must not request all of them every second."""
SLICES = RetryPolicy(first_seconds=0.05, retry_after_cap_seconds=5.0)
CLAIMS = RetryPolicy(retry_after_cap_seconds=15.0)
EVENTS = RetryPolicy(first_seconds=0.5, cap_seconds=10.0, refused_cap_seconds=10.0)


class Backoff:
    """The waits between the attempts of one step. One thread uses it."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._failures: Counter[str] = Counter()
        self._random = random.Random()

    def succeeded(self) -> None:
        """Resets all counts."""
        self._failures.clear()

    def seconds(self, error: ApiError, *, urgent: bool = False) -> float:
        """Counts a failure. Returns the seconds until the next attempt.

        An outage must not lengthen the wait after the first answer that follows it, so each kind of error has a
        count of its own. Two kinds that alternate still back off.
        """
        self._failures[error.kind] += 1
        count = self._failures[error.kind]
        policy = self._policy
        cap = self._urgent_cap(error, count) if urgent else self._cap(error)
        longest = min(cap, policy.first_seconds * 2 ** min(count, _MAX_DOUBLINGS))
        own = self._random.uniform(longest / 2, longest)
        if not isinstance(error, Retryable) or error.retry_after_seconds is None:
            return own
        # Slightly later, never sooner: a fleet that got the same Retry-After must not return in the same second. A
        # server that names 0 seconds again and again causes no hot loop.
        named = min(error.retry_after_seconds, policy.retry_after_cap_seconds)
        return max(own, named + self._random.uniform(0, policy.first_seconds))

    def _cap(self, error: ApiError) -> float:
        is_refused = isinstance(error, (Refused, NotFound))
        return self._policy.refused_cap_seconds if is_refused else self._policy.cap_seconds

    def _urgent_cap(self, error: ApiError, count: int) -> float:
        policy = self._policy
        if error.status in _UNREACHABLE:
            return policy.urgent_cap_seconds * (1 if count <= _LONG_OUTAGE_ATTEMPTS else 2)
        if error.status >= 500:
            return policy.urgent_broken_cap_seconds
        return policy.urgent_refused_cap_seconds


class RetriedLoop(Protocol):
    """Callbacks of a retried step, made on the thread that runs it. A subclass inherits the defaults."""

    def failed(self, error: ApiError, seconds: float) -> None:
        """Handles a failed attempt; the next one follows in `seconds`."""
        ...

    def is_urgent(self) -> bool:
        """Whether a change waits for this step; it is then retried within seconds."""
        return False

    def sleep(self, seconds: float, stopping: threading.Event) -> None:
        """Waits before the next attempt. May return early."""
        stopping.wait(seconds)


def retrying(
    policy: RetryPolicy, loop: RetriedLoop, stopping: threading.Event, metrics: NodeMetrics
) -> tenacity.Retrying:
    """Calls a step until it succeeds, its attempts are used up, or `stopping` is set; then the last ApiError is raised.

    One thread uses it.
    """
    stop = tenacity.stop_when_event_set(stopping)

    def before_sleep(state: tenacity.RetryCallState) -> None:
        error = _error(state)
        metrics.api_retries.labels(code=str(error.status)).inc()
        loop.failed(error, state.upcoming_sleep)

    return tenacity.Retrying(
        sleep=lambda seconds: loop.sleep(seconds, stopping),
        stop=stop if policy.attempts is None else stop | tenacity.stop_after_attempt(policy.attempts),
        wait=_Wait(policy, loop),
        retry=tenacity.retry_if_exception_type(ApiError if policy.attempts is None else Retryable),
        before_sleep=before_sleep,
        reraise=True,
    )


class _Wait(tenacity.wait.wait_base):
    def __init__(self, policy: RetryPolicy, loop: RetriedLoop) -> None:
        self._backoff = Backoff(policy)
        self._loop = loop

    def __call__(self, state: tenacity.RetryCallState) -> float:
        if state.attempt_number == 1:
            self._backoff.succeeded()
        return self._backoff.seconds(_error(state), urgent=self._loop.is_urgent())


def _error(state: tenacity.RetryCallState) -> ApiError:
    error = state.outcome.exception() if state.outcome is not None else None
    if not isinstance(error, ApiError):
        raise AssertionError(f"a retry without an API error: {error!r}")
    return error
