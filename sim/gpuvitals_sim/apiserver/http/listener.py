"""The listening socket and its connections, each on a thread of its own.

Place in the chain: `HttpSide` creates one while connections are accepted; handlers reach their site through it.
"""

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from socketserver import BaseRequestHandler
from typing import Any

from gpuvitals_sim.apiserver.access import Access
from gpuvitals_sim.apiserver.api import Api
from gpuvitals_sim.apiserver.faults import Faults
from gpuvitals_sim.apiserver.request_log import RequestLog

_HOST = "127.0.0.1"
_STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The parts that all handlers share. `failures` are bugs of this server, kept for tests."""

    api: Api
    faults: Faults
    access: Access
    requests: RequestLog
    stopping: threading.Event = field(default_factory=threading.Event)
    failures: list[Exception] = field(default_factory=list)


class Listener(ThreadingHTTPServer):
    """One listening socket and its connections.

    Handler threads are daemons: an idle keep-alive connection blocks in a read with no deadline, and `stop`
    wakes it by shutting its socket down, and joins it.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, port: int, site: Site, handler: type[BaseRequestHandler]) -> None:
        super().__init__((_HOST, port), handler)
        self.site = site
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._connections_lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serves a new connection on its own named thread."""
        thread = threading.Thread(
            target=self._serve_connection,
            args=(request, client_address),
            name=f"apiserver-{client_address[1]}",
            daemon=True,
        )
        with self._connections_lock:
            self._connections[thread] = request
        thread.start()

    def cut(self, connection: Any) -> None:
        """Breaks one connection."""
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def cut_all(self) -> None:
        """Breaks every connection and waits for its thread."""
        with self._connections_lock:
            open_now = dict(self._connections)
        for connection in open_now.values():
            self.cut(connection)
        for thread in open_now:
            thread.join(_STOP_SECONDS)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores broken connections; the handler has answered and recorded any other error."""

    def _serve_connection(self, request: Any, client_address: Any) -> None:
        try:
            self.process_request_thread(request, client_address)
        finally:
            with self._connections_lock:
                self._connections.pop(threading.current_thread(), None)
