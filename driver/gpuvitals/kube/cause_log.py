"""Log lines of failed API calls: one for each cause and minute, whatever the number of objects and attempts."""

import logging
import threading
import time

from gpuvitals.kube.errors import ApiError
from gpuvitals.observability.logs import keys

_QUIET_SECONDS = 60.0
_MAX_CAUSES = 32


class CauseLog:
    """Logs the failures of one loop under the message `event`. Thread safe.

    Two causes that alternate make two lines a minute. Beyond `_MAX_CAUSES` different ones the rest share a line.
    """

    def __init__(
        self,
        log: logging.Logger,
        event: str,
        *,
        level: int = logging.WARNING,
        seconds: float = _QUIET_SECONDS,
    ) -> None:
        self._log = log
        self._event = event
        self._level = level
        self._seconds = seconds
        self._lock = threading.Lock()
        self._logged: dict[str, tuple[float, int]] = {}

    def failed(self, error: ApiError, **fields: object) -> None:
        """Logs the error, unless its cause was logged within the last minute."""
        self.happened(error.cause, error=str(error), **fields)

    def happened(self, cause: str, **fields: object) -> None:
        """Logs the fields, unless this cause was logged within the last minute."""
        unlogged = self._take(cause, time.monotonic())
        if unlogged is None:
            return
        # The number of failures without a line of their own since the last line.
        more = {"unlogged": unlogged} if unlogged else {}
        self._log.log(self._level, self._event, extra=keys(**fields, **more))

    def _take(self, cause: str, now: float) -> int | None:
        """Counts a failure. Returns the unlogged failures of this cause before a line that is due; None for no line."""
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
