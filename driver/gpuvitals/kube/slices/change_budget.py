"""Rate limit of slice writes that change no device's service. Pure.

Each write of a slice wakes every scheduler of the cluster. This limit holds for every setting and for noisy readings.
"""

CHANGE_SECONDS = 60.0
_BURST = 4


class ChangeBudget:
    """A token bucket with one token a minute, used by one thread.

    A fault that a GPU in service gains or loses takes a token at once, up to four in a burst. Every other change (an
    unreadable GPU, a score) also keeps a minute of distance to the last such write, so noise makes at most one write a
    minute. Writes that isolate a device or return it to service have no such limit.
    """

    def __init__(self, *, burst: int = _BURST, seconds: float = CHANGE_SECONDS) -> None:
        self._burst = burst
        self._seconds = seconds
        self._tokens = float(burst)
        self._at: float | None = None
        self._taken_at: float | None = None

    def take(self, now: float, *, is_fault: bool) -> float:
        """Takes a token for a write. Returns 0 on success, else the seconds until a token is free. `now` is monotonic."""
        if self._at is not None:
            self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) / self._seconds)
        self._at = now
        wait = (1 - self._tokens) * self._seconds
        if not is_fault and self._taken_at is not None:
            wait = max(wait, self._taken_at + self._seconds - now)
        if wait > 1e-6:
            return wait
        self._tokens -= 1
        self._taken_at = now
        return 0.0
