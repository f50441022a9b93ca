"""One record of the kernel log: the header in front of the `;`, and the text behind it. Pure.

Line: `4,4102,502133400411,c;NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.`

Source: Linux Documentation/ABI/testing/dev-kmsg, kernel/printk/printk.c.
"""

import re
from dataclasses import dataclass
from enum import Enum

MAX_RECORD = 8192
"""Bytes. Longer input is no kernel record: the kernel's own are far shorter."""

_OTHER_PREFIXES = ("NVRM:", "nvidia-nvswitch", "nvidia: probe of ")
DRIVER_PREFIXES = (*_OTHER_PREFIXES, *(f"nvidia {digit}" for digit in "0123456789abcdef"))
"""How every line starts that says anything about a GPU or a switch: the drivers' own, and the kernel's about them.

The kernel names a device by its bus ID, whose domain begins with any digit: Hyper-V makes domains up.
"""

_NOISE = re.compile(
    rb"[0-9]{1,3},([0-9]{1,19}),[0-9]{1,19},[-c+](?:,[^;]*)?;(?!"
    + "|".join((*_OTHER_PREFIXES, "nvidia [0-9a-f]")).encode("ascii")
    + rb")"
)
_PRINTABLE = bytes(range(0x20, 0x7F))
_HEADER = re.compile(rb"([0-9]{1,4}),([0-9]{1,20}),([0-9]{1,20}),[-c+](?:,[^;]*)?;")
_UNPRINTABLE = re.compile(rb"[^\x20-\x7e]")
_MAX_PRIORITY = 2047
_WRAP = 1 << 64


@dataclass(frozen=True, slots=True)
class KmsgRecord:
    """A well-formed record. `microseconds` counts from boot. Facility 0 is the kernel and can't be written by others."""

    facility: int
    sequence: int
    microseconds: int
    text: str


class SequenceEvent(Enum):
    """What a sequence number says about the one before it."""

    NEXT = "next"
    GAP = "gap"
    DUPLICATE = "duplicate"
    BACKWARDS = "backwards"


def kmsg_record(line: bytes) -> KmsgRecord | None:
    """The record of one line without its newline; None where it is malformed.

    The kernel escapes every byte outside 0x20..0x7e, so such a byte proves that the line is not the kernel's.
    """
    if len(line) > MAX_RECORD or _UNPRINTABLE.search(line):
        return None
    header = _header(line)
    if header is None:
        return None
    priority, sequence, microseconds, end = header
    return KmsgRecord(priority >> 3, sequence, microseconds, line[end:].decode("ascii"))


def noise_sequence(line: bytes) -> int | None:
    """The sequence number of a well-formed record that is not a driver's; None where the line needs a closer look.

    Nearly every line is such a one, so this is what the reader's speed hangs on.
    """
    match = _NOISE.match(line)
    if match is None or len(line) > MAX_RECORD or line.translate(None, _PRINTABLE):
        return None
    return int(match[1])


def header_sequence(line: bytes) -> int | None:
    """The sequence number of a line whose header is well formed, whatever its text is: for counting losses only."""
    header = _header(line[:MAX_RECORD])
    return None if header is None else header[1]


def header_seconds(line: bytes) -> float | None:
    """The stamp of a line whose header is well formed, in seconds of the kernel log's own clock."""
    header = _header(line[:MAX_RECORD])
    return None if header is None else header[2] / 1e6


def is_continuation(line: bytes) -> bool:
    """Whether the line is a ` KEY=value` continuation of the record before it."""
    return line.startswith(b" ")


def sequence_event(previous: int | None, current: int) -> SequenceEvent:
    """How `current` follows `previous`; anything may follow None."""
    if previous is None or current == previous + 1:
        return SequenceEvent.NEXT
    if current == previous:
        return SequenceEvent.DUPLICATE
    return SequenceEvent.GAP if current > previous else SequenceEvent.BACKWARDS


def _header(line: bytes) -> tuple[int, int, int, int] | None:
    match = _HEADER.match(line)
    if match is None:
        return None
    priority, sequence, microseconds = (int(group) for group in match.groups())
    if priority > _MAX_PRIORITY or sequence >= _WRAP or microseconds >= _WRAP:
        return None
    return priority, sequence, microseconds, match.end()
