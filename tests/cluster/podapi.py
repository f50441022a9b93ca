"""The API server for pods that have a network of their own: it answers on their loopback.

A cluster has kube-proxy and a Service for that; this one has neither. A listening socket is made in each pod's network
namespace and what comes in goes to the real server, so nothing listens outside of the pods.
"""

import contextlib
import ctypes
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_NEW_NETWORK = 0x40000000
"""CLONE_NEWNET of Linux sched.h."""
_FREE_BIND = 15
"""IP_FREEBIND of Linux in.h: the namespace's loopback may be down yet."""
_LOOK_SECONDS = 0.05
_STOP_SECONDS = 5.0


class PodApi:
    """Context manager; `host` and `port` are what a pod dials. `node_root` is the node's file system."""

    def __init__(self, node_root: Path, url: str) -> None:
        self._namespaces = node_root / "run" / "netns"
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 443
        self._listeners: dict[str, socket.socket] = {}
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._looking = threading.Thread(target=self._look, name="pod-api", daemon=True)

    def __enter__(self) -> Self:
        self._looking.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._looking.join(_STOP_SECONDS)
        for listener in self._listeners.values():
            _close(listener)
        with self._lock:
            for each in self._open:
                _close(each)

    def _look(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            there = set(os.listdir(self._namespaces)) if self._namespaces.is_dir() else set()
            for gone in self._listeners.keys() - there:
                _close(self._listeners.pop(gone))
            for name in there - self._listeners.keys():
                with contextlib.suppress(OSError):  # not a namespace yet, or no more: looked at again
                    self._listeners[name] = self._listen(self._namespaces / name)

    def _listen(self, namespace: Path) -> socket.socket:
        """Only the thread that makes the socket enters the namespace, and it ends there."""
        made: list[socket.socket] = []

        def make() -> None:
            with contextlib.suppress(OSError), namespace.open("rb") as file:
                _enter(file.fileno())
                listener = socket.socket()
                made.append(listener)
                listener.setsockopt(socket.IPPROTO_IP, _FREE_BIND, 1)
                listener.bind((self.host, self.port))
                listener.listen(64)

        maker = threading.Thread(target=make, name="pod-api-make", daemon=True)
        maker.start()
        maker.join(_STOP_SECONDS)
        if not made:
            raise OSError(f"{namespace} is no network namespace")
        threading.Thread(target=self._accept, args=(made[0],), name="pod-api-accept", daemon=True).start()
        return made[0]

    def _accept(self, listener: socket.socket) -> None:
        for client in _clients(listener):
            try:
                server = socket.create_connection((self.host, self.port), timeout=_STOP_SECONDS)
            except OSError:
                _close(client)
                continue
            server.settimeout(None)
            with self._lock:
                self._open |= {client, server}
            for source, target in ((client, server), (server, client)):
                pump = threading.Thread(target=self._pump, args=(source, target), daemon=True)
                pump.start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(1 << 16):
                target.sendall(chunk)
        # Both directions end together: a half-closed connection means nothing to an API client.
        with self._lock:
            self._open -= {source, target}
        _close(source)
        _close(target)


def _clients(listener: socket.socket) -> Iterator[socket.socket]:
    with contextlib.suppress(OSError):  # the listener was closed
        while True:
            yield listener.accept()[0]


def _enter(namespace: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(namespace, _NEW_NETWORK) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _close(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
