"""Parses one record of the kernel log: the header before the `;`, and the text after it. Pure.

Line: `4,4102,502133400411,c;NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.`

Source: Linux Documentation/ABI/testing/dev-kmsg, kernel/printk/printk.c.
"""

import re
from dataclasses import dataclass
from enum import Enum

MAX_RECORD = 8192
"""Bytes. The kernel's own records are far shorter, so longer input is malformed."""

_OTHER_PREFIXES = ("NVRM:", "nvidia-nvswitch", "nvidia: probe of ")
DRIVER_PREFIXES = (*_OTHER_PREFIXES, *(f"nvidia {digit}" for digit in "0123456789abcdef"))
"""The prefixes of all lines about GPUs and switches: those of NVIDIA's drivers, and those of the kernel about a device.

The kernel names a device by its bus ID, whose domain can begin with any digit: Hyper-V invents domains.
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
    """A well-formed record. `microseconds` counts from boot. Only the kernel can write with facility 0."""

    facility: int
    sequence: int
    microseconds: int
    text: str


class SequenceEvent(Enum):
    """The relation of a sequence number to the number before it."""

    NEXT = "next"
    GAP = "gap"
    DUPLICATE = "duplicate"
    BACKWARDS = "backwards"


def kmsg_record(line: bytes) -> KmsgRecord | None:
    """The record of one line without its newline; None if it is malformed.

    The kernel escapes every byte outside 0x20..0x7e, so such a byte proves that the kernel did not write the line.
    """
    if len(line) > MAX_RECORD or _UNPRINTABLE.search(line):
        return None
    header = _header(line)
    if header is None:
        return None
    priority, sequence, microseconds, end = header
    return KmsgRecord(priority >> 3, sequence, microseconds, line[end:].decode("ascii"))


def noise_sequence(line: bytes) -> int | None:
    """The sequence number of a well-formed record that is not about a GPU or switch; None for every other line.

    Nearly every line is such a record, so this function determines the reader's speed.
    """
    match = _NOISE.match(line)
    if match is None or len(line) > MAX_RECORD or line.translate(None, _PRINTABLE):
        return None
    return int(match[1])


def header_sequence(line: bytes) -> int | None:
    """The sequence number of a line with a well-formed header and any text. Used only to count losses."""
    header = _header(line[:MAX_RECORD])
    return None if header is None else header[1]


def header_seconds(line: bytes) -> float | None:
    """The timestamp of a line with a well-formed header, in seconds of the kernel log's clock."""
    header = _header(line[:MAX_RECORD])
    return None if header is None else header[2] / 1e6


def is_continuation(line: bytes) -> bool:
    """Whether the line is a ` KEY=value` continuation of the record before it."""
    return line.startswith(b" ")


def sequence_event(previous: int | None, current: int) -> SequenceEvent:
    """The relation of `current` to `previous`; any number may follow None."""
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
