"""Failed writes of slices: logged, reported for readiness, and announced once for each cause."""

import logging
from collections import Counter

from gpuvitals.kube.cause_log import CauseLog
from gpuvitals.kube.errors import ApiError, Invalid, Refused
from gpuvitals.kube.slices.ports import SliceListener

log = logging.getLogger(__name__)

_BROKEN_ANSWERS = 3
"""Answers 5xx, or of a proxy, of one cause before it is announced: a server that restarts gives one or two."""
_PASSING = (0, 401, 409, 429)


class WriteFailures:
    """Used by the writer's thread; any thread may read `text`. Each cause is announced once until a success.

    `text` is the last error, empty after a success.
    """

    def __init__(self, listener: SliceListener) -> None:
        self._listener = listener
        self._log = CauseLog(log, "slices not written")
        self._announced: set[str] = set()
        self._broken: Counter[str] = Counter()
        self.text = ""

    def failed(self, error: ApiError, seconds: float) -> None:
        """Records a failed write; the next attempt follows in `seconds`."""
        self._log.failed(error, again_in=round(seconds, 1))
        self.text = str(error)
        if error.status not in _PASSING:
            self._broken[error.cause] += 1
        is_lasting = isinstance(error, (Refused, Invalid)) or self._broken[error.cause] >= _BROKEN_ANSWERS
        if is_lasting and error.cause not in self._announced:
            self._announced.add(error.cause)
            self._listener.slices_refused(str(error))

    def clear(self) -> None:
        """Records that everything is stored."""
        self.text = ""
        self._announced.clear()
        self._broken.clear()
