"""Files in one directory: opened through its descriptor, never through a symlink, and replaced as a whole."""

import os
import secrets
from pathlib import Path

from gpuvitals.durable import remove_if_there, write_new

_TEMPORARY = ".gpuvitals-"
"""Prefix of files that are being written; a killed process can leave one behind."""
_MAX_BYTES = 8 << 20

Stamp = tuple[int, int, int] | None
"""Inode, time of the last change in ns and size; None for a missing file."""


class StorageError(Exception):
    """A file operation failed. The message names the file and the reason."""


class Directory:
    """A directory that others may remove and create again at any time, so it is opened for each operation."""

    def __init__(self, path: Path, mode: int = 0o755) -> None:
        self.path = path
        self._mode = mode
        self._writing: set[str] = set()

    def ensure(self) -> None:
        """Creates the directory if it is missing. Raises StorageError."""
        try:
            self.path.mkdir(mode=self._mode, parents=True, exist_ok=True)
        except OSError as error:
            raise _failed(self.path, error) from error

    def read(self, name: str) -> bytes | None:
        """The file's content, None if it does not exist. Raises StorageError, also for a symlink."""
        try:
            with _Opened(self.path) as directory:
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            with os.fdopen(file, "rb") as stream:
                return stream.read(_MAX_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _failed(self.path / name, error) from error

    def write(self, name: str, content: bytes, mode: int = 0o644) -> None:
        """Writes the content durably under a temporary name, then renames it. A symlink of that name is replaced.

        The directory itself is not flushed: a power failure that loses the name also ends the boot, and nothing stays
        prepared across boots. After a failure the file is written once more as a new file. Raises StorageError.
        """
        try:
            self._replace(name, content, mode)
        except OSError:
            self.ensure()
            try:
                self._replace(name, content, mode)
            except OSError as error:
                raise _failed(self.path / name, error) from error

    def remove(self, name: str) -> None:
        """Removes the file, if it exists. Raises StorageError."""
        try:
            with _Opened(self.path) as directory:
                remove_if_there(directory, name)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _failed(self.path / name, error) from error

    def names(self) -> tuple[str, ...]:
        """The names in the directory, sorted; none if it is missing. Raises StorageError."""
        try:
            return tuple(sorted(os.listdir(self.path)))
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise _failed(self.path, error) from error

    def is_half_written(self, name: str) -> bool:
        """Whether it is a temporary file that no thread of this process is writing."""
        return name.startswith(_TEMPORARY) and name not in self._writing

    def modified(self, name: str) -> float | None:
        """The time of the file's last change in Unix seconds, None if it is gone."""
        try:
            return os.lstat(self.path / name).st_mtime
        except OSError:  # gone or not reachable
            return None

    def stamp(self, name: str = ".") -> Stamp:
        """A stamp that changes with the directory's listing, or with the named file."""
        try:
            status = os.lstat(self.path / name)
        except OSError:  # a missing file has a stamp too: the caller compares stamps
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _replace(self, name: str, content: bytes, mode: int) -> None:
        temporary = f"{_TEMPORARY}{secrets.token_hex(6)}"
        with _Opened(self.path) as directory:
            self._writing.add(temporary)
            try:
                write_new(directory, temporary, content, mode)
                os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            except OSError:
                remove_if_there(directory, temporary)
                raise
            finally:
                self._writing.discard(temporary)


class _Opened:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def __enter__(self) -> int:
        self._descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _failed(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path}: {error.strerror or error}")
