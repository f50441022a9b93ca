"""A small HTTP server that untrusted peers can't exhaust: one thread for all connections, and one for each page.

A connection costs no thread and has one deadline for everything; beyond the limit, the oldest one is closed. Requests
for a page that is being made share one answer. So neither a slow peer nor a thousand of them delay the kubelet's probe.
Answers close the connection; only GET and HEAD are served.
"""

import errno
import logging
import queue
import selectors
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import partial

from gpuvitals.observability.logs import keys
from gpuvitals.stoppable_thread import StoppableThread

log = logging.getLogger(__name__)

_MAX_REQUEST = 8192
_BACKLOG = 128
_IDLE_SECONDS = 0.5
_JOIN_SECONDS = 2.0
_PAGE_JOIN_SECONDS = 0.3
_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_ALL_ADDRESSES = ("", "::")
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One page as it is sent."""

    code: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """`make` builds the page, on a thread of its own. A page younger than `fresh_seconds` is sent again instead."""

    make: Callable[[], Answer]
    fresh_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """`seconds` is the time from accepting a connection to the last byte of its answer."""

    connections: int = 64
    seconds: float = 5.0


class _Stage(Enum):
    READING = 0
    WRITING = 1
    WAITING = 2


@dataclass(slots=True, eq=False)
class _Connection:
    peer: socket.socket
    until: float
    stage: _Stage = _Stage.READING
    received: bytes = b""
    to_send: bytes = b""
    wants_body: bool = True


@dataclass(slots=True, eq=False)
class _Maker:
    page: Page
    requests: "queue.SimpleQueue[bool]" = field(default_factory=queue.SimpleQueue)
    waiting: list[_Connection] = field(default_factory=list)
    busy: bool = False
    newest: Answer | None = None
    newest_at: float = 0.0


class HttpServer:
    """Serves `pages` by path at one address. An empty host or `::` is every address, of both families if available."""

    def __init__(
        self, address: tuple[str, int], pages: Mapping[str, Page], limits: HttpLimits | None = None
    ) -> None:
        """Raises OSError if the address can't be bound."""
        self._limits = limits or HttpLimits()
        self._listener = listening(*address)
        self._makers = {path: _Maker(page) for path, page in pages.items()}
        self._made: queue.SimpleQueue[tuple[_Maker, Answer, float]] = queue.SimpleQueue()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._connections: dict[_Connection, None] = {}
        self._loop = StoppableThread(self._run, name="probes", daemon=False)
        # Daemons: a page that hangs must not delay the exit.
        self._threads = [
            StoppableThread(partial(self._make, maker), name=f"probes{path}", daemon=True)
            for path, maker in self._makers.items()
        ]

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._listener.getsockname()[1])

    def start(self) -> None:
        """Starts the threads."""
        for thread in (*self._threads, self._loop):
            thread.start()

    def stop(self) -> None:
        """Closes every connection and the socket."""
        self._loop.stopping.set()
        for maker in self._makers.values():
            maker.requests.put(False)
        self._wake()
        self._loop.stop(_JOIN_SECONDS)
        for thread in self._threads:
            thread.stop(_PAGE_JOIN_SECONDS)
        for connection in list(self._connections):
            self._close(connection)
        self._selector.close()
        for each in (self._listener, self._wake_reader, self._wake_writer):
            each.close()

    def _run(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        while not self._loop.stopping.is_set():
            for key, _ in self._selector.select(self._timeout()):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is self._wake_reader:
                    self._wake_reader.recv(4096)
                elif key.data in self._connections:
                    self._serve(key.data)
            while not self._made.empty():
                self._answer_waiting(*self._made.get())
            self._expire()

    def _timeout(self) -> float:
        now = time.monotonic()
        return max(0.0, min((each.until - now for each in self._connections), default=_IDLE_SECONDS))

    def _accept(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except OSError as error:
            if error.errno in _OUT_OF_FILES:
                log.warning("probe connection not accepted", extra=keys(reason=error.strerror))
                self._make_room()
                self._loop.stopping.wait(0.05)
            return
        if len(self._connections) >= self._limits.connections:
            self._make_room()
        peer.setblocking(False)
        connection = _Connection(peer=peer, until=time.monotonic() + self._limits.seconds)
        self._connections[connection] = None
        self._selector.register(peer, selectors.EVENT_READ, connection)

    def _make_room(self) -> None:
        """Closes the oldest connection without a complete request, or else one that does not read its answer."""
        oldest = min(self._connections, key=lambda each: each.stage.value, default=None)
        if oldest is not None:
            self._close(oldest)

    def _serve(self, connection: _Connection) -> None:
        try:
            if connection.stage is _Stage.READING:
                self._read(connection)
            else:
                self._write(connection)
        except BlockingIOError:
            return
        except OSError as error:
            log.debug("probe peer left: %s", error)
            self._close(connection)

    def _read(self, connection: _Connection) -> None:
        chunk = connection.peer.recv(_MAX_REQUEST)
        if not chunk:
            self._close(connection)
            return
        connection.received += chunk
        head = connection.received.replace(b"\r\n", b"\n").partition(b"\n\n")
        if len(connection.received) > _MAX_REQUEST:
            self._send(connection, Answer(code=431, body=b"the request is too long\n"))
        elif head[1]:
            self._route(connection, head[0].partition(b"\n")[0].decode("latin-1"))

    def _route(self, connection: _Connection, line: str) -> None:
        words = line.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            self._send(connection, Answer(code=400, body=b"not a request of HTTP/1\n"))
            return
        connection.wants_body = words[0] != "HEAD"
        maker = self._makers.get(words[1].partition("?")[0])
        if words[0] not in ("GET", "HEAD"):
            self._send(connection, Answer(code=405, body=b"GET and HEAD only\n"))
        elif maker is None:
            known = ", ".join(self._makers).encode()
            self._send(connection, Answer(code=404, body=b"not here; try " + known + b"\n"))
        elif maker.newest is not None and time.monotonic() - maker.newest_at < maker.page.fresh_seconds:
            self._send(connection, maker.newest)
        else:
            # No longer read: a peer may close its half after its request.
            self._selector.unregister(connection.peer)
            connection.stage = _Stage.WAITING
            maker.waiting.append(connection)
            if not maker.busy:
                maker.busy = True
                maker.requests.put(True)

    def _make(self, maker: _Maker) -> None:
        """Runs the thread of one page."""
        while maker.requests.get():
            began = time.monotonic()
            try:
                answer = maker.page.make()
            except (
                Exception
            ):  # whatever a page raises, its peers get an answer, and the next request tries again
                log.exception("page not made")
                answer = Answer(
                    code=500, body=b"this page could not be made; the agent's log has the cause\n"
                )
            self._made.put((maker, answer, began))
            self._wake()

    def _wake(self) -> None:
        try:
            self._wake_writer.send(b"\0")
        except OSError as error:  # full: a wake is pending; closed: the loop has ended
            log.debug("probes not woken: %s", error)

    def _answer_waiting(self, maker: _Maker, answer: Answer, began: float) -> None:
        maker.busy, maker.newest, maker.newest_at = False, answer, began
        waiting, maker.waiting = maker.waiting, []
        for connection in waiting:
            if connection in self._connections:
                self._send(connection, answer)

    def _send(self, connection: _Connection, answer: Answer) -> None:
        head = (
            f"HTTP/1.1 {answer.code} {_REASONS[answer.code]}\r\nContent-Type: {answer.content_type}\r\n"
            f"Content-Length: {len(answer.body)}\r\nConnection: close\r\n\r\n"
        )
        connection.to_send = head.encode() + (answer.body if connection.wants_body else b"")
        if connection.stage is _Stage.READING:
            self._selector.unregister(connection.peer)
        connection.stage = _Stage.WRITING
        self._selector.register(connection.peer, selectors.EVENT_WRITE, connection)
        self._serve(connection)

    def _write(self, connection: _Connection) -> None:
        sent = connection.peer.send(connection.to_send)
        connection.to_send = connection.to_send[sent:]
        if not connection.to_send:
            self._close(connection)

    def _expire(self) -> None:
        now = time.monotonic()
        for connection in [each for each in self._connections if each.until <= now]:
            if connection.stage is _Stage.WAITING:
                connection.until = now + self._limits.seconds
                self._send(connection, Answer(code=503, body=b"this page takes too long\n"))
            else:
                self._close(connection)

    def _close(self, connection: _Connection) -> None:
        if connection not in self._connections:
            return
        del self._connections[connection]
        if connection.stage is not _Stage.WAITING:
            self._selector.unregister(connection.peer)
        connection.peer.close()


def listening(host: str, port: int) -> socket.socket:
    """A listening socket, of both families for every address. Raises OSError."""
    if host in _ALL_ADDRESSES:
        dual = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual else socket.AF_INET
        listener = socket.create_server(("", port), family=family, backlog=_BACKLOG, dualstack_ipv6=dual)
    else:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        listener = socket.create_server(found[0][4], family=found[0][0], backlog=_BACKLOG)
    listener.setblocking(False)
    return listener
