"""Rate limit for undoing foreign changes, so that two writers that disagree do not overload the API server. Pure."""


class RepairBudget:
    """A token bucket: `burst` repairs at once, then one in `seconds`."""

    def __init__(self, *, burst: int = 5, seconds: float = 1.0) -> None:
        self._burst = burst
        self._seconds = seconds
        self._tokens = float(burst)
        self._at: float | None = None

    def take(self, now: float) -> float:
        """Takes a token for a repair. Returns 0 on success, else the seconds until a token is free. `now` is monotonic."""
        wait = self.peek(now)
        if wait == 0:
            self._tokens -= 1
        return wait

    def peek(self, now: float) -> float:
        """The seconds until a token is free; takes none."""
        if self._at is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._at) / self._seconds)
        self._at = now
        return 0.0 if self._tokens >= 1 else (1 - self._tokens) * self._seconds


class QuarrelBudget:
    """Two buckets: five repairs at once and then one a second, but one in ten seconds of a lasting quarrel.

    Each repair wakes every scheduler of the cluster, and a writer that undoes it at once never stops by itself.
    """

    def __init__(self) -> None:
        self._fast = RepairBudget()
        self._slow = RepairBudget(burst=30, seconds=10.0)

    def take(self, now: float, *, is_new: bool) -> float:
        """As `RepairBudget.take`. A pool that `is_new` was never stored, and waits at most a second."""
        if is_new:
            return self._fast.take(now)
        wait = self._slow.peek(now)
        if wait > 0:
            return wait
        wait = self._fast.take(now)
        if wait == 0:
            self._slow.take(now)
        return wait
