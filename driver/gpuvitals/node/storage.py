"""Reports state files that cannot be written: one event at the first failure, and one once every file is written again."""

import logging
import threading
from pathlib import Path

from gpuvitals.inventory.event import EventSink
from gpuvitals.node.events import storage_event
from gpuvitals.observability.logs import keys

log = logging.getLogger(__name__)


class StorageReport:
    """Collects the result of every save from the writers of state files. Thread safe."""

    def __init__(self, events: EventSink) -> None:
        self._events = events
        self._lock = threading.Lock()
        self._failing: dict[Path, str] = {}

    def failed(self, path: Path, error: Exception) -> None:
        """Records a failed save. The state stays in memory, and the next save tries again."""
        with self._lock:
            is_first, is_new = not self._failing, path not in self._failing
            self._failing[path] = str(error)
        if is_new:
            log.error("state not saved", extra=keys(reason=str(error)))
        if is_first:
            self._events.emit(storage_event(str(error)))

    def saved(self, path: Path) -> None:
        """Records a successful save, or that nothing had to be saved."""
        with self._lock:
            if self._failing.pop(path, None) is None:
                return
            is_over = not self._failing
        log.info("state saved again", extra=keys(path=str(path)))
        if is_over:
            self._events.emit(storage_event(""))
