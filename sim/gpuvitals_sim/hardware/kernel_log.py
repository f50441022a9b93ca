"""A kernel log in a file, with records in the format of /dev/kmsg."""

import fcntl
import os
import time
from pathlib import Path

_LAST_BYTES = 1 << 14
_DEFAULT_LEVEL = 4
_MAX_TEXT = 1024


class KernelLogFile:
    """Appends records of facility 0. Several processes may write: the file is locked for each record."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, text: str, *, priority: int = _DEFAULT_LEVEL) -> int:
        """Appends one record, escaped as by the kernel, and returns its sequence number.

        `priority` is facility << 3 | level: 4 is the kernel's default, 12 that of user space.
        """
        with self.path.open("ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            sequence = _last_sequence(file.fileno()) + 1
            microseconds = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
            record = f"{priority},{sequence},{microseconds},c;{_escaped(text)}\n"
            os.write(file.fileno(), record.encode("ascii"))
        return sequence


def _last_sequence(file: int) -> int:
    """The newest record's number, -1 in an empty log."""
    size = os.fstat(file).st_size
    tail = os.pread(file, _LAST_BYTES, max(0, size - _LAST_BYTES))
    for line in reversed(tail.splitlines()):
        fields = line.split(b",", 2)
        if len(fields) == 3 and fields[1].isdigit():
            return int(fields[1])
    return -1


def _escaped(text: str) -> str:
    """Escapes bytes that are not printable ASCII, and the backslash. Source: Linux kernel/printk/printk.c, msg_add_ext_text."""
    shown = (
        chr(byte) if 0x20 <= byte < 0x7F and byte != 0x5C else f"\\x{byte:02x}"
        for byte in text.encode("utf-8")[:_MAX_TEXT]
    )
    return "".join(shown)
