"""The plugin's unix sockets as files: their names, and a listener that removes only what is its own.

grpcio unlinks the path that it bound when it stops, whoever's socket that path is by then. So it binds a private name
that starts with a dot (which the kubelet's watcher ignores), and the public name is a second link to the same socket.
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
"""Longest path that grpcio binds; the kernel's own limit counts a closing NUL. Source: unix(7)."""
_LINK_ATTEMPTS = 5


class SocketError(Exception):
    """A socket could not be opened or published. The message names the path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketPaths:
    """Where the two public sockets are."""

    dra: Path
    registration: Path


def socket_paths(driver: str, pod_uid: str, data_directory: Path, registry_directory: Path) -> SocketPaths:
    """The names for this instance. With a pod UID they are its own, so that two instances can overlap.

    Each takes the first name whose path fits: the later names are hashes. Raises SocketError where none fits.
    """
    return SocketPaths(
        dra=_fitting(data_directory, _dra_names(pod_uid), "the state folder or the driver's name"),
        registration=_fitting(
            registry_directory, _registration_names(driver, pod_uid), "the kubelet's root folder"
        ),
    )


class PublishedSocket:
    """One socket: bound under `private`, found by others under `public`."""

    def __init__(self, public: Path) -> None:
        self.public = public
        self.private = public.with_name(f".{secrets.token_hex(4)}.sock")
        self._inode: tuple[int, int] | None = None
        if len(os.fsencode(self.private)) > MAX_PATH_BYTES:
            raise _too_long(self.private, "the state folder or the kubelet's root folder")

    @property
    def address(self) -> str:
        """What grpcio binds."""
        return f"unix:{self.private}"

    def publish(self) -> None:
        """Puts the public name on the bound socket, in place of whatever was there. Raises SocketError."""
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
        """Links the public name directly: of a name that is gone by the time it looks the kubelet logs an error.

        Source: kubernetes/kubernetes pkg/kubelet/pluginmanager/pluginwatcher (handleCreateEvent).
        """
        for _ in range(_LINK_ATTEMPTS):
            try:
                return os.link(self.private, self.public, follow_symlinks=False)
            except FileExistsError:
                self.public.unlink(missing_ok=True)
        raise FileExistsError(errno.EEXIST, "somebody else takes this name again and again")

    def is_published(self) -> bool:
        """Whether the public name still leads to this socket."""
        return self._inode is not None and _inode(self.public) == self._inode

    def withdraw(self) -> None:
        """Removes the public name if it is still this socket's, and the private one. Raises SocketError."""
        try:
            if self.is_published():
                self.public.unlink(missing_ok=True)
            self.private.unlink(missing_ok=True)
        except OSError as error:
            raise SocketError(f"{self.public}: {error.strerror}; the kubelet keeps dialling it") from error


def sweep_dead(driver: str, paths: SocketPaths) -> tuple[Path, ...]:
    """Removes sockets that killed instances of this driver left behind; those nobody listens on any more.

    The kubelet redials each of them for half an hour. Source: kubernetes/kubernetes#132660.
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
    """The short one fits below the usual kubelet root for every legal name of a driver."""
    return (f"dra-{pod_uid}.sock", f"d-{_hashed(pod_uid, 8)}.sock") if pod_uid else ("dra.sock",)


def _registration_names(driver: str, pod_uid: str) -> tuple[str, ...]:
    both = _hashed(f"{driver}\0{pod_uid}", 16)
    short = f"dra-{both}-reg.sock"
    if not pod_uid:
        return (f"{driver}-reg.sock", short)
    return (f"{driver}-{pod_uid}-reg.sock", f"{driver}-{_hashed(pod_uid, 8)}-reg.sock", short)


def _hashed(text: str, size: int) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()[:size]).decode().rstrip("=")


def _fitting(directory: Path, names: tuple[str, ...], what: str) -> Path:
    for name in names:
        path = directory / name
        if len(os.fsencode(path)) <= MAX_PATH_BYTES:
            return path
    raise _too_long(directory / names[-1], what)


def _too_long(path: Path, what: str) -> SocketError:
    over = len(os.fsencode(path)) - MAX_PATH_BYTES
    return SocketError(
        f"{path} is longer than {MAX_PATH_BYTES} bytes; shorten the directory: {what}, by {over} or more"
    )


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:  # gone or out of reach: in either case it is not ours
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
