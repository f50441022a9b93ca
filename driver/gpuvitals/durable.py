"""A small file that survives crashes: checksummed, written atomically, with its previous generation kept.

The layout is one JSON object: `{"checksum": "sha256:...", "payload": ...}`. A reader falls back to the previous
generation where the newest is torn, and says so. Both the checkpoint and the state store stand on it.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

_PREVIOUS = ".previous"
_MODE = 0o600


class DurableFileError(Exception):
    """Neither generation could be read, or the file could not be written. The message names the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What a read gave. `recovered` names the trouble where the newest generation was not usable, else empty."""

    payload: bytes | None
    recovered: str = ""


class DurableFile:
    """One file of bytes with two generations. Not locked: callers that share it hold a lock of their own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._previous = path.with_name(path.name + _PREVIOUS)

    def load(self) -> Loaded:
        """The newest usable payload; None where no generation exists or none is usable (then `recovered` says why)."""
        trouble = ""
        for path in (self.path, self._previous):
            try:
                payload = _decode(path)
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                trouble = trouble or f"{path}: {error}"
                continue
            return Loaded(payload=payload, recovered=trouble)
        return Loaded(payload=None, recovered=trouble)

    def save(self, payload: bytes) -> None:
        """Makes `payload` durable before it returns: temporary file, fsync, rename, directory fsync.

        Raises DurableFileError; the generations on disk are then untouched.
        """
        body = b'{"checksum":"' + _checksum(payload).encode() + b'","payload":' + payload + b"}\n"
        try:
            self._replace(body)
        except OSError as error:
            raise DurableFileError(
                f"{self.path}: not written: {error}; the previous content stays"
            ) from error

    def _replace(self, body: bytes) -> None:
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            temporary = f".{self.path.name}.{os.getpid()}.tmp"
            try:
                write_new(directory, temporary, body)
                if self.path.exists():
                    os.replace(
                        self.path.name, self._previous.name, src_dir_fd=directory, dst_dir_fd=directory
                    )
                os.replace(temporary, self.path.name, src_dir_fd=directory, dst_dir_fd=directory)
            except OSError:
                remove_if_there(directory, temporary)
                raise
            os.fsync(directory)
        finally:
            os.close(directory)


def write_new(directory: int, name: str, body: bytes, mode: int = _MODE) -> None:
    """Creates `name` in the open directory and makes its bytes durable; a planted symlink is refused, not followed."""
    remove_if_there(directory, name)
    file = os.open(
        name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=directory
    )
    try:
        view = memoryview(body)
        while view:
            view = view[os.write(file, view) :]
        os.fsync(file)
    finally:
        os.close(file)


def remove_if_there(directory: int, name: str) -> None:
    """Unlinks `name` in the open directory; nothing happens where it does not exist."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return


def _decode(path: Path) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(file, "rb") as stream:
        body = stream.read()
    document = json.loads(body)
    if not isinstance(document, dict) or "checksum" not in document:
        raise ValueError("not a checksummed document")
    start = body.index(b'"payload":') + len(b'"payload":')
    payload = body[start:].rstrip()[:-1]
    if document["checksum"] != _checksum(payload):
        raise ValueError("checksum does not match the payload")
    return payload


def _checksum(payload: bytes) -> str:
    return "sha256:" + hashlib.sha256(payload).hexdigest()
