"""Kernel lines out of structured logs: the journal's fields, dmesg -J, cloud logging, log shippers. Pure.

    {"_TRANSPORT":"kernel","SYSLOG_FACILITY":"0","__REALTIME_TIMESTAMP":"1764000000123456","MESSAGE":"NVRM: Xid ..."}
    {"pri":3,"time":502.133400,"msg":"NVRM: Xid ..."}                                                    dmesg -J
    {"jsonPayload":{"MESSAGE":"NVRM: Xid ..."},"timestamp":"2026-11-24T10:00:00.1Z"}                     Google Cloud
    {"log":"[  502.133400] NVRM: Xid ...\\n","stream":"stdout","time":"2026-11-24T10:00:00.1Z"}           Docker

The journal keeps apart what came over the kernel's ring (`_TRANSPORT`) and, there, which facility wrote it. Where an
entry has no such field, it does not say who wrote its text.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from gpuvitals.replay.log_line import AnyLine, LogLine, MalformedLine, OtherLine, escaped, log_line
from gpuvitals.replay.timestamps import Stamp, wall_stamp
from gpuvitals.signals.kmsg.record import MAX_RECORD, KmsgRecord

Value = str | bytes | float
_TEXTS = (
    "MESSAGE",
    "message",
    "msg",
    "log",
    "textPayload",
    "text",
    "line",
    "body",
    "@message",
    "short_message",
)
_TIMES = ("_SOURCE_REALTIME_TIMESTAMP", "__REALTIME_TIMESTAMP", "timestamp", "@timestamp", "time", "date", "datetime",
          "ts", "_time", "receiveTimestamp")  # fmt: skip
_FACILITIES = (
    "SYSLOG_FACILITY",
    "facility",
    "fac",
    "syslog_facility",
    "facility_label",
    "Facility",
    "log.syslog.facility.code",
    "syslog.facility",
)
_TRANSPORT_NAMES = ("_TRANSPORT", "_transport", "transport", "systemd.transport")
_NAMES = (
    "SYSLOG_IDENTIFIER",
    "ident",
    "identifier",
    "syslog_identifier",
    "appname",
    "app_name",
    "program",
    "programname",
)
_HOSTS = ("_HOSTNAME", "hostname", "host", "node_name", "nodeName")
_OF_A_PROCESS = ("_PID", "_COMM", "_EXE", "_CMDLINE", "_SYSTEMD_UNIT")
"""The journal adds these to what a process wrote. Source: systemd, systemd.journal-fields(7)."""
_TRANSPORTS = frozenset({"audit", "driver", "syslog", "journal", "stdout", "kernel"})
"""Source: systemd, systemd.journal-fields(7)."""
_KERNEL = frozenset({"0", "kern", "kernel"})
_SHIPPED_DATE = re.compile(rb"\[([0-9]{9,11}\.[0-9]{1,9})[,\]]")
_DEEPEST = 4
_MILLISECONDS, _MICROSECONDS, _NANOSECONDS = 1e11, 1e14, 1e17
"""Numbers beyond these count in smaller units than seconds."""
_FIRST_DATE = 1e8
"""Seconds below this count from boot, not from 1970."""


@dataclass(frozen=True, slots=True)
class JournalLine:
    """An entry of a structured log, and the boot that it is of, empty where it is not told.

    `line` is None where the entry does not say who wrote it, and its text has no form in which kernel lines are kept.
    """

    line: AnyLine | None
    boot: str
    stamp: Stamp | None


def json_object(line: bytes) -> dict[str, object]:
    """The object on one line. Raises ValueError saying what is wrong with it."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON: {str(error)[:100].lower()}") from error
    if not isinstance(found, dict):
        raise ValueError("is JSON, but no object")
    return found


def from_json(entry: Mapping[str, object], latest: datetime) -> JournalLine | None:
    """The line of one JSON entry, None where it has no text. Raises ValueError naming the field.

    A message of the journal that is no UTF-8 comes as a list of numbers, a field that was too large as null.
    """
    return _journal_line(dict(_fields(entry)), latest)


def embedded(line: bytes, latest: datetime) -> JournalLine | None:
    """The entry of a line that has an object behind what a shipper puts in front; None where there is none to read.

    Fluent Bit's own output has `=>` between the names and their values.
    """
    start, end = line.find(b'{"'), line.rfind(b"}") + 1
    if start < 0 or end <= start:
        return None
    text = line[start:end]
    if b'"=>' in text:
        text = b"{" + text.rpartition(b"{")[2].replace(b'"=>', b'":')
    try:
        found = from_json(json_object(text), latest)
    except ValueError:
        return None
    date = _SHIPPED_DATE.search(line[:start])
    if found is None or found.stamp is not None or date is None:
        return found
    stamp = Stamp(float(date[1]), is_wall=True)
    return replace(found, stamp=stamp, line=None if found.line is None else replace(found.line, stamp=stamp))


def from_export(record: Mapping[bytes, bytes], latest: datetime) -> JournalLine | None:
    """The line of one exported record, None where it has no text. Raises ValueError."""
    fields: dict[str, Value] = {
        key.decode(errors="replace"): value if key == b"MESSAGE" else value.decode(errors="replace")
        for key, value in record.items()
    }
    return _journal_line(fields, latest)


def realtime_stamp(text: str | None) -> Stamp | None:
    """The stamp of a `__REALTIME_TIMESTAMP`, which counts microseconds. Raises ValueError."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ValueError(f"__REALTIME_TIMESTAMP: {text[:40]!r} is no number of microseconds")
    return Stamp(int(text) / 1e6, is_wall=True)


def entry_stamp(entry: Mapping[str, object]) -> Stamp | None:
    """When an entry was written, None where it does not say so. Raises ValueError."""
    return _stamp(dict(_fields(entry)))


def _fields(entry: Mapping[str, object], depth: int = 0) -> Iterator[tuple[str, Value]]:
    """The values of an entry and of the objects in it, those further out last: they win."""
    for value in entry.values():
        if isinstance(value, dict) and depth < _DEEPEST:
            yield from _fields(value, depth + 1)
    facility = entry.get("facility")
    if isinstance(facility, dict):
        # Elastic's schema has {"facility": {"code": 0, "name": "kern"}}.
        yield from (
            ("facility", facility[key])
            for key in ("name", "code")
            if isinstance(facility.get(key), str | int)
        )
    for key, value in entry.items():
        if isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool)):
            yield key, value
        elif isinstance(value, list) and value and all(isinstance(each, str) for each in value):
            # Search engines give each field as a list of its values.
            yield key, "\n".join(value)
        elif isinstance(value, list) and key in _TEXTS:
            if not all(isinstance(each, int) and 0 <= each <= 255 for each in value):
                raise ValueError(f"{key}: is a list, but not of bytes")
            yield key, bytes(value)


def _journal_line(fields: Mapping[str, Value], latest: datetime) -> JournalLine | None:
    text = _text(fields)
    if text is None:
        return None
    boot = str(fields.get("_BOOT_ID", ""))
    stamp = _stamp(fields)
    transport = _transport(fields)
    facility = _facility(fields)
    name = _first(fields, _NAMES)
    is_kernels = transport == "kernel" or (transport is None and facility == 0)
    is_others = transport not in (None, "kernel") or (
        not is_kernels
        and (any(key in fields for key in _OF_A_PROCESS) or str(name or "kernel") not in _KERNEL)
    )
    if is_others:
        return JournalLine(OtherLine(stamp), boot, stamp)
    # What a shipper of files sends has the form of the file's own lines.
    inner = log_line(text, latest) if transport is None else None
    host = str(_first(fields, _HOSTS) or "")
    if isinstance(inner, LogLine):
        shipped = replace(_shipped(inner, stamp, facility), host=host or inner.host)
        return JournalLine(shipped, boot, stamp)
    if inner is not None:
        return JournalLine(replace(inner, stamp=stamp or inner.stamp), boot, stamp)
    if not is_kernels and name is None:
        return JournalLine(None, boot, stamp)
    record = _record(text, facility, stamp, is_signed=transport == "kernel")
    found = replace(record, host=host) if isinstance(record, LogLine) else record
    return JournalLine(found, boot, stamp)


def _shipped(inner: LogLine, stamp: Stamp | None, facility: int | None) -> LogLine:
    """The line with what the entry around it tells."""
    uptime = inner.uptime
    if inner.stamp is not None and not inner.stamp.is_wall and stamp is not None:
        uptime = inner.stamp.seconds
    return replace(
        inner,
        record=inner.record if facility is None else replace(inner.record, facility=facility),
        stamp=stamp or inner.stamp,
        uptime=uptime,
        is_dated=inner.is_dated or stamp is not None,
    )


def _record(text: bytes, facility: int | None, stamp: Stamp | None, *, is_signed: bool) -> AnyLine:
    # The three driver-load lines are one record, whose inner newlines the journal keeps and the kernel escapes.
    if len(text) > MAX_RECORD:
        return MalformedLine(stamp)
    record = KmsgRecord(facility or 0, 0, 0, escaped(text))
    return LogLine(record, stamp, is_signed=is_signed, is_dated=stamp is not None)


def _text(fields: Mapping[str, Value]) -> bytes | None:
    for key in _TEXTS:
        value = fields.get(key)
        if isinstance(value, bytes):
            return value.rstrip(b"\r\n")
        if isinstance(value, str):
            return value.encode(errors="replace").rstrip(b"\r\n")
        if value is not None:
            raise ValueError(f"{key}: is no text")
    return None


def _transport(fields: Mapping[str, Value]) -> Value | None:
    """How the entry came into the journal. Shippers write the field's name in their own way."""
    name = next((each for each in _TRANSPORT_NAMES if each in fields), None)
    if name is None or (name != "_TRANSPORT" and fields[name] not in _TRANSPORTS):
        return None
    return fields[name]


def _first(fields: Mapping[str, Value], names: tuple[str, ...]) -> Value | None:
    return next((fields[name] for name in names if name in fields), None)


def _facility(fields: Mapping[str, Value]) -> int | None:
    """The facility, None where it is not told. Of `pri`, which dmesg -J prints, only that it is not the kernel's."""
    value = _first(fields, _FACILITIES)
    if value is None:
        priority = fields.get("pri")
        return 1 if isinstance(priority, int | float) and priority > 7 else None
    text = str(value)
    if text in _KERNEL:
        return 0
    if text.isascii() and text.isdigit() and len(text) <= 4:
        return int(text)
    if "SYSLOG_FACILITY" in fields:
        raise ValueError(f"SYSLOG_FACILITY: {text[:40]!r} is no facility")
    return 1


def _stamp(fields: Mapping[str, Value]) -> Stamp | None:
    name = next((each for each in _TIMES if each in fields), None)
    if name is None:
        return None
    value = fields[name]
    if name.endswith("REALTIME_TIMESTAMP"):
        return realtime_stamp(str(value))
    if isinstance(value, bytes):
        return None
    text = str(value).strip()
    try:
        number = float(text)
    except ValueError:
        return wall_stamp(text)
    return _numbered(number)


def _numbered(number: float) -> Stamp | None:
    for limit, unit in ((_NANOSECONDS, 1e9), (_MICROSECONDS, 1e6), (_MILLISECONDS, 1e3)):
        if number > limit:
            return Stamp(number / unit, is_wall=True)
    return Stamp(number, is_wall=number > _FIRST_DATE) if number >= 0 else None
