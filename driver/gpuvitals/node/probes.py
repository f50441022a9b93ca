"""`/metrics`, `/livez` and `/readyz` over HTTP, in process.

Liveness checks the loop and the agent's own sockets, never NVML or the API server, since a restart repairs neither.
Readiness checks that the kubelet has registered the plugin and that the stored slices are current.
"""

from typing import Protocol

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from gpuvitals.node.http_server import Answer, HttpServer, Page

_FRESH_SECONDS = 1.0
"""How long a liveness answer is reused: it costs two calls over the agent's own sockets."""


class Checks(Protocol):
    """Each check returns the reason for its failure, or an empty string."""

    def live(self) -> str:
        """The check of /livez."""
        ...

    def ready(self) -> str:
        """The check of /readyz."""
        ...

    def remark(self) -> str:
        """A text that is added to a positive answer to /readyz."""
        ...


class ProbeServer:
    """Listens on one address; port 0 takes a free one. An empty host or `::` is every address, of both families."""

    def __init__(self, address: tuple[str, int], registry: CollectorRegistry, checks: Checks) -> None:
        """Raises OSError if the address is in use."""
        pages = {
            "/metrics": Page(make=lambda: _metrics(registry)),
            "/livez": Page(make=lambda: _answer(checks.live()), fresh_seconds=_FRESH_SECONDS),
            "/readyz": Page(make=lambda: _answer(checks.ready(), checks.remark())),
        }
        self._server = HttpServer(address, pages)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.port

    def start(self) -> None:
        """Starts the server's threads."""
        self._server.start()

    def stop(self) -> None:
        """Stops the threads and closes the socket."""
        self._server.stop()


def _metrics(registry: CollectorRegistry) -> Answer:
    return Answer(code=200, body=generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _answer(trouble: str, remark: str = "") -> Answer:
    if trouble:
        return Answer(code=503, body=f"{trouble}\n".encode())
    return Answer(code=200, body="; ".join(filter(None, ("ok", remark))).encode() + b"\n")
