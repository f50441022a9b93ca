"""A small file that survives crashes: checksummed, in two slots, the older of which is overwritten in place.

The layout of a slot is one JSON object: `{"generation": n, "checksum": "sha256:...", "payload": ...}`, filled up with
newlines. The slot with the higher generation counts; if it is torn, the other one counts, and the reader reports it.
Overwriting in place costs one flush and no change of a directory (docs/adr/026). The checkpoint, the health state and
the times of taints are such files.
"""

import hashlib
import os
import re
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_MODE = 0o600
BLOCK_BYTES = 4096
_HEAD = re.compile(rb'\{"generation":([0-9]{1,18}),"checksum":"(sha256:[0-9a-f]{64})","payload":')
_HEAD_BYTES = 160
_MAX_BYTES = 64 << 20
"""A larger file was not written by this module and is not read into memory."""
_OTHER = ".2"
_VOID = b'{"void":true}\n'
_AGAIN_SECONDS = 0.02

Head = tuple[bytes, int, int, int] | None
"""The first bytes of a slot, its inode, the time of its last write in ns, and its size; None if it is missing."""
Heads = tuple[Head, ...]
Stamps = tuple[tuple[int, int, int] | None, ...]
"""Inode, time of the last write in ns, and size of both slots."""


class DurableFileError(Exception):
    """No slot could be read, or the file could not be written. The message names the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The result of a read. `damaged`: the unusable slots. `recovered`: the problem of the first of them, else empty."""

    payload: bytes | None
    recovered: str = ""
    damaged: tuple[Path, ...] = ()
    path: Path | None = None
    """The slot that the payload is from."""


@dataclass(frozen=True, slots=True)
class _Good:
    """The slot with the newest usable content, and the heads of both slots at that time."""

    slot: int
    generation: int
    heads: Heads


class DurableFile:
    """One file of bytes in two slots: `path`, and `path` with `.2`. Not locked: callers that share it hold a lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._slots = (path, path.with_name(path.name + _OTHER))
        self._good: _Good | None = None

    def load(self, *, patient: bool = False) -> Loaded:
        """The newest usable payload; None if no slot exists or none is usable (`recovered` then has the reason).

        Raises nothing: a slot that can't be opened or is no regular file is damaged like a torn one. `patient` reads a torn slot twice: for a caller without a lock, whose predecessor may still be writing.
        """
        loaded = self._load()
        if loaded.recovered and patient:
            time.sleep(_AGAIN_SECONDS)
            loaded = self._load()
        return loaded

    def heads(self) -> Heads:
        """The heads of both slots. They differ after every save by any process. Raises OSError, but not for a missing slot."""
        return tuple(_head(path) for path in self._slots)

    def stamps(self) -> Stamps:
        """The stamps of both slots: cheaper than `heads`, but equal for two saves within one clock tick."""
        return tuple(_stamp(path) for path in self._slots)

    def save(self, payload: bytes) -> Heads:
        """Makes `payload` durable and returns the new heads.

        Raises DurableFileError; the newest content then stays as it was.
        """
        try:
            if self._good is None or self._good.heads != self.heads():
                self._load()
            good = self._good
            slot, generation = (1 - good.slot, good.generation + 1) if good is not None else (0, 1)
            # A failed write leaves its slot torn; `_good` stays valid as long as the heads are the same.
            _overwrite(self._slots[slot], _encode(generation, payload))
            self._good = _Good(slot, generation, self.heads())
        except OSError as error:
            raise DurableFileError(
                f"{self.path}: not written: {error}; the previous content stays"
            ) from error
        return self._good.heads

    def set_aside(self, damaged: tuple[Path, ...], name: str) -> None:
        """Keeps a damaged slot for a person, under `name` in the same folder. Raises OSError."""
        for path in damaged:
            try:
                os.replace(path, path.with_name(name))
            except FileNotFoundError:
                continue
        self._good = None

    def remove(self) -> None:
        """Removes both slots. Raises DurableFileError."""
        try:
            for path in self._slots:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise DurableFileError(f"{self.path}: not removed: {error}") from error
        self._good = None

    def _load(self) -> Loaded:
        heads = tuple(_head_if_readable(path) for path in self._slots)
        trouble, damaged, best = "", [], None
        for slot, path in enumerate(self._slots):
            try:
                found = _decode(path)
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                trouble = trouble or f"{path}: {_cause(error)}"
                damaged.append(path)
                continue
            if found is not None and (best is None or found[0] > best[0]):
                best = found[0], slot, found[1]
        self._good = None if best is None else _Good(best[1], best[0], heads)
        return Loaded(
            payload=None if best is None else best[2],
            recovered=trouble,
            damaged=tuple(damaged),
            path=None if best is None else self._slots[best[1]],
        )


def _overwrite(path: Path, body: bytes) -> None:
    """Makes the slot's bytes durable. A symlink, or a file with a second name, is replaced and never written through."""
    file = open_existing(path, os.O_WRONLY)
    if file is None:
        _create(path, body)
        return
    try:
        status = os.fstat(file)
        is_ours_alone = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
        if is_ours_alone:
            # Never shrunk, and grown by whole blocks: a flush of the same size needs no change of the inode.
            _flush(file, body.ljust(max(in_blocks(len(body)), status.st_size), b"\n"))
    finally:
        os.close(file)
    if not is_ours_alone:
        _create(path, body)


def open_existing(path: Path, flags: int) -> int | None:
    """A descriptor of the file; None if it is missing or a symlink is in its place. Raises OSError."""
    try:
        # Non-blocking: a FIFO in the place of the file must not hold up the start.
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError:
        if path.is_symlink():
            return None
        raise


def _flush(file: int, body: bytes) -> None:
    try:
        _write(file, body)
        os.fdatasync(file)
    except OSError:
        # The refused content may be whole in the page cache and yet not on the disk: a later reader must not find it.
        with suppress(OSError):  # if this fails too, the slot is torn, and its reader reports it
            os.pwrite(file, _VOID, 0)
            os.ftruncate(file, len(_VOID))
        raise


def _create(path: Path, body: bytes) -> None:
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        write_new(directory, path.name, body.ljust(in_blocks(len(body)), b"\n"))
        os.fsync(directory)
    except OSError:
        remove_if_there(directory, path.name)
        raise
    finally:
        os.close(directory)


def in_blocks(size: int) -> int:
    """`size` rounded up to whole blocks."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def write_new(directory: int, name: str, body: bytes, mode: int = _MODE) -> None:
    """Creates `name` in the open directory and makes its bytes durable; a planted symlink is refused, not followed."""
    remove_if_there(directory, name)
    file = os.open(
        name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=directory
    )
    try:
        _write(file, body)
        os.fsync(file)
    finally:
        os.close(file)


def remove_if_there(directory: int, name: str) -> None:
    """Unlinks `name` in the open directory; nothing happens if it does not exist."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return


def _write(file: int, body: bytes) -> None:
    view = memoryview(body)
    while view:
        view = view[os.write(file, view) :]


def _head(path: Path) -> Head:
    file = open_existing(path, os.O_RDONLY)
    if file is None:
        return None
    try:
        status = os.fstat(file)
        return os.pread(file, _HEAD_BYTES, 0), status.st_ino, status.st_mtime_ns, status.st_size
    finally:
        os.close(file)


def _head_if_readable(path: Path) -> Head:
    try:
        return _head(path)
    except OSError:
        return None  # the slot is read next, and its error is reported there


def _cause(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _encode(generation: int, payload: bytes) -> bytes:
    head = (generation, checksum(generation, payload))
    return b'{"generation":%d,"checksum":"%s","payload":%s}\n' % (*head, payload)


def _decode(path: Path) -> tuple[int, bytes] | None:
    """Generation and payload, None for a slot whose last write was refused. Raises OSError, ValueError."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a regular file")
        if status.st_size > _MAX_BYTES:
            raise ValueError(f"has {status.st_size} bytes, more than {_MAX_BYTES}")
    except ValueError:
        os.close(file)
        raise
    with os.fdopen(file, "rb") as stream:
        body = stream.read().rstrip(b"\n")
    if body == _VOID.rstrip(b"\n"):
        return None
    match = _HEAD.match(body)
    if match is None or not body.endswith(b"}"):
        raise ValueError("not a whole checksummed document")
    generation, payload = int(match[1]), body[match.end() : -1]
    if match[2] != checksum(generation, payload):
        raise ValueError("checksum does not match the payload")
    return generation, payload


def checksum(number: int, payload: bytes) -> bytes:
    """SHA-256 over the generation or sequence number and the payload."""
    return b"sha256:" + hashlib.sha256(b"%d\n" % number + payload).hexdigest().encode()
