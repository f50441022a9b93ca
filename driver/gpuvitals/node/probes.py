"""`/metrics`, `/livez` and `/readyz` over HTTP, in process.

Liveness asks the loop and the own sockets, never NVML or the API server: neither is cured by a restart. Readiness asks
whether the kubelet knows us and the cluster shows what we know.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

log = logging.getLogger(__name__)

_SOCKET_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """Each check gives the reason why it fails, or an empty string."""

    live: Callable[[], str]
    ready: Callable[[], str]


class ProbeServer:
    """Listens on one address; port 0 takes a free one."""

    def __init__(self, address: tuple[str, int], registry: CollectorRegistry, checks: Checks) -> None:
        """Raises OSError where the address is taken."""
        self._server = _Server(address, _handler(registry, checks))
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="probes", kwargs={"poll_interval": 0.2}
        )

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Starts to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stops and closes the socket."""
        self._server.shutdown()
        self._thread.join(_SOCKET_SECONDS)
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    # A scraper that hangs must not hold up the exit.
    daemon_threads = True


def _handler(registry: CollectorRegistry, checks: Checks) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _SOCKET_SECONDS

        def do_GET(self) -> None:  # the name is http.server's
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
            elif path in ("/livez", "/readyz"):
                trouble = checks.live() if path == "/livez" else checks.ready()
                self._answer(503 if trouble else 200, (trouble or "ok").encode() + b"\n", "text/plain")
            else:
                self._answer(404, b"not here; try /metrics, /livez or /readyz\n", "text/plain")

        def log_message(self, format: str, *args: object) -> None:  # the name is http.server's
            log.debug(format, *args)

        def _answer(self, code: int, body: bytes, kind: str) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
