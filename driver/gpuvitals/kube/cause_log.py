"""Log lines of failed API calls: one a cause and minute, however many objects and attempts fail for it."""

import logging
import threading
import time

from gpuvitals.kube.errors import ApiError
from gpuvitals.observability.logs import keys

_QUIET_SECONDS = 60.0
_MAX_CAUSES = 32


class CauseLog:
    """The failures of one loop. Thread safe.

    Two causes that alternate are two lines a minute. Beyond `_MAX_CAUSES` different ones the rest share a line.
    """

    def __init__(
        self, log: logging.Logger, what: str, *, level: int = logging.WARNING, seconds: float = _QUIET_SECONDS
    ) -> None:
        self._log = log
        self._what = what
        self._level = level
        self._seconds = seconds
        self._lock = threading.Lock()
        self._logged: dict[str, tuple[float, int]] = {}

    def failed(self, error: ApiError, **fields: object) -> None:
        """Logs the error where its cause was not logged within the last minute."""
        self.happened(error.cause, error=str(error), **fields)

    def happened(self, cause: str, **fields: object) -> None:
        """Logs the fields where this cause was not logged within the last minute."""
        unlogged = self._take(cause, time.monotonic())
        if unlogged is None:
            return
        more = {"unlogged": unlogged} if unlogged else {}
        self._log.log(self._level, self._what, extra=keys(**fields, **more))

    def _take(self, cause: str, now: float) -> int | None:
        """How many of this cause went unlogged before this line; None for no line now."""
        with self._lock:
            if cause not in self._logged and len(self._logged) >= _MAX_CAUSES:
                self._logged = {
                    known: (at, count)
                    for known, (at, count) in self._logged.items()
                    if now - at < self._seconds
                }
                cause = cause if len(self._logged) < _MAX_CAUSES else ""
            at, count = self._logged.get(cause, (now - self._seconds, 0))
            if now - at < self._seconds:
                self._logged[cause] = (at, count + 1)
                return None
            self._logged[cause] = (now, 0)
            return count
