"""One line of a text log, in the shapes in which kernel lines are saved, made into the record that it once was. Pure.

    4,4102,502133400411,c;NVRM: Xid ...                                  /dev/kmsg
    [  502.133400] NVRM: Xid ...                                         dmesg; also -T, -x, -r, --time-format iso
    2026-11-24T10:00:00.123456+00:00 node-7 kernel: [  502.1] NVRM: ...  kern.log, journalctl -o short-iso
    Nov 24 10:00:00 node-7 kernel: NVRM: Xid ...                         kern.log of old, journalctl
    NVRM: Xid ...                                                        dmesg without time stamps

A syslog daemon writes what the tag `kernel:` says it got from the kernel; whoever may write to the daemon can forge it.
The kernel's own record, the raw and decoded forms of dmesg and the journal tell who wrote a line.
"""

import re
from dataclasses import dataclass
from datetime import datetime

from gpuvitals.replay.stamps import (
    BOOT,
    HUMAN,
    ISO,
    RELATIVE,
    SYSLOG,
    Stamp,
    boot_stamp,
    human_stamp,
    iso_stamp,
    syslog_stamp,
)
from gpuvitals.signals.kmsg_record import MAX_RECORD, KmsgRecord, kmsg_record

BOOT_TEXT = "Linux version "
"""How the first record of every boot begins."""
LOAD_TEXT = "NVRM: loading NVIDIA"
"""How the driver announces itself each time it is loaded."""

_COLOUR = re.compile(rb"\x1b\[[0-9;]*m")
_RAW = re.compile(rb"<([0-9]{1,4})>")
_DECODED = re.compile(rb"([a-z]+[0-7]?) *:(?:emerg|alert|crit|err|warn|notice|info|debug) *: ")
_KERNEL_TAG = re.compile(rb"[^ ]{1,255} kernel: ")
_KMSG = re.compile(rb"[0-9]{1,4},[0-9]{1,20},[0-9]{1,20},[-c+][,;]")
_STARTS = (b"NVRM:", b"nvidia-nvswitch", b"Linux version ")
_LOAD_END = re.compile(rb"NVRM: fallen off the bus and is not responding to commands[\x20-\x7e]*")
_UNPRINTABLE = re.compile(rb"[^\x20-\x7e]")
_OTHER_FACILITY = 1


@dataclass(frozen=True, slots=True)
class LogLine:
    """A record, and when it was written where the line says so. `sequence` is None outside /dev/kmsg's own form."""

    record: KmsgRecord
    stamp: Stamp | None
    sequence: int | None = None


@dataclass(frozen=True, slots=True)
class MalformedLine:
    """A line in a known shape whose text can't be the kernel's: other bytes, or too long."""

    stamp: Stamp | None


@dataclass(frozen=True, slots=True)
class OtherLine:
    """A line in a known shape that another program wrote."""

    stamp: Stamp | None


def log_line(line: bytes, latest: datetime) -> LogLine | MalformedLine | OtherLine | None:
    """What one line holds; None where it has none of the shapes. `latest` settles the year of stamps without one."""
    if _KMSG.match(line):
        record = kmsg_record(line)
        if record is None:
            return MalformedLine(stamp=None)
        return LogLine(record, Stamp(record.microseconds / 1e6, is_wall=False), record.sequence)
    line = _COLOUR.sub(b"", line)
    facility, line = _facility(line)
    stamp, text = _stamped(line, latest)
    if text is None:
        return None if stamp is None else OtherLine(stamp)
    if len(text) > MAX_RECORD or _UNPRINTABLE.search(text):
        return MalformedLine(stamp)
    return LogLine(KmsgRecord(facility, 0, 0, text.decode("ascii")), stamp)


def last_load_line(line: bytes) -> LogLine | None:
    """The last of the three driver-load lines, which dmesg prints without a stamp of its own; None for any other."""
    text = line.strip()
    if len(text) > MAX_RECORD or not _LOAD_END.fullmatch(text):
        return None
    return LogLine(KmsgRecord(0, 0, 0, text.decode("ascii")), None)


def _facility(line: bytes) -> tuple[int, bytes]:
    """The facility where dmesg was asked to tell it. Only that of the kernel matters."""
    raw = _RAW.match(line)
    if raw is not None:
        return int(raw[1]) >> 3, line[raw.end() :]
    decoded = _DECODED.match(line)
    if decoded is not None:
        return 0 if decoded[1] == b"kern" else _OTHER_FACILITY, line[decoded.end() :]
    return 0, line


def _stamped(line: bytes, latest: datetime) -> tuple[Stamp | None, bytes | None]:
    """The stamp and the kernel's text; the latter is None for lines that are not the kernel's."""
    match = BOOT.match(line)
    if match is not None:
        return boot_stamp(match), _behind_tag(line[match.end() :], is_needed=False)
    match = HUMAN.match(line)
    if match is not None:
        return human_stamp(match), line[match.end() :]
    match = ISO.match(line)
    if match is not None:
        return iso_stamp(match), _behind_tag(line[match.end() :], is_needed=False)
    match = SYSLOG.match(line)
    if match is not None:
        return syslog_stamp(match, latest), _behind_tag(line[match.end() :], is_needed=True)
    match = RELATIVE.match(line)
    if match is not None:
        return None, line[match.end() :]
    return None, line if line.startswith(_STARTS) else None


def _behind_tag(rest: bytes, *, is_needed: bool) -> bytes | None:
    """The text behind `host kernel: ` and the second stamp that may follow it.

    Without a tag it is a line of dmesg, which holds the kernel's own alone; another tag is another program's line.
    """
    if not is_needed and rest.startswith(_STARTS):
        return rest
    tag = _KERNEL_TAG.match(rest)
    if tag is None:
        return None if is_needed else rest
    rest = rest[tag.end() :]
    inner = BOOT.match(rest)
    return rest if inner is None else rest[inner.end() :]
