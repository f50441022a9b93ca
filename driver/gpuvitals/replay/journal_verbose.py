"""Parses `journalctl -o verbose`: a line with date and cursor, then one field per line, indented by 4 spaces. Pure.

Tue 2026-11-24 10:00:00.123456 UTC [s=0b1c;i=5;b=9a3f;m=1a2b;t=6b;x=7c]
    _TRANSPORT=kernel
    MESSAGE=NVRM: Xid ...
"""

import re
from collections.abc import Iterable, Iterator

_HEAD = re.compile(
    rb"(?P<stamp>[^\[\n]{10,80}) \[s=[0-9a-f]+;i=[0-9a-f]+;(?:b=(?P<boot>[0-9a-f]+))?[^\]\n]*\]\s*\Z"
)
_FIELD = re.compile(rb" {4}(?P<key>[A-Z0-9_]{1,64})=(?P<value>.*)\Z", re.DOTALL)
_MAX_FIELDS = 256
_MAX_VALUE = 1 << 16


def is_verbose(line: bytes) -> bool:
    """Whether the line is the first of an entry."""
    return _HEAD.match(line) is not None


def verbose_entries(lines: Iterable[bytes]) -> Iterator[tuple[int, dict[str, object]]]:
    """Each entry with the 1-based number of its first line. The date of that line is the field `timestamp`."""
    fields: dict[str, object] = {}
    began, last = 1, ""
    for number, line in enumerate(lines, start=1):
        if head := _HEAD.match(line):
            if fields:
                yield began, fields
            began, last = number, ""
            fields = {
                "timestamp": head["stamp"].decode(errors="replace"),
                "_BOOT_ID": (head["boot"] or b"").decode(),
            }
        elif (field := _FIELD.match(line)) and len(fields) < _MAX_FIELDS:
            last = field["key"].decode()
            fields[last] = field["value"].decode(errors="backslashreplace")[:_MAX_VALUE]
        elif last and line.startswith(b"     "):
            # Continuation lines of a value are indented below its first line.
            fields[last] = f"{fields[last]}\n{line.strip().decode(errors='backslashreplace')}"[:_MAX_VALUE]
    if fields:
        yield began, fields
