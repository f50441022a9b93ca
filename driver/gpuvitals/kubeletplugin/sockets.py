"""The plugin's unix sockets as files: their names, and a listener that removes only its own.

grpcio unlinks the path that it bound when it stops, even if another process has bound it since. So grpcio binds a
private name that starts with a dot (which the kubelet's watcher ignores), and the public name is a hard link to it.
Source: kubernetes/kubernetes pkg/kubelet/pluginmanager/pluginwatcher; kubernetes/dynamic-resource-allocation
kubeletplugin (names with a pod UID).
"""

import base64
import errno
import hashlib
import os
import re
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

MAX_PATH_BYTES = 107
"""Longest path that grpcio binds; the kernel's limit of 108 includes the final NUL. Source: unix(7)."""
_LINK_ATTEMPTS = 5


class SocketError(Exception):
    """A socket could not be opened or published. The message names the path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketPaths:
    """The paths of the two public sockets."""

    dra: Path
    registration: Path


def socket_paths(driver: str, pod_uid: str, data_directory: Path, registry_directory: Path) -> SocketPaths:
    """The socket paths of this instance. With a pod UID they are unique to it, so that two instances can overlap.

    Each is the first candidate that fits into MAX_PATH_BYTES; later candidates are hashes. Raises SocketError.
    """
    return SocketPaths(
        dra=_fitting(data_directory, _dra_names(pod_uid), "the state folder or the driver's name"),
        registration=_fitting(
            registry_directory, _registration_names(driver, pod_uid), "the kubelet's root folder"
        ),
    )


class PublishedSocket:
    """One socket: bound as `private`, published as `public`."""

    def __init__(self, public: Path) -> None:
        self.public = public
        self.private = public.with_name(f".{secrets.token_hex(4)}.sock")
        self._inode: tuple[int, int] | None = None
        if len(os.fsencode(self.private)) > MAX_PATH_BYTES:
            raise _too_long(self.private, "the state folder or the kubelet's root folder")

    @property
    def address(self) -> str:
        """The address for grpcio."""
        return f"unix:{self.private}"

    def publish(self) -> None:
        """Links the public name to the bound socket, and replaces an existing file. Raises SocketError."""
        try:
            os.chmod(self.private, 0o600)
            status = os.lstat(self.private)
            self._link()
        except OSError as error:
            raise SocketError(
                f"{self.public}: {error.strerror}; the kubelet can't reach this plugin"
            ) from error
        self._inode = (status.st_dev, status.st_ino)

    def _link(self) -> None:
        """Links the public name without a temporary one: the kubelet logs an error for each name that is gone again.

        Source: kubernetes/kubernetes pkg/kubelet/pluginmanager/pluginwatcher (handleCreateEvent).
        """
        for _ in range(_LINK_ATTEMPTS):
            try:
                return os.link(self.private, self.public, follow_symlinks=False)
            except FileExistsError:
                self.public.unlink(missing_ok=True)
        raise FileExistsError(errno.EEXIST, "another process creates this name repeatedly")

    def is_published(self) -> bool:
        """Whether the public name is still a link to this socket."""
        return self._inode is not None and _inode(self.public) == self._inode

    def withdraw(self) -> None:
        """Removes the private name, and the public one if it is still this socket. Raises SocketError."""
        try:
            if self.is_published():
                self.public.unlink(missing_ok=True)
            self.private.unlink(missing_ok=True)
        except OSError as error:
            raise SocketError(
                f"{self.public}: {error.strerror}; the kubelet keeps connecting to it"
            ) from error


def sweep_dead(driver: str, paths: SocketPaths) -> tuple[Path, ...]:
    """Removes the sockets of killed instances of this driver, on which no process listens.

    The kubelet would connect to each of them again for half an hour. Source: kubernetes/kubernetes#132660.
    """
    token = "[A-Za-z0-9_-]{11,64}"
    private = r"\.[0-9a-f]{8}\.sock"
    patterns = (
        (paths.registration.parent, re.compile(rf"{re.escape(driver)}-{token}-reg\.sock|{private}")),
        (paths.dra.parent, re.compile(rf"(?:dra|d)-{token}\.sock|{private}")),
    )
    removed: list[Path] = []
    for directory, pattern in patterns:
        for name in sorted(os.listdir(directory)):
            path = directory / name
            if pattern.fullmatch(name) and path not in (paths.dra, paths.registration) and _is_dead(path):
                path.unlink(missing_ok=True)
                removed.append(path)
    return tuple(removed)


def _dra_names(pod_uid: str) -> tuple[str, ...]:
    """Candidates in order. The short one fits below the default kubelet root for every valid driver name."""
    return (f"dra-{pod_uid}.sock", f"d-{_hashed(pod_uid, 8)}.sock") if pod_uid else ("dra.sock",)


def _registration_names(driver: str, pod_uid: str) -> tuple[str, ...]:
    both = _hashed(f"{driver}\0{pod_uid}", 16)
    short = f"dra-{both}-reg.sock"
    if not pod_uid:
        return (f"{driver}-reg.sock", short)
    return (f"{driver}-{pod_uid}-reg.sock", f"{driver}-{_hashed(pod_uid, 8)}-reg.sock", short)


def _hashed(text: str, size: int) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()[:size]).decode().rstrip("=")


def _fitting(directory: Path, names: tuple[str, ...], setting: str) -> Path:
    for name in names:
        path = directory / name
        if len(os.fsencode(path)) <= MAX_PATH_BYTES:
            return path
    raise _too_long(directory / names[-1], setting)


def _too_long(path: Path, setting: str) -> SocketError:
    over = len(os.fsencode(path)) - MAX_PATH_BYTES
    return SocketError(
        f"{path} is longer than {MAX_PATH_BYTES} bytes; shorten the directory: {setting}, by {over} or more"
    )


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:  # gone or not reachable: not this socket
        return None
    return status.st_dev, status.st_ino


def _is_dead(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.2)
        try:
            probe.connect(os.fspath(path))
        except OSError as error:
            return error.errno == errno.ECONNREFUSED
    return False
