"""The debug socket, over which `gpuvitals explain GPU` and `gpuvitals forget UUID` query the running agent.

One JSON object per line in each direction, for example `{"ask": "gpu", "gpu": "<name>"}`. Only root and the agent's own
user may connect.
"""

import json
import logging
import os
import secrets
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from gpuvitals.json_text import json_value
from gpuvitals.kubeletplugin.ports import DebugResponder
from gpuvitals.observability.logs import keys
from gpuvitals.stoppable_thread import StoppableThread

FILE = "debug.sock"

_MAX_REQUEST = 4096
_MAX_ANSWER = 1 << 20
_SECONDS = 2.0
_ACCEPT_SECONDS = 0.5

log = logging.getLogger(__name__)


class DebugError(Exception):
    """The agent can't be queried. The message has the reason."""


class RefusedQuestionError(DebugError):
    """The agent refused the request as invalid."""


class DebugSocket:
    """Serves one caller at a time, each within a deadline."""

    def __init__(self, directory: Path, responder: DebugResponder) -> None:
        self._path = directory / FILE
        self._responder = responder
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._inode = 0
        self._thread = StoppableThread(self._serve, name="kubeletplugin-debug", daemon=False)

    def start(self) -> None:
        """Starts to listen, and takes the socket's name over from an older instance. Raises OSError."""
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
        self._thread.stop(_SECONDS + _ACCEPT_SECONDS)
        self._listener.close()
        try:
            if os.lstat(self._path).st_ino == self._inode:
                os.unlink(self._path)
        except FileNotFoundError:
            return

    def _serve(self) -> None:
        while not self._thread.stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError as error:
                log.warning("debug socket", extra=keys(reason=error))
                self._thread.stopping.wait(_ACCEPT_SECONDS)
                continue
            with connection:
                try:
                    self._serve_caller(connection)
                except OSError as error:
                    log.info("debug caller lost", extra=keys(reason=error))

    def _serve_caller(self, connection: socket.socket) -> None:
        connection.settimeout(_SECONDS)
        if _peer_uid(connection) not in (0, os.geteuid()):
            log.warning("debug caller refused", extra=keys(uid=_peer_uid(connection)))
            return
        connection.sendall(self._reply(_line(connection, _MAX_REQUEST, _SECONDS)))

    def _reply(self, request: bytes) -> bytes:
        try:
            document = json.loads(request)
            if not isinstance(document, dict):
                raise ValueError("the request must be a JSON object")
            reply = json.dumps({"answer": self._responder.answer(document)}).encode() + b"\n"
        except (ValueError, TypeError, RecursionError) as error:
            return _error(f"{error}")
        except Exception as error:  # a defect of the responder must not end this thread
            log.exception("debug answer failed")
            return _error(f"{type(error).__name__}: {error}")
        if len(reply) > _MAX_ANSWER:
            return _error(f"the answer has {len(reply)} bytes, more than {_MAX_ANSWER}; ask for one GPU")
        return reply


def ask(path: Path, request: Mapping[str, object], seconds: float = _SECONDS) -> object:
    """The agent's answer. Raises DebugError if it can't be reached, RefusedQuestionError for an invalid request."""
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
    """Reads one line of at most `limit` bytes within `seconds`. Raises OSError."""
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
