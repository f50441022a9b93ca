"""Extracts kernel lines from structured logs: journal fields, dmesg -J, cloud logging, log shippers. Pure.

    {"_TRANSPORT":"kernel","SYSLOG_FACILITY":"0","__REALTIME_TIMESTAMP":"1764000000123456","MESSAGE":"NVRM: Xid ..."}
    {"pri":3,"time":502.133400,"msg":"NVRM: Xid ..."}                                                    dmesg -J
    {"jsonPayload":{"MESSAGE":"NVRM: Xid ..."},"timestamp":"2026-11-24T10:00:00.1Z"}                     Google Cloud
    {"log":"[  502.133400] NVRM: Xid ...\\n","stream":"stdout","time":"2026-11-24T10:00:00.1Z"}           Docker

The journal records the transport of each entry (`_TRANSPORT`) and, for the kernel ring buffer, the facility. An entry
without these fields does not identify its writer.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from gpuvitals.replay.log_line import LogLine, MalformedLine, OtherLine, ParsedLine, escaped, log_line
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
"""The journal adds these fields to entries written by a process. Source: systemd, systemd.journal-fields(7)."""
_TRANSPORTS = frozenset({"audit", "driver", "syslog", "journal", "stdout", "kernel"})
"""Source: systemd, systemd.journal-fields(7)."""
_KERNEL = frozenset({"0", "kern", "kernel"})
_SHIPPED_DATE = re.compile(rb"\[([0-9]{9,11}\.[0-9]{1,9})[,\]]")
_DEEPEST = 4
_MILLISECONDS, _MICROSECONDS, _NANOSECONDS = 1e11, 1e14, 1e17
"""Larger numbers are in milliseconds, microseconds or nanoseconds."""
_FIRST_DATE = 1e8
"""Smaller numbers are seconds since boot, not since 1970."""


@dataclass(frozen=True, slots=True)
class JournalLine:
    """An entry of a structured log, and its boot ID, empty if unknown.

    `line` is None if the entry does not identify its writer and its text has no known format of kernel lines.
    """

    line: ParsedLine | None
    boot: str
    stamp: Stamp | None


def json_object(line: bytes) -> dict[str, object]:
    """The JSON object on one line. Raises ValueError with the reason."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON: {str(error)[:100].lower()}") from error
    if not isinstance(found, dict):
        raise ValueError("is JSON, but not an object")
    return found


def from_json(entry: Mapping[str, object], latest: datetime) -> JournalLine | None:
    """The line of one JSON entry, None if it has no text. Raises ValueError naming the field.

    journalctl prints a message that is not UTF-8 as a list of numbers, and a field that is too large as null.
    """
    return _journal_line(dict(_fields(entry)), latest)


def embedded(line: bytes, latest: datetime) -> JournalLine | None:
    """The entry of a line with a JSON object after a log shipper's prefix; None if there is no such object.

    Fluent Bit's own output has `=>` between names and values.
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
    """The line of one exported record, None if it has no text. Raises ValueError."""
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
        raise ValueError(f"__REALTIME_TIMESTAMP: {text[:40]!r} is not a number of microseconds")
    return Stamp(int(text) / 1e6, is_wall=True)


def entry_stamp(entry: Mapping[str, object]) -> Stamp | None:
    """The time stamp of an entry, None if it has none. Raises ValueError."""
    return _stamp(dict(_fields(entry)))


def _fields(entry: Mapping[str, object], depth: int = 0) -> Iterator[tuple[str, Value]]:
    """The values of an entry and of its nested objects. Outer values come last, so they take precedence."""
    for value in entry.values():
        if isinstance(value, dict) and depth < _DEEPEST:
            yield from _fields(value, depth + 1)
    facility = entry.get("facility")
    if isinstance(facility, dict):
        # Elastic Common Schema: {"facility": {"code": 0, "name": "kern"}}.
        yield from (
            ("facility", facility[key])
            for key in ("name", "code")
            if isinstance(facility.get(key), str | int)
        )
    for key, value in entry.items():
        if isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool)):
            yield key, value
        elif isinstance(value, list) and value and all(isinstance(each, str) for each in value):
            # Search engines return each field as a list of values.
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
    is_kernel_form = transport == "kernel" or (transport is None and facility == 0)
    is_others = transport not in (None, "kernel") or (
        not is_kernel_form
        and (any(key in fields for key in _OF_A_PROCESS) or str(name or "kernel") not in _KERNEL)
    )
    if is_others:
        return JournalLine(OtherLine(stamp), boot, stamp)
    # A log shipper that reads files keeps the format of their lines.
    inner = log_line(text, latest) if transport is None else None
    host = str(_first(fields, _HOSTS) or "")
    if isinstance(inner, LogLine):
        shipped = replace(_shipped(inner, stamp, facility), host=host or inner.host)
        return JournalLine(shipped, boot, stamp)
    if inner is not None:
        return JournalLine(replace(inner, stamp=stamp or inner.stamp), boot, stamp)
    if not is_kernel_form and name is None:
        return JournalLine(None, boot, stamp)
    record = _record(text, facility, stamp, is_signed=transport == "kernel")
    found = replace(record, host=host) if isinstance(record, LogLine) else record
    return JournalLine(found, boot, stamp)


def _shipped(inner: LogLine, stamp: Stamp | None, facility: int | None) -> LogLine:
    """The line with time stamp and facility of the entry around it."""
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


def _record(text: bytes, facility: int | None, stamp: Stamp | None, *, is_signed: bool) -> ParsedLine:
    # The three driver-load lines are one record. The journal keeps its newlines, the kernel escapes them.
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
            raise ValueError(f"{key}: is not text")
    return None


def _transport(fields: Mapping[str, Value]) -> Value | None:
    """The transport of the entry. Log shippers spell the field's name differently."""
    name = next((each for each in _TRANSPORT_NAMES if each in fields), None)
    if name is None or (name != "_TRANSPORT" and fields[name] not in _TRANSPORTS):
        return None
    return fields[name]


def _first(fields: Mapping[str, Value], names: tuple[str, ...]) -> Value | None:
    return next((fields[name] for name in names if name in fields), None)


def _facility(fields: Mapping[str, Value]) -> int | None:
    """The facility, None if unknown. `pri`, printed by dmesg -J, only shows that the facility is not the kernel."""
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
        raise ValueError(f"SYSLOG_FACILITY: {text[:40]!r} is not a facility")
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
