"""Logs as events with keys: one event per change, none per poll.

`log.info("gpu left service", extra=keys(gpu=uuid, reason=reason))` prints one JSON object a line.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

_KEYS = "gpuvitals_keys"


def keys(**values: object) -> dict[str, object]:
    """The `extra=` of a log call. Values that JSON can't represent are printed with str()."""
    return {_KEYS: values}


class KeyValueFormatter(logging.Formatter):
    """Formats a record as one JSON line: time, level, logger, event, then the keys. Control bytes are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; a traceback is a string under `error`."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name.removeprefix("gpuvitals."),
            "event": record.getMessage(),
        }
        line.update(getattr(record, _KEYS, {}))
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """Sends every gpuvitals log of at least `level` to `stream` (stderr by default). Can be called again."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(KeyValueFormatter())
    root = logging.getLogger("gpuvitals")
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False
