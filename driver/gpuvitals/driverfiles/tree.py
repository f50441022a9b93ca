"""Reads a real folder tree for `search`, and the version of the loaded driver."""

import errno
import os
import platform
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from gpuvitals.driverfiles.search import HEAD_BYTES, Query

_T = TypeVar("_T")
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL)
_NVRM = re.compile(r"^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)*)\s", re.MULTILINE)


class FileTree:
    """A folder of this machine. Unreadable files count as absent; `troubles` has the error for each path."""

    def __init__(self, root: Path) -> None:
        self.troubles: dict[str, str] = {}
        self._root = str(root)

    def link(self, path: str) -> str | None:
        """The target of a link; None for other files, and for a name that can't be written into a CDI file."""
        target = self._read(path, os.readlink, None)
        if target is None or _is_utf8(target):
            return target
        self.troubles[path] = "is a link to a name that is not UTF-8"
        return None

    def is_folder(self, path: str) -> bool:
        """Whether the path is a folder."""
        return stat.S_ISDIR(self._read(path, _mode, 0))

    def is_file(self, path: str) -> bool:
        """Whether the path is a regular file."""
        return stat.S_ISREG(self._read(path, _mode, 0))

    def names(self, path: str) -> frozenset[str]:
        """The names in a folder that can be written into a CDI file."""
        found: frozenset[str] = self._read(path, _names, frozenset())
        named = frozenset(filter(_is_utf8, found))
        if named != found:
            self.troubles[path] = "has a name that is not UTF-8"
        return named

    def head(self, path: str) -> bytes:
        """The first bytes of a file."""
        return self._read(path, _head, b"")

    def size(self, path: str) -> int:
        """The size of a file in bytes."""
        return self._read(path, os.path.getsize, 0)

    def _read(self, path: str, read: Callable[[str], _T], absent: _T) -> _T:
        try:
            return read(os.path.join(self._root, path))
        except OSError as error:
            if error.errno not in _ABSENT:
                self.troubles[path] = error.strerror or str(error)
            return absent


def query(proc_root: Path, extra: tuple[str, ...] = ()) -> Query:
    """The parameters of a search for this machine's driver."""
    return Query(machine=platform.machine(), loaded=loaded_version(proc_root), extra=extra)


def loaded_version(proc_root: Path) -> str:
    """The version of the loaded kernel module, "" if none is loaded.

    One real line: `NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan  9 02:32:11 UTC 2025`.
    """
    try:
        text = (proc_root / "driver/nvidia/version").read_text(encoding="ascii", errors="replace")
    except OSError:  # no driver is loaded, or /proc is not the node's: the version is unknown
        return ""
    found = _NVRM.search(text)
    return found[1] if found is not None else ""


def _is_utf8(name: str) -> bool:
    """Whether a file name is UTF-8. In other names, Python keeps the bytes as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _names(path: str) -> frozenset[str]:
    return frozenset(os.listdir(path))


def _mode(path: str) -> int:
    return os.lstat(path).st_mode


def _head(path: str) -> bytes:
    # O_NONBLOCK, so that a FIFO with a library's name does not block the search.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return os.read(descriptor, HEAD_BYTES)
    finally:
        os.close(descriptor)
