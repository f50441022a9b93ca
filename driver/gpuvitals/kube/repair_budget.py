"""How often foreign changes are undone, so that two writers who disagree don't wear the API server out. Pure."""


class RepairBudget:
    """A token bucket: `burst` repairs at once, then one in `seconds`."""

    def __init__(self, *, burst: int = 5, seconds: float = 1.0) -> None:
        self._burst = burst
        self._seconds = seconds
        self._tokens = float(burst)
        self._at: float | None = None

    def take(self, now: float) -> float:
        """0 where a repair may be made now, which then counts; else the seconds until one may. `now` is monotonic."""
        if self._at is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._at) / self._seconds)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) * self._seconds
