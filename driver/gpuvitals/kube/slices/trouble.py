"""Why the stored slices are not what they should be: for the log, for readiness, and once a cause as an event."""

import logging
from collections import Counter
from collections.abc import Callable

from gpuvitals.kube.cause_log import CauseLog
from gpuvitals.kube.errors import ApiError, Invalid, Refused

log = logging.getLogger(__name__)

_BROKEN_ANSWERS = 3
"""So many answers 5xx, or of a proxy, of one cause before an event: a server that restarts gives one or two."""
_PASSING = (0, 401, 409, 429)


class SliceTrouble:
    """Used by the writer's thread; `text` may be read by any. `announce` gets each cause once until a success."""

    def __init__(self, announce: Callable[[str], None]) -> None:
        self._announce = announce
        self._log = CauseLog(log, "slices not written")
        self._announced: set[str] = set()
        self._broken: Counter[str] = Counter()
        self.text = ""

    def failed(self, error: ApiError, seconds: float) -> None:
        """Takes a failed write; the next try comes in `seconds`."""
        self._log.failed(error, again_in=round(seconds, 1))
        self.text = str(error)
        if error.status not in _PASSING:
            self._broken[error.cause] += 1
        is_lasting = isinstance(error, (Refused, Invalid)) or self._broken[error.cause] >= _BROKEN_ANSWERS
        if is_lasting and error.cause not in self._announced:
            self._announced.add(error.cause)
            self._announce(str(error))

    def ended(self) -> None:
        """Everything is stored."""
        self.text = ""
        self._announced.clear()
        self._broken.clear()
