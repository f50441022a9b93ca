"""Detects the format of a log from its first bytes. Pure."""

import re
from enum import Enum

from gpuvitals.replay.journal_verbose import is_verbose
from gpuvitals.replay.json_stream import is_wrapped

_EXPORT = (b"__CURSOR=", b"__REALTIME_TIMESTAMP=", b"_BOOT_ID=", b"__SEQNUM=")
_JOURNAL_FILE = b"LPKSHHRH"
"""Source: systemd, src/libsystemd/sd-journal/journal-def.h."""
_OBJECT = re.compile(rb'\{\s*(?:["}]|\Z)')
_ARRAY = re.compile(rb"\[\s*(?:\{|\Z)")


class LogFormat(Enum):
    """The format of a log. JSON_LINES: one object per line. JSON_DOCUMENT: JSON that spans lines."""

    EXPORT = "export"
    VERBOSE = "verbose"
    JSON_LINES = "objects"
    JSON_DOCUMENT = "document"
    JOURNAL_FILE = "journal file"
    TEXT = "text"


def detected_format(first: bytes) -> LogFormat:
    """The format of a log that begins with these bytes, which hold the whole first line unless it is very long."""
    if first.startswith(_EXPORT):
        return LogFormat.EXPORT
    if first.startswith(_JOURNAL_FILE):
        return LogFormat.JOURNAL_FILE
    start = first.lstrip(b"\x1e \t\r\n")
    if start.startswith(b"data: {"):
        return LogFormat.JSON_LINES
    if _ARRAY.match(start):
        return LogFormat.JSON_DOCUMENT
    if _OBJECT.match(start):
        # An object that spans lines ends its first line with an open bracket or a comma.
        is_open = start.partition(b"\n")[0].rstrip().endswith((b"{", b"[", b","))
        return LogFormat.JSON_DOCUMENT if is_open or is_wrapped(start) else LogFormat.JSON_LINES
    lines = first.split(b"\n", 8)[:8]
    return LogFormat.VERBOSE if any(is_verbose(line.rstrip(b"\r")) for line in lines) else LogFormat.TEXT
