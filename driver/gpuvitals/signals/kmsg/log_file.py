"""Readers of kernel lines: from /dev/kmsg, or from a file or FIFO that replaces it. Each is used by one thread.

Source: Linux Documentation/ABI/testing/dev-kmsg and kernel/printk/printk.c.
"""

import os
import stat
from pathlib import Path
from typing import Protocol

from gpuvitals.signals.fd_poll import readable
from gpuvitals.signals.kmsg.record import MAX_RECORD

_BATCH = 256
_CHUNK = 1 << 16
_FILE_PERIOD_SECONDS = 0.05
_EINVAL = 22


class LogReplaced(Exception):
    """The file was truncated or replaced, so it has to be opened and read from its start."""


class KernelLog(Protocol):
    """An open log. Each method raises OSError if the log is no longer readable."""

    def lines(self) -> list[bytes]:
        """The next lines, without newline, oldest first; empty at the end of the log. Raises LogReplaced."""
        ...

    def wait(self, seconds: float, wake: int) -> None:
        """Waits for more lines, at most `seconds` or until file descriptor `wake` is readable."""
        ...

    def close(self) -> None:
        """Closes it."""
        ...


def open_kernel_log(path: Path) -> KernelLog:
    """The log at a path, at its oldest record. Raises OSError."""
    mode = path.stat().st_mode
    # A FIFO that is open for writing too never reaches end of file when its last writer closes.
    flags = os.O_RDWR if stat.S_ISFIFO(mode) else os.O_RDONLY
    file = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    return DeviceLog(file) if stat.S_ISCHR(mode) else StreamLog(file, path)


class DeviceLog:
    """/dev/kmsg: one read is one record, with its continuation lines."""

    def __init__(self, file: int) -> None:
        self._file = file

    def lines(self) -> list[bytes]:
        """Up to a batch of records, without their KEY=value lines.

        A record that was overwritten (EPIPE) or does not fit (EINVAL) is lost, and the kernel moves to the next one,
        whose sequence number shows how many were lost.
        """
        found: list[bytes] = []
        while len(found) < _BATCH:
            try:
                found.append(os.read(self._file, 2 * MAX_RECORD).partition(b"\n")[0])
            except BlockingIOError:
                break
            except BrokenPipeError:
                continue
            except OSError as error:
                if error.errno != _EINVAL:
                    raise
        return found

    def wait(self, seconds: float, wake: int) -> None:
        """Waits on the device."""
        readable((self._file, wake), seconds)

    def close(self) -> None:
        """Closes the device."""
        os.close(self._file)


class StreamLog:
    """A file that grows, or a FIFO."""

    def __init__(self, file: int, path: Path) -> None:
        self._file = file
        self._path = path
        self._is_file = stat.S_ISREG(os.fstat(file).st_mode)
        self._offset = 0
        self._rest = b""

    def lines(self) -> list[bytes]:
        """The whole lines of the next chunk. Of an endless line a start is kept that is too long to be a valid record."""
        try:
            chunk = os.read(self._file, _CHUNK)
        except BlockingIOError:
            chunk = b""
        if not chunk:
            self._check_replaced()
            return []
        self._offset += len(chunk)
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > 2 * MAX_RECORD:
            self._rest = self._rest[: MAX_RECORD + 1]
        return whole

    def wait(self, seconds: float, wake: int) -> None:
        """Waits on the FIFO. A file is always readable, so for one this waits for a short period."""
        if self._is_file:
            readable((wake,), min(seconds, _FILE_PERIOD_SECONDS))
        else:
            readable((self._file, wake), seconds)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)

    def _check_replaced(self) -> None:
        if not self._is_file:
            return
        ours, there = os.fstat(self._file), self._path.stat()
        if there.st_ino != ours.st_ino or ours.st_size < self._offset:
            raise LogReplaced
