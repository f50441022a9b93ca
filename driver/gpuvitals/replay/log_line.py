"""One line of a text log, in the forms in which kernel lines are saved, made into the record that it once was. Pure.

    4,4102,502133400411,c;NVRM: Xid ...                                  /dev/kmsg
    [  502.133400] NVRM: Xid ...                                         dmesg; also -T, -x, -r, -d, --time-format iso
    2026-11-24T10:00:00.123456+00:00 node-7 kernel: [  502.1] NVRM: ...  kern.log, journalctl -o short-iso
    Nov 24 10:00:00 node-7 kernel: NVRM: Xid ...                         kern.log of old, journalctl; also without a host
    2026-11-24T10:00:00.123Z In(182) vmkernel: cpu1:2097999)NVRM: ...    vmkernel.log
    kernel: NVRM: Xid ...   NVRM: Xid ...                                without time stamps

`prefixes` has what may stand in front of these. A syslog daemon writes the tag `kernel:` for what it takes to be the
kernel's; whoever may write to the daemon can forge it. The kernel's own record, the raw and decoded forms of dmesg and
the journal's fields tell who wrote a line.
"""

import re
from dataclasses import dataclass, replace
from datetime import datetime

from gpuvitals.replay.marks import KERNELS_NAMES, is_of_a_program
from gpuvitals.replay.prefixes import COLOUR, OTHER_FACILITY, Outer, has_facility, is_listed, outer
from gpuvitals.replay.timestamps import BOOT, Stamp, Stamped, stamp_at_start, wall_stamp
from gpuvitals.signals.kmsg.record import DRIVER_PREFIXES, MAX_RECORD, KmsgRecord, kmsg_record

BOOT_TEXT = "Linux version "
"""How the first record of every boot begins."""
LOAD_TEXT = "NVRM: loading NVIDIA"
"""How the driver's line begins that it prints each time it is loaded."""

_KERNEL_TAG = re.compile(
    rb"(?:[A-Z][a-z]\([0-9]{1,4}\) )?(?:kern\.[a-z]+ )?"
    rb"(?:(?P<host>[^ ]{0,254}[^ :\]]) (?:(?P=host)[^ :\]]* )?)?(?:(?P<facility>[a-z]+[0-7]?)\.[a-z]+ )?"
    rb"(?:kernel|vmkernel|vmkwarning|vmkalert)(?:\[[0-9]{1,10}\])? ?: ?(?:kernel: ?)?"
)
_VMKERNEL = re.compile(rb"cpu[0-9]{1,4}:[0-9]{1,10}(?: opID=[^ )]{1,64})?\)(?:WARNING: |ALERT: )?")
_LABELS = re.compile(rb'\{[A-Za-z_]+="[^\n]{0,1000}?"\} ')
"""As logcli prints the labels of Loki."""
_REPEATED = re.compile(rb"message repeated [0-9]{1,9} times: \[ ?(?P<text>.*)\]\Z", re.DOTALL)
"""Source: rsyslog, $RepeatedMsgReduction."""
_LEVEL = re.compile(rb"<[0-9]{1,4}>")
_KMSG = re.compile(rb"[0-9]{1,4},[0-9]{1,20},[0-9]{1,20},[-c+][,;]")
_STARTS = (*(prefix.encode() for prefix in DRIVER_PREFIXES), BOOT_TEXT.encode(), b"pcieport ")
"""How text without a stamp begins that is taken for the kernel's: the drivers', a boot's, and that of a PCIe port above."""
_LOAD_END = re.compile(rb"NVRM: fallen off the bus and is not responding to commands[\x20-\x7e]*")
_UNPRINTABLE = re.compile(rb"[^\x20-\x7e]")
_ESCAPED_NEWLINE = b"#012"
"""How rsyslog writes a newline inside of a message. Source: rsyslog, EscapeControlCharactersOnReceive."""
_KERNEL_FACILITY = b"kern"
_NO_BREAK_SPACE = "\N{NO-BREAK SPACE}".encode()
"""Web pages and mail programs put it in place of a space."""
_NO_NAME = b"-"
"""Source: RFC 5424, NILVALUE."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A record, and when it was written where the line says so. `sequence` is None outside /dev/kmsg's own form.

    `is_signed`: the form says that the kernel wrote it, or which facility did. `uptime` are the seconds since boot where
    the line has them beside a date. `is_dated`: it has a time stamp, even where its date can't be read. `host` is the node
    that the line names, empty where it names none.
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
    """A line in a known form whose record can't be the kernel's: a damaged header, or too long."""

    stamp: Stamp | None


@dataclass(frozen=True, slots=True)
class OtherLine:
    """A line in a known form that another program wrote. `is_named`: the line names that program."""

    stamp: Stamp | None
    is_named: bool = True


AnyLine = LogLine | MalformedLine | OtherLine


def log_line(line: bytes, latest: datetime, *, listed: bool = False) -> AnyLine | None:
    """What one line holds; None where it has none of the forms.

    `latest` settles the year of stamps without one. `listed`: the lines of the file have the prefixes of grep.
    """
    line = COLOUR.sub(b"", line).replace(_NO_BREAK_SPACE, b" ")
    around = outer(line, is_listed=listed)
    text = line[around.end :]
    if _KMSG.match(text):
        return _kmsg(text)
    if around.app is not None:
        return _of_syslog_5424(around, text)
    return _dated(around, text, latest)


def sniffed(line: bytes, latest: datetime) -> tuple[AnyLine | None, bool]:
    """What the line holds, and whether it needs the prefixes of grep to be read."""
    found = log_line(line, latest)
    # `kern.log-12-Nov` could be the name of a month.
    is_read = found is not None and (found.stamp is not None or not isinstance(found, LogLine))
    if is_read or not is_listed(COLOUR.sub(b"", line)):
        return found, False
    listed = log_line(line, latest, listed=True)
    return (found, False) if listed is None else (listed, True)


def escaped(text: bytes) -> str:
    """The text with every other byte than the printable ones of ASCII as the kernel writes it in /dev/kmsg: `\\xNN`.

    dmesg and the journal print the bytes themselves, as in the name of a process. Source: Linux kernel/printk/printk.c.
    """
    return _UNPRINTABLE.sub(lambda found: b"\\x%02x" % found[0][0], text).decode("ascii")


def last_load_line(line: bytes) -> LogLine | None:
    """The last of the three driver-load lines, which dmesg prints without a stamp of its own; None for any other."""
    text = line.strip()
    if len(text) > MAX_RECORD or not _LOAD_END.fullmatch(text):
        return None
    return LogLine(KmsgRecord(0, 0, 0, text.decode("ascii")), None, is_dated=False)


def _kmsg(line: bytes) -> AnyLine:
    header, _, text = line.partition(b";")
    record = kmsg_record(header + b";" + escaped(text).encode())
    if record is None:
        return MalformedLine(stamp=None)
    stamp = Stamp(record.microseconds / 1e6, is_wall=False)
    return LogLine(record, stamp, record.sequence, is_signed=True)


def _of_syslog_5424(around: Outer, text: bytes) -> AnyLine:
    stamp = wall_stamp((around.stamp or b"").decode(errors="replace"))
    is_nameless = around.app == _NO_NAME
    if around.app not in (b"kernel", b"vmkernel") and not (is_nameless and around.facility == 0):
        return OtherLine(stamp, is_named=not is_nameless and around.app not in KERNELS_NAMES)
    uptime, rest = _behind_uptime(text)
    return _record(around, _Text(rest, stamp, uptime))


@dataclass(frozen=True, slots=True)
class _Text:
    """The kernel's text with what its line tells of its time."""

    text: bytes
    stamp: Stamp | None
    uptime: float | None = None
    is_dated: bool = True
    host: bytes | None = None


def _dated(around: Outer, text: bytes, latest: datetime) -> AnyLine | None:
    found = stamp_at_start(text, latest)
    if found is None:
        return _undated(around, text)
    rest, stamp, tag = text[found.end :], found.stamp, None
    # kubectl and log shippers put a stamp of their own in front of that of the line.
    while _is_shippers(found):
        inner = stamp_at_start(rest, latest)
        if inner is None or (inner.stamp is not None and not inner.stamp.is_wall):
            break
        rest, found, stamp = rest[inner.end :], inner, inner.stamp or stamp
    if _is_shippers(found):
        rest = rest[labels.end() :] if (labels := _LABELS.match(rest)) else rest
        if has_facility(rest) or _KMSG.match(rest):
            return _shipped(log_line(rest, latest), stamp)
    is_boot = stamp is not None and not stamp.is_wall
    if not found.is_kernels and (tag := _KERNEL_TAG.match(rest)):
        rest = rest[tag.end() :]
        around = _with_facility(around, tag["facility"])
    elif _needs_tag(text, found.is_kernels, rest, around):
        return OtherLine(stamp, is_named=is_of_a_program(rest))
    uptime = None
    if tag is not None or not (is_boot or found.is_kernels):
        uptime, rest = _behind_uptime(rest)
    return _record(around, _Text(rest, stamp, uptime, host=None if tag is None else tag["host"]))


def _shipped(found: AnyLine | None, stamp: Stamp | None) -> AnyLine | None:
    """The line with the date that a shipper put in front of it."""
    if not isinstance(found, LogLine) or stamp is None:
        return found
    uptime = found.uptime if found.stamp is None or found.stamp.is_wall else found.stamp.seconds
    return replace(found, stamp=stamp, sequence=None, uptime=uptime, is_dated=True)


def _is_shippers(found: Stamped) -> bool:
    """Whether another stamp may follow: behind a date, but not behind what dmesg alone prints."""
    return not found.is_kernels and (found.stamp is None or found.stamp.is_wall)


def _needs_tag(text: bytes, is_kernels: bool, rest: bytes, around: Outer) -> bool:
    """Whether a line without the tag `kernel:` is another program's: a syslog file and the journal tag each line."""
    is_dmesg = is_kernels or text.startswith(b"[") or text[:4].isdigit()
    return not (is_dmesg or around.is_proof or rest.startswith(_STARTS) or _VMKERNEL.match(rest))


def _undated(around: Outer, text: bytes) -> AnyLine | None:
    """A line without a stamp: only text that the driver or the kernel begins so is taken for theirs."""
    text = text.lstrip(b" \t") if around.end == 0 else text
    tag = _KERNEL_TAG.match(text)
    if tag is not None:
        uptime, rest = _behind_uptime(text[tag.end() :])
        stamp = None if uptime is None else Stamp(uptime, is_wall=False)
        around = _with_facility(around, tag["facility"])
        return _record(around, _Text(rest, stamp, is_dated=stamp is not None))
    rest = _behind_vmkernel(text)
    if around.facility is None and not rest.startswith(_STARTS):
        return None
    return _record(around, _Text(rest, None, is_dated=False))


def _with_facility(around: Outer, name: bytes | None) -> Outer:
    """busybox and some devices name the facility in front of the tag."""
    if name is None or around.facility is not None:
        return around
    return Outer(around.end, 0 if name == _KERNEL_FACILITY else OTHER_FACILITY)


def _behind_uptime(text: bytes) -> tuple[float | None, bytes]:
    """The kernel's own stamp in front of a text, and the text behind it and behind the marks of a vmkernel."""
    text = text.lstrip(b" ")
    level = _LEVEL.match(text)
    text = text[level.end() :] if level else text
    match = BOOT.match(text)
    if match is None:
        return None, _behind_vmkernel(text)
    return float(match["uptime"]), text[match.end() :]


def _behind_vmkernel(text: bytes) -> bytes:
    match = _VMKERNEL.match(text)
    return text if match is None else text[match.end() :]


def _record(around: Outer, found: _Text) -> AnyLine:
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
