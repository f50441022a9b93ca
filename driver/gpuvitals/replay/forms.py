"""Which form a log has, told from its first bytes. Pure."""

import re
from enum import Enum

from gpuvitals.replay.documents import is_wrapped
from gpuvitals.replay.verbose import is_verbose

_EXPORT = (b"__CURSOR=", b"__REALTIME_TIMESTAMP=", b"_BOOT_ID=", b"__SEQNUM=")
_JOURNAL_FILE = b"LPKSHHRH"
"""Source: systemd, src/libsystemd/sd-journal/journal-def.h."""
_OBJECT = re.compile(rb'\{\s*(?:["}]|\Z)')
_ARRAY = re.compile(rb"\[\s*(?:\{|\Z)")


class Form(Enum):
    """How the entries of a log are kept apart. DOCUMENT: as JSON that spans lines; OBJECTS: one JSON object a line."""

    EXPORT = "export"
    VERBOSE = "verbose"
    OBJECTS = "objects"
    DOCUMENT = "document"
    JOURNAL_FILE = "journal file"
    TEXT = "text"


def form_of(first: bytes) -> Form:
    """The form of a log that begins so. What is given has the first line whole, unless that is very long."""
    if first.startswith(_EXPORT):
        return Form.EXPORT
    if first.startswith(_JOURNAL_FILE):
        return Form.JOURNAL_FILE
    start = first.lstrip(b"\x1e \t\r\n")
    if start.startswith(b"data: {"):
        return Form.OBJECTS
    if _ARRAY.match(start):
        return Form.DOCUMENT
    if _OBJECT.match(start):
        # An object that spans lines leaves its first one open.
        is_open = start.partition(b"\n")[0].rstrip().endswith((b"{", b"[", b","))
        return Form.DOCUMENT if is_open or is_wrapped(start) else Form.OBJECTS
    lines = first.split(b"\n", 8)[:8]
    return Form.VERBOSE if any(is_verbose(line.rstrip(b"\r")) for line in lines) else Form.TEXT
