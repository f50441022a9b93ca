"""`/metrics`, `/livez` and `/readyz` over HTTP, in process.

Liveness asks the loop and the own sockets, never NVML or the API server: neither is cured by a restart. Readiness asks
whether the kubelet knows us and the cluster shows what we know.
"""

from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from gpuvitals.node.http_server import Answer, HttpServer, Page

_FRESH_SECONDS = 1.0
"""For so long an answer about liveness is given again: it costs two calls over the own sockets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """Each check gives the reason why it fails, or an empty string. `remark` is added to a good answer to /readyz."""

    live: Callable[[], str]
    ready: Callable[[], str]
    remark: Callable[[], str] = lambda: ""


class ProbeServer:
    """Listens on one address; port 0 takes a free one. An empty host or `::` is every address, of both families."""

    def __init__(self, address: tuple[str, int], registry: CollectorRegistry, checks: Checks) -> None:
        """Raises OSError where the address is taken."""
        pages = {
            "/metrics": Page(make=lambda: _metrics(registry)),
            "/livez": Page(make=lambda: _checked(checks.live), fresh_seconds=_FRESH_SECONDS),
            "/readyz": Page(make=lambda: _checked(checks.ready, checks.remark)),
        }
        self._server = HttpServer(address, pages)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.port

    def start(self) -> None:
        """Starts to answer."""
        self._server.start()

    def stop(self) -> None:
        """Stops and closes the socket."""
        self._server.stop()


def _metrics(registry: CollectorRegistry) -> Answer:
    return Answer(code=200, body=generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _checked(check: Callable[[], str], remark: Callable[[], str] = lambda: "") -> Answer:
    trouble = check()
    if trouble:
        return Answer(code=503, body=f"{trouble}\n".encode())
    return Answer(code=200, body="; ".join(filter(None, ("ok", remark()))).encode() + b"\n")
