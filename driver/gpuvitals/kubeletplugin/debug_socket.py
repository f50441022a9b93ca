"""The debug socket: `gpuvitals explain GPU` and `gpuvitals forget UUID` ask the running agent over it.

One JSON object a line each way: `{"ask": "gpu", "gpu": "<name>"}`; the answer comes from a callable that wiring gives.
Root and the agent's own user alone may ask.
"""

import json
import logging
import os
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from gpuvitals.json_text import json_value
from gpuvitals.observability.logs import keys

FILE = "debug.sock"

_MAX_REQUEST = 4096
_MAX_ANSWER = 1 << 20
_SECONDS = 2.0
_ACCEPT_SECONDS = 0.5

log = logging.getLogger(__name__)

Answer = Callable[[Mapping[str, object]], object]
"""Takes the request, gives what json.dumps can print; raises ValueError for a request that it can't answer."""


class DebugError(Exception):
    """The agent could not be asked. The message says why."""


class RefusedQuestionError(DebugError):
    """The agent was asked and can't answer: the question is at fault."""


class DebugSocket:
    """Answers one caller at a time, root or the agent's own user, each within a deadline."""

    def __init__(self, directory: Path, answer: Answer) -> None:
        self._path = directory / FILE
        self._answer = answer
        self._stop = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._inode = 0
        self._thread = threading.Thread(target=self._serve, name="kubeletplugin-debug", daemon=False)

    def start(self) -> None:
        """Takes the name, also from an older instance. Raises OSError."""
        private = self._path.with_name(f".{secrets.token_hex(4)}.sock")
        self._listener.bind(os.fspath(private))
        os.chmod(private, 0o600)
        self._inode = os.lstat(private).st_ino
        self._listener.listen(4)
        self._listener.settimeout(_ACCEPT_SECONDS)
        os.replace(private, self._path)
        self._thread.start()

    def stop(self) -> None:
        """Closes the socket and removes its name, unless a newer instance has taken it."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(_SECONDS + _ACCEPT_SECONDS)
        self._listener.close()
        try:
            if os.lstat(self._path).st_ino == self._inode:
                os.unlink(self._path)
        except FileNotFoundError:
            return

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError as error:
                log.warning("debug socket", extra=keys(reason=error))
                self._stop.wait(_ACCEPT_SECONDS)
                continue
            with connection:
                try:
                    self._talk(connection)
                except OSError as error:
                    log.info("debug caller lost", extra=keys(reason=error))

    def _talk(self, connection: socket.socket) -> None:
        connection.settimeout(_SECONDS)
        if _peer_uid(connection) not in (0, os.geteuid()):
            log.warning("debug caller refused", extra=keys(uid=_peer_uid(connection)))
            return
        connection.sendall(self._reply(_line(connection, _MAX_REQUEST, _SECONDS)))

    def _reply(self, request: bytes) -> bytes:
        try:
            asked = json.loads(request)
            if not isinstance(asked, dict):
                raise ValueError("the request must be a JSON object")
            reply = json.dumps({"answer": self._answer(asked)}).encode() + b"\n"
        except (ValueError, TypeError, RecursionError) as error:
            return _error(f"{error}")
        except (
            Exception
        ) as error:  # the answer is somebody else's code; a caller's question must not end this thread
            log.exception("debug answer failed")
            return _error(f"{type(error).__name__}: {error}")
        if len(reply) > _MAX_ANSWER:
            return _error(f"the answer has {len(reply)} bytes, more than {_MAX_ANSWER}; ask for one GPU")
        return reply


def ask(path: Path, request: Mapping[str, object], seconds: float = _SECONDS) -> object:
    """The agent's answer. Raises DebugError where it can't be asked, RefusedQuestionError where it refuses."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        try:
            connection.connect(os.fspath(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            reply = json_value(_line(connection, _MAX_ANSWER, seconds))
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise DebugError(f"{path}: {why}; is the agent running on this node?") from error
    if not isinstance(reply, dict) or "answer" not in reply:
        why = reply.get("error", reply) if isinstance(reply, dict) else reply
        raise RefusedQuestionError(str(why))
    return reply["answer"]


def _line(connection: socket.socket, limit: int, seconds: float) -> bytes:
    """One line, within the limit and the time. Raises OSError."""
    until = time.monotonic() + seconds
    received = b""
    while not received.endswith(b"\n"):
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no whole line in {seconds:g} s")
        connection.settimeout(left)
        chunk = connection.recv(65536)
        if not chunk:
            raise ConnectionError("closed in mid-line")
        received += chunk
        if len(received) > limit:
            raise ConnectionError(f"more than {limit} bytes in a line")
    return received


def _error(message: str) -> bytes:
    return json.dumps({"error": message}).encode() + b"\n"


def _peer_uid(connection: socket.socket) -> int:
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(uid)
