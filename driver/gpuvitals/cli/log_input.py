"""The input logs of `gpuvitals replay`: files, pipes and standard input, compressed or not, each opened once."""

import bz2
import gzip
import lzma
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, cast

from gpuvitals.cli.errors import UsageError
from gpuvitals.replay.reader import LogError
from gpuvitals.replay.text_log import first_stamp

_STDIN = "-"
_HEAD_BYTES = 1 << 16
_BLOCK = 1 << 20
_LOOK_BYTES = 8
_UNPACKERS: dict[bytes, Callable[[BinaryIO], object]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
_REFUSED = {
    b"\x28\xb5\x2f\xfd": "is compressed by zstd: decompress it first (zstd -dc FILE | gpuvitals replay -)",
    b"PK\x03\x04": "is a zip archive: unpack it first",
    b"7z\xbc\xaf\x27\x1c": "is a 7-Zip archive: unpack it first",
}
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)


@dataclass(frozen=True, slots=True)
class Log:
    """One log: its name in messages, its bytes, the time of its last write, and its first wall-clock timestamp, if any."""

    name: str
    blocks: Iterator[bytes]
    latest: datetime
    began: float | None


def opened(names: list[str], closing: ExitStack) -> Iterator[Log]:
    """The logs, oldest first if all have wall-clock timestamps, since a shell's `kern.log*` begins with the newest.

    Raises UsageError for a log that cannot be opened, and LogError while one is read.
    """
    if len(names) == 1:
        return iter((_log(names[0], closing, is_one_of_many=False),))
    logs = [_log(name, closing, is_one_of_many=True) for name in names]
    if any(log.began is None for log in logs):
        return iter(logs)
    return iter(sorted(logs, key=lambda log: log.began or 0.0))


def _log(name: str, closing: ExitStack, *, is_one_of_many: bool) -> Log:
    shown = "<stdin>" if name == _STDIN else name
    try:
        file = _file(name, closing)
        latest = _latest(file)
        first = _read_some(file, _LOOK_BYTES)
    except OSError as error:
        raise UsageError(f"replay: {shown}: {(error.strerror or str(error)).lower()}") from error
    for start, why in _REFUSED.items():
        if first.startswith(start):
            raise UsageError(f"replay: {shown}: {why}")
    blocks = _blocks(shown, _unpacked(_Resumed(first, file), first, closing))
    if not is_one_of_many:
        return Log(shown, blocks, latest, None)
    head = b""
    try:
        while len(head) < _HEAD_BYTES and (block := next(blocks, b"")):
            head += block
    except LogError as error:
        return Log(shown, _broken(error), latest, None)
    stamp = first_stamp((head,), latest)
    began = stamp.seconds if stamp is not None and stamp.is_wall else None
    return Log(shown, chain((head,), blocks), latest, began)


def _broken(error: LogError) -> Iterator[bytes]:
    """The blocks of an unreadable log: iteration raises its error, so that it is reported in the order of the logs."""
    yield from ()
    raise error


class _Resumed:
    """A file that is read from its start, although its first bytes were already read: a pipe cannot seek."""

    def __init__(self, first: bytes, file: BinaryIO) -> None:
        self._first = first
        self._file = file

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most `size`; empty at the end. Raises OSError."""
        if not self._first:
            return self._file.read(size)
        found, self._first = (self._first[:size], self._first[size:]) if size >= 0 else (self._first, b"")
        return found


def _unpacked(file: _Resumed, first: bytes, closing: ExitStack) -> _Resumed:
    for start, unpack in _UNPACKERS.items():
        if first.startswith(start):
            return cast(_Resumed, closing.enter_context(cast(Any, unpack(cast(BinaryIO, file)))))
    return file


def _blocks(name: str, file: _Resumed) -> Iterator[bytes]:
    """The blocks of a file. Raises LogError if it cannot be read to its end."""
    size = _HEAD_BYTES
    try:
        while block := file.read(size):
            yield block
            size = _BLOCK if len(block) == size else size
    except _DAMAGED as error:
        raise LogError(f"{name}: is damaged or cut off: {str(error).lower()}") from error
    except OSError as error:
        # Errors of a decompressor have no error number.
        why = "is damaged or cut off: " if error.errno is None else ""
        raise LogError(f"{name}: {why}{(error.strerror or str(error)).lower()}") from error


def _file(name: str, closing: ExitStack) -> BinaryIO:
    if name != _STDIN:
        return closing.enter_context(Path(name).open("rb", buffering=0))
    if sys.stdin is None:
        raise OSError("is closed")
    return sys.stdin.buffer


def _latest(file: BinaryIO) -> datetime:
    """The time of the last write of a file; for a stream, now."""
    try:
        status = os.fstat(file.fileno())
    except (OSError, ValueError):
        return datetime.now(UTC)
    return datetime.fromtimestamp(status.st_mtime, UTC) if stat.S_ISREG(status.st_mode) else datetime.now(UTC)


def _read_some(file: BinaryIO, size: int) -> bytes:
    found = b""
    while len(found) < size and (part := file.read(size - len(found))):
        found += part
    return found
