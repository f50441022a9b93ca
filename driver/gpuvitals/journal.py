"""An append-only file of checksummed records in space that is allocated when the file is created.

A record is one line, `{"sequence":n,"bytes":m,"checksum":"sha256:...","payload":...}`, at the start of a block; newlines
fill the rest of the file. An append is one write and one flush of data: it changes neither the inode's size nor the
directory. A record shares no block with another one, so a power cut during an append cannot damage an earlier record.
"""

import os
import re
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpuvitals.durable import (
    BLOCK_BYTES,
    DurableFileError,
    checksum,
    in_blocks,
    open_existing,
    remove_if_there,
    write_new,
)

CAPACITY_BYTES = 256 << 10
"""Space for 64 records of one block; the record of one GPU fits into one block."""
_MOST_BYTES = 64 << 20
"""A larger file was not written by this module and is not read into memory."""
_NEW = ".new"
_HEAD = re.compile(
    rb'\{"sequence":([0-9]{1,18}),"bytes":([0-9]{1,9}),"checksum":"(sha256:[0-9a-f]{64})","payload":'
)
_AGAIN_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """One record that was read back whole."""

    sequence: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalContents:
    """The whole records in the order of the file. `trouble` names the first damage, empty if there is none."""

    records: tuple[JournalRecord, ...] = ()
    trouble: str = ""


class Journal:
    """One journal file. Appends go only to a file that this object created. Not thread safe."""

    def __init__(self, path: Path, *, capacity_bytes: int = CAPACITY_BYTES) -> None:
        self.path = path
        self._capacity = capacity_bytes
        self._created: tuple[int, int] | None = None
        self._used = 0

    @property
    def is_open(self) -> bool:
        """Whether this object has created the file and no append has failed since."""
        return self._created is not None

    @property
    def is_half_full(self) -> bool:
        """Whether the file is worth replacing at the next opportunity."""
        return self._used * 2 > self._capacity

    def load(self, *, patient: bool = False) -> JournalContents:
        """Every whole record. Raises nothing. `patient` reads damaged contents twice, since a predecessor may be writing."""
        loaded = _load(self.path)
        if loaded.trouble and patient:
            time.sleep(_AGAIN_SECONDS)
            loaded = _load(self.path)
        return loaded

    def create(self) -> None:
        """Replaces the file by an empty one, atomically. Raises DurableFileError; the file then stays as it was."""
        self._created = None
        try:
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                created = self._replace(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise DurableFileError(f"{self.path}: not created: {error}") from error
        self._created, self._used = created, 0

    def append(self, sequence: int, payload: bytes) -> bool:
        """Makes one record durable. `payload` is JSON without newlines.

        False, and nothing is written, if the record does not fit, or if the file was not created by this object or was
        replaced since. Raises DurableFileError if the write fails; the file takes no further record then.
        """
        line = _encode(sequence, payload)
        if self._created is None or self._used + in_blocks(len(line)) > self._capacity:
            return False
        try:
            is_written = self._append(line)
        except OSError as error:
            self._created = None
            raise DurableFileError(f"{self.path}: record {sequence} not written: {error}") from error
        if is_written:
            self._used += in_blocks(len(line))
        else:
            self._created = None
        return is_written

    def remove(self) -> None:
        """Removes the file. Raises DurableFileError."""
        self._created = None
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise DurableFileError(f"{self.path}: not removed: {error}") from error

    def _replace(self, directory: int) -> tuple[int, int]:
        name = self.path.name + _NEW
        try:
            write_new(directory, name, b"\n" * self._capacity)
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            os.replace(name, self.path.name, src_dir_fd=directory, dst_dir_fd=directory)
            os.fsync(directory)
        except OSError:
            with suppress(OSError):  # the next create removes it, and the error below is the one to report
                remove_if_there(directory, name)
            raise
        return status.st_dev, status.st_ino

    def _append(self, line: bytes) -> bool:
        file = open_existing(self.path, os.O_WRONLY)
        if file is None:
            return False
        try:
            status = os.fstat(file)
            if (status.st_dev, status.st_ino) != self._created or status.st_nlink != 1:
                return False
            self._flush(file, line)
        finally:
            os.close(file)
        return True

    def _flush(self, file: int, line: bytes) -> None:
        try:
            view, at = memoryview(line), self._used
            while view:
                written = os.pwrite(file, view, at)
                view, at = view[written:], at + written
            os.fdatasync(file)
        except OSError:
            # The record may be whole in the page cache and yet not on the disk: a later reader must not find it.
            with suppress(OSError):  # if this fails too, the record's checksum decides
                os.pwrite(file, b"\n" * len(line), self._used)
            raise


def _load(path: Path) -> JournalContents:
    try:
        body = _read(path)
    except FileNotFoundError:
        return JournalContents()
    except (OSError, ValueError) as error:
        cause = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        return JournalContents(trouble=f"{path}: {cause}")
    records: list[JournalRecord] = []
    trouble, at = "", 0
    while at < len(body):
        end = body.find(b"\n", at)
        line = body[at:] if end < 0 else body[at:end]
        if line:
            try:
                records.append(_decode(line))
            except ValueError as error:
                trouble = trouble or f"{path}: record at byte {at}: {error}"
        at += max(BLOCK_BYTES, in_blocks(len(line)))
    return JournalContents(records=tuple(records), trouble=trouble)


def _read(path: Path) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(file, "rb") as stream:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a regular file")
        if status.st_size > _MOST_BYTES:
            raise ValueError(f"has {status.st_size} bytes, more than {_MOST_BYTES}")
        return stream.read()


def _encode(sequence: int, payload: bytes) -> bytes:
    head = (sequence, len(payload), checksum(sequence, payload))
    return b'{"sequence":%d,"bytes":%d,"checksum":"%s","payload":%s}\n' % (*head, payload)


def _decode(line: bytes) -> JournalRecord:
    """The record. Raises ValueError with the reason if it is not whole."""
    match = _HEAD.match(line)
    if match is None:
        raise ValueError("not a checksummed record")
    sequence, payload = int(match[1]), line[match.end() : -1]
    if len(payload) != int(match[2]) or not line.endswith(b"}"):
        raise ValueError(f"has {len(payload)} of {int(match[2])} bytes")
    if match[3] != checksum(sequence, payload):
        raise ValueError("checksum does not match the payload")
    return JournalRecord(sequence, payload)
