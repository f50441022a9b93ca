"""Reports state files that can't be written: one event when it begins, and one when every file is written again."""

import logging
import threading
from pathlib import Path

from gpuvitals.inventory.event import EventSink
from gpuvitals.node.events import storage_event
from gpuvitals.observability.logs import keys

log = logging.getLogger(__name__)


class StorageReport:
    """Thread safe. Each writer of a state file reports how each of its saves ended."""

    def __init__(self, events: EventSink) -> None:
        self._events = events
        self._lock = threading.Lock()
        self._failing: dict[Path, str] = {}

    def failed(self, path: Path, error: Exception) -> None:
        """A save failed; the state is kept in memory, and the next save tries again."""
        with self._lock:
            is_first, is_new = not self._failing, path not in self._failing
            self._failing[path] = str(error)
        if is_new:
            log.error("state not saved", extra=keys(reason=str(error)))
        if is_first:
            self._events.emit(storage_event(str(error)))

    def saved(self, path: Path) -> None:
        """A save succeeded, or there was nothing to save."""
        with self._lock:
            if self._failing.pop(path, None) is None:
                return
            is_over = not self._failing
        log.info("state saved again", extra=keys(path=str(path)))
        if is_over:
            self._events.emit(storage_event(""))
