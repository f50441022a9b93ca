"""Kernel records out of the journal, from `journalctl -o json` and `-o export`: only what the kernel itself wrote. Pure.

    {"_TRANSPORT":"kernel","SYSLOG_FACILITY":"0","__REALTIME_TIMESTAMP":"1764000000123456","MESSAGE":"NVRM: Xid ..."}

The journal keeps apart what came over the kernel's ring (`_TRANSPORT`) and, there, which facility wrote it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from gpuvitals.replay.log_line import LogLine, MalformedLine
from gpuvitals.replay.stamps import Stamp
from gpuvitals.signals.kmsg_record import MAX_RECORD, KmsgRecord

_PRINTABLE = range(0x20, 0x7F)


@dataclass(frozen=True, slots=True)
class JournalLine:
    """A kernel record of the journal, and the boot that it is of."""

    line: LogLine | MalformedLine
    boot: str


def json_object(line: bytes) -> dict[str, object]:
    """The object on one line. Raises ValueError saying what is wrong with it."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON: {str(error)[:100].lower()}") from error
    if not isinstance(found, dict):
        raise ValueError("is JSON, but no object")
    return found


def from_json(entry: Mapping[str, object]) -> JournalLine | None:
    """The kernel record of one JSON entry, None where it is another program's. Raises ValueError naming the field.

    A message that is no UTF-8 comes as a list of numbers, a field that was too large as null.
    """
    message = entry.get("MESSAGE")
    if isinstance(message, list):
        if not all(isinstance(each, int) and 0 <= each <= 255 for each in message):
            raise ValueError("MESSAGE: is a list, but not of bytes")
        text = bytes(message)
    elif isinstance(message, str):
        text = message.encode(errors="replace")
    elif message is None:
        return None
    else:
        raise ValueError("MESSAGE: is no text")
    return _journal_line({key: value for key, value in entry.items() if isinstance(value, str)}, text)


def from_export(record: Mapping[bytes, bytes]) -> JournalLine | None:
    """The kernel record of one exported record, None where it is another program's. Raises ValueError."""
    names = (b"_TRANSPORT", b"SYSLOG_FACILITY", b"__REALTIME_TIMESTAMP", b"_BOOT_ID")
    fields = {
        name.decode(): record[name].decode("ascii", errors="replace") for name in names if name in record
    }
    message = record.get(b"MESSAGE")
    return None if message is None else _journal_line(fields, message)


def realtime_stamp(text: str | None) -> Stamp | None:
    """The stamp of a `__REALTIME_TIMESTAMP`, which counts microseconds. Raises ValueError."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ValueError(f"__REALTIME_TIMESTAMP: {text[:40]!r} is no number of microseconds")
    return Stamp(int(text) / 1e6, is_wall=True)


def _journal_line(fields: Mapping[str, str], message: bytes) -> JournalLine | None:
    if fields.get("_TRANSPORT") != "kernel":
        return None
    stamp = realtime_stamp(fields.get("__REALTIME_TIMESTAMP"))
    facility = _number(fields, "SYSLOG_FACILITY", 0)
    boot = fields.get("_BOOT_ID", "")
    # The three driver-load lines are one record, whose inner newlines the journal keeps and the kernel escapes.
    text = message.replace(b"\n", b"\\x0a")
    if len(text) > MAX_RECORD or any(byte not in _PRINTABLE for byte in text):
        return JournalLine(MalformedLine(stamp), boot)
    return JournalLine(LogLine(KmsgRecord(facility, 0, 0, text.decode("ascii")), stamp), boot)


def _number(fields: Mapping[str, str], name: str, default: int) -> int:
    text = fields.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 4):
        raise ValueError(f"{name}: {text[:40]!r} is no facility")
    return int(text)
