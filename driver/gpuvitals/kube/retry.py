"""When a failed step is tried again: one policy for each purpose.

Every loop of this package runs its step through `retrying`, or asks a `Backoff` itself where its objects fail one by
one. Back-off, Retry-After, the stop event and the metric are decided here and nowhere else.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import tenacity

from gpuvitals.kube.errors import ApiError, NotFound, Refused, Retryable
from gpuvitals.observability.metrics import NodeMetrics

_AWAY = (0, 502, 503, 504)
"""No answer, and the answers of a load balancer whose servers are gone."""
_LONG_OUTAGE_ATTEMPTS = 30
_MAX_DOUBLINGS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Doubles from `first_seconds` with jitter, up to a cap. Attempts are counted for each kind of error apart.

    The cap is `refused_cap_seconds` for a missing right or kind, else `cap_seconds`. While something urgent waits it is
    seconds: `urgent_cap_seconds` where no server answers (twice that in a long outage), `urgent_broken_cap_seconds` for
    an answered 500 (a dead webhook), `urgent_refused_cap_seconds` for everything else. A Retry-After above
    `retry_after_cap_seconds` is a proxy's mistake and is cut to it.
    `attempts` None tries whatever went wrong until the stop event; a number tries only what is Retryable.
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
"""For what is needed before the first slice, beside the slices themselves: a fleet that starts anew must not ask for all of
it every second."""
SLICES = RetryPolicy(first_seconds=0.05, retry_after_cap_seconds=5.0)
CLAIMS = RetryPolicy(retry_after_cap_seconds=15.0)
EVENTS = RetryPolicy(first_seconds=0.5, cap_seconds=10.0, refused_cap_seconds=10.0)


class Backoff:
    """How long to wait before the next try of one step. One thread uses it."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._failures: Counter[str] = Counter()
        self._random = random.Random()

    def succeeded(self) -> None:
        """Begins to count anew."""
        self._failures.clear()

    def seconds(self, error: ApiError, *, urgent: bool = False) -> float:
        """Takes a failure; the seconds until the next try.

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
        # Later by a little, never sooner: a fleet that was told the same second must not return in it. A server that
        # names 0 seconds again and again is not asked in a hot loop.
        named = min(error.retry_after_seconds, policy.retry_after_cap_seconds)
        return max(own, named + self._random.uniform(0, policy.first_seconds))

    def _cap(self, error: ApiError) -> float:
        is_refused = isinstance(error, (Refused, NotFound))
        return self._policy.refused_cap_seconds if is_refused else self._policy.cap_seconds

    def _urgent_cap(self, error: ApiError, count: int) -> float:
        policy = self._policy
        if error.status in _AWAY:
            return policy.urgent_cap_seconds * (1 if count <= _LONG_OUTAGE_ATTEMPTS else 2)
        if error.status >= 500:
            return policy.urgent_broken_cap_seconds
        return policy.urgent_refused_cap_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """The parts of a loop that its policy uses.

    `urgent` tells whether something waits; `failed` gets each error and the seconds until the next try; `sleep` waits,
    and may return early where there is news.
    """

    stop: threading.Event
    metrics: NodeMetrics | None
    failed: Callable[[ApiError, float], None]
    urgent: Callable[[], bool] = lambda: False
    sleep: Callable[[float], None] | None = None


def retrying(policy: RetryPolicy, loop: Retries) -> tenacity.Retrying:
    """Calls a step until it succeeds, the attempts are used up, or the loop stops; then the last ApiError is raised.

    One thread uses it.
    """
    given_up = tenacity.stop_when_event_set(loop.stop)

    def before(state: tenacity.RetryCallState) -> None:
        error = _error(state)
        if loop.metrics is not None:
            loop.metrics.api_retries.labels(code=str(error.status)).inc()
        loop.failed(error, state.upcoming_sleep)

    return tenacity.Retrying(
        sleep=loop.sleep or tenacity.sleep_using_event(loop.stop),
        stop=given_up if policy.attempts is None else given_up | tenacity.stop_after_attempt(policy.attempts),
        wait=_Wait(policy, loop.urgent),
        retry=tenacity.retry_if_exception_type(ApiError if policy.attempts is None else Retryable),
        before_sleep=before,
        reraise=True,
    )


class _Wait(tenacity.wait.wait_base):
    def __init__(self, policy: RetryPolicy, urgent: Callable[[], bool]) -> None:
        self._backoff = Backoff(policy)
        self._urgent = urgent

    def __call__(self, state: tenacity.RetryCallState) -> float:
        if state.attempt_number == 1:
            self._backoff.succeeded()
        return self._backoff.seconds(_error(state), urgent=self._urgent())


def _error(state: tenacity.RetryCallState) -> ApiError:
    error = state.outcome.exception() if state.outcome is not None else None
    if not isinstance(error, ApiError):
        raise AssertionError(f"retry asked without an API error: {error!r}")
    return error
