"""Parses one line of a text log, in any format that holds kernel lines, into a kernel record. Pure.

    4,4102,502133400411,c;NVRM: Xid ...                                  /dev/kmsg
    [  502.133400] NVRM: Xid ...                                         dmesg; also -T, -x, -r, -d, --time-format iso
    2026-11-24T10:00:00.123456+00:00 node-7 kernel: [  502.1] NVRM: ...  kern.log, journalctl -o short-iso
    Nov 24 10:00:00 node-7 kernel: NVRM: Xid ...                         kern.log of old, journalctl; also without a host
    2026-11-24T10:00:00.123Z In(182) vmkernel: cpu1:2097999)NVRM: ...    vmkernel.log
    kernel: NVRM: Xid ...   NVRM: Xid ...                                without time stamps

`prefixes` parses the text that tools add in front of these. A syslog daemon adds the tag `kernel:` to lines that it attributes to
the kernel; any process that can write to the daemon can forge it. The records of /dev/kmsg, `dmesg -r`, `dmesg -x` and
the journal's fields identify the writer of a line.
"""

import re
from dataclasses import dataclass, replace
from datetime import datetime

from gpuvitals.replay.driver_markers import KERNEL_NAMES, is_program_line
from gpuvitals.replay.prefixes import (
    COLOUR,
    OTHER_FACILITY,
    LinePrefix,
    has_facility,
    has_grep_prefix,
    line_prefix,
)
from gpuvitals.replay.timestamps import BOOT, Stamp, Stamped, stamp_at_start, wall_stamp
from gpuvitals.signals.kmsg.record import DRIVER_PREFIXES, MAX_RECORD, KmsgRecord, kmsg_record

BOOT_TEXT = "Linux version "
"""Start of the first record of every boot."""
LOAD_TEXT = "NVRM: loading NVIDIA"
"""Start of the line that the driver prints at each load."""

_KERNEL_TAG = re.compile(
    rb"(?:[A-Z][a-z]\([0-9]{1,4}\) )?(?:kern\.[a-z]+ )?"
    rb"(?:(?P<host>[^ ]{0,254}[^ :\]]) (?:(?P=host)[^ :\]]* )?)?(?:(?P<facility>[a-z]+[0-7]?)\.[a-z]+ )?"
    rb"(?:kernel|vmkernel|vmkwarning|vmkalert)(?:\[[0-9]{1,10}\])? ?: ?(?:kernel: ?)?"
)
_VMKERNEL = re.compile(rb"cpu[0-9]{1,4}:[0-9]{1,10}(?: opID=[^ )]{1,64})?\)(?:WARNING: |ALERT: )?")
_LABELS = re.compile(rb'\{[A-Za-z_]+="[^\n]{0,1000}?"\} ')
"""Labels of Loki, as logcli prints them."""
_REPEATED = re.compile(rb"message repeated [0-9]{1,9} times: \[ ?(?P<text>.*)\]\Z", re.DOTALL)
"""Source: rsyslog, $RepeatedMsgReduction."""
_LEVEL = re.compile(rb"<[0-9]{1,4}>")
_KMSG = re.compile(rb"[0-9]{1,4},[0-9]{1,20},[0-9]{1,20},[-c+][,;]")
_STARTS = (*(prefix.encode() for prefix in DRIVER_PREFIXES), BOOT_TEXT.encode(), b"pcieport ")
"""Start of lines that count as the kernel's even without a tag: driver lines, the first boot line, PCIe port lines."""
_LOAD_END = re.compile(rb"NVRM: fallen off the bus and is not responding to commands[\x20-\x7e]*")
_UNPRINTABLE = re.compile(rb"[^\x20-\x7e]")
_ESCAPED_NEWLINE = b"#012"
"""An escaped newline within a message. Source: rsyslog, EscapeControlCharactersOnReceive."""
_KERNEL_FACILITY = b"kern"
_NO_BREAK_SPACE = "\N{NO-BREAK SPACE}".encode()
"""Web pages and mail programs insert it in place of a space."""
_NO_NAME = b"-"
"""Source: RFC 5424, NILVALUE."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A kernel record with its time stamp, None if the line has none. Only lines of /dev/kmsg have a `sequence`.

    `is_signed`: the format identifies the kernel or another facility as the writer. `uptime` is the seconds since boot
    if the line has them beside a date. `is_dated`: the line has a time stamp, even if its date can't be parsed. `host`
    is the node that the line names, or empty.
    """

    record: KmsgRecord
    stamp: Stamp | None
    sequence: int | None = None
    is_signed: bool = False
    uptime: float | None = None
    is_dated: bool = True
    host: str = ""


@dataclass(frozen=True, slots=True)
class MalformedLine:
    """A line in a known format with an invalid record: its header is damaged, or it is too long."""

    stamp: Stamp | None


@dataclass(frozen=True, slots=True)
class OtherLine:
    """A line in a known format that another program wrote. `is_named`: the line names that program."""

    stamp: Stamp | None
    is_named: bool = True


ParsedLine = LogLine | MalformedLine | OtherLine


def log_line(line: bytes, latest: datetime, *, listed: bool = False) -> ParsedLine | None:
    """The parsed line; None if its format is unknown.

    `latest` determines the year of a time stamp without one. `listed`: lines of the file have grep's prefixes.
    """
    line = COLOUR.sub(b"", line).replace(_NO_BREAK_SPACE, b" ")
    around = line_prefix(line, has_grep_prefix=listed)
    text = line[around.end :]
    if _KMSG.match(text):
        return _kmsg(text)
    if around.app is not None:
        return _syslog_5424_line(around, text)
    return _dated(around, text, latest)


def detected(line: bytes, latest: datetime) -> tuple[ParsedLine | None, bool]:
    """The parsed line, and whether grep's prefixes had to be removed to parse it."""
    found = log_line(line, latest)
    # `kern.log-12-Nov` could also be parsed as the name of a month.
    is_read = found is not None and (found.stamp is not None or not isinstance(found, LogLine))
    if is_read or not has_grep_prefix(COLOUR.sub(b"", line)):
        return found, False
    listed = log_line(line, latest, listed=True)
    return (found, False) if listed is None else (listed, True)


def escaped(text: bytes) -> str:
    """The text with bytes other than printable ASCII escaped as `\\xNN`, as the kernel does in /dev/kmsg.

    dmesg and the journal print the bytes unescaped, e.g. in process names. Source: Linux kernel/printk/printk.c.
    """
    return _UNPRINTABLE.sub(lambda found: b"\\x%02x" % found[0][0], text).decode("ascii")


def last_load_line(line: bytes) -> LogLine | None:
    """The last of the three driver-load lines, which dmesg prints without a time stamp; None for any other line."""
    text = line.strip()
    if len(text) > MAX_RECORD or not _LOAD_END.fullmatch(text):
        return None
    return LogLine(KmsgRecord(0, 0, 0, text.decode("ascii")), None, is_dated=False)


def _kmsg(line: bytes) -> ParsedLine:
    header, _, text = line.partition(b";")
    record = kmsg_record(header + b";" + escaped(text).encode())
    if record is None:
        return MalformedLine(stamp=None)
    stamp = Stamp(record.microseconds / 1e6, is_wall=False)
    return LogLine(record, stamp, record.sequence, is_signed=True)


def _syslog_5424_line(around: LinePrefix, text: bytes) -> ParsedLine:
    stamp = wall_stamp((around.stamp or b"").decode(errors="replace"))
    is_nameless = around.app == _NO_NAME
    if around.app not in (b"kernel", b"vmkernel") and not (is_nameless and around.facility == 0):
        return OtherLine(stamp, is_named=not is_nameless and around.app not in KERNEL_NAMES)
    uptime, rest = _without_uptime(text)
    return _record(around, _Text(rest, stamp, uptime))


@dataclass(frozen=True, slots=True)
class _Text:
    """The kernel's text with the time stamps and the host of its line."""

    text: bytes
    stamp: Stamp | None
    uptime: float | None = None
    is_dated: bool = True
    host: bytes | None = None


def _dated(around: LinePrefix, text: bytes, latest: datetime) -> ParsedLine | None:
    found = stamp_at_start(text, latest)
    if found is None:
        return _undated(around, text)
    rest, stamp, tag = text[found.end :], found.stamp, None
    # kubectl and log shippers add their own time stamp before that of the line.
    while _is_shipper_stamp(found):
        inner = stamp_at_start(rest, latest)
        if inner is None or (inner.stamp is not None and not inner.stamp.is_wall):
            break
        rest, found, stamp = rest[inner.end :], inner, inner.stamp or stamp
    if _is_shipper_stamp(found):
        rest = rest[labels.end() :] if (labels := _LABELS.match(rest)) else rest
        if has_facility(rest) or _KMSG.match(rest):
            return _shipped(log_line(rest, latest), stamp)
    is_boot = stamp is not None and not stamp.is_wall
    if not found.is_kernel_form and (tag := _KERNEL_TAG.match(rest)):
        rest = rest[tag.end() :]
        around = _with_facility(around, tag["facility"])
    elif _needs_tag(text, found.is_kernel_form, rest, around):
        return OtherLine(stamp, is_named=is_program_line(rest))
    uptime = None
    if tag is not None or not (is_boot or found.is_kernel_form):
        uptime, rest = _without_uptime(rest)
    return _record(around, _Text(rest, stamp, uptime, host=None if tag is None else tag["host"]))


def _shipped(found: ParsedLine | None, stamp: Stamp | None) -> ParsedLine | None:
    """The line with the date that a log shipper added."""
    if not isinstance(found, LogLine) or stamp is None:
        return found
    uptime = found.uptime if found.stamp is None or found.stamp.is_wall else found.stamp.seconds
    return replace(found, stamp=stamp, sequence=None, uptime=uptime, is_dated=True)


def _is_shipper_stamp(found: Stamped) -> bool:
    """Whether another stamp may follow: it may after a date, but not after a format of dmesg."""
    return not found.is_kernel_form and (found.stamp is None or found.stamp.is_wall)


def _needs_tag(text: bytes, is_kernel_form: bool, rest: bytes, around: LinePrefix) -> bool:
    """Whether the line needs the tag `kernel:` to count as the kernel's: syslog and the journal tag every line."""
    is_dmesg = is_kernel_form or text.startswith(b"[") or text[:4].isdigit()
    return not (is_dmesg or around.is_proof or rest.startswith(_STARTS) or _VMKERNEL.match(rest))


def _undated(around: LinePrefix, text: bytes) -> ParsedLine | None:
    """A line without a time stamp: counts as the kernel's only if it starts with one of _STARTS or has a tag."""
    text = text.lstrip(b" \t") if around.end == 0 else text
    tag = _KERNEL_TAG.match(text)
    if tag is not None:
        uptime, rest = _without_uptime(text[tag.end() :])
        stamp = None if uptime is None else Stamp(uptime, is_wall=False)
        around = _with_facility(around, tag["facility"])
        return _record(around, _Text(rest, stamp, is_dated=stamp is not None))
    rest = _without_vmkernel(text)
    if around.facility is None and not rest.startswith(_STARTS):
        return None
    return _record(around, _Text(rest, None, is_dated=False))


def _with_facility(around: LinePrefix, name: bytes | None) -> LinePrefix:
    """Applies the facility that busybox and some appliances print before the tag."""
    if name is None or around.facility is not None:
        return around
    return LinePrefix(around.end, 0 if name == _KERNEL_FACILITY else OTHER_FACILITY)


def _without_uptime(text: bytes) -> tuple[float | None, bytes]:
    """The kernel's own time stamp in front of a text, and the text without it and without ESXi's prefix."""
    text = text.lstrip(b" ")
    level = _LEVEL.match(text)
    text = text[level.end() :] if level else text
    match = BOOT.match(text)
    if match is None:
        return None, _without_vmkernel(text)
    return float(match["uptime"]), text[match.end() :]


def _without_vmkernel(text: bytes) -> bytes:
    match = _VMKERNEL.match(text)
    return text if match is None else text[match.end() :]


def _record(around: LinePrefix, found: _Text) -> ParsedLine:
    text = found.text.strip(b" \t\r")
    if repeated := _REPEATED.match(text):
        text = repeated["text"].rstrip()
    if len(text) > MAX_RECORD:
        return MalformedLine(found.stamp)
    shown = escaped(text.replace(_ESCAPED_NEWLINE, b"\n"))
    return LogLine(
        KmsgRecord(around.facility or 0, 0, 0, shown),
        found.stamp,
        is_signed=around.is_proof,
        uptime=found.uptime,
        is_dated=found.is_dated,
        host=(found.host or around.host or b"").decode(errors="replace"),
    )
