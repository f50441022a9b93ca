"""`ApiServer`: the whole embedded API server, for the demo and for tests.

Place in the chain: created by `gpuvitals_sim.cluster` and by test fixtures; components connect to its `url`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from gpuvitals_sim.apiserver.access import Access
from gpuvitals_sim.apiserver.api import Api, ApiSettings
from gpuvitals_sim.apiserver.faults import Faults
from gpuvitals_sim.apiserver.http.listener import Site
from gpuvitals_sim.apiserver.http.server import HttpSide
from gpuvitals_sim.apiserver.in_process import InProcessClient
from gpuvitals_sim.apiserver.request_log import RequestLog
from gpuvitals_sim.apiserver.storage import Store


class ApiServer:
    """A Kubernetes API server on a loopback port. Use as a context manager, or `start` and `stop`."""

    def __init__(
        self, port: int = 0, *, access: Access | None = None, settings: ApiSettings | None = None
    ) -> None:
        self.api = Api(settings)
        self.faults = Faults(self.api)
        self.requests = RequestLog()
        self._site = Site(api=self.api, faults=self.faults, access=access or Access(), requests=self.requests)
        self._http = HttpSide(self._site, port=port)

    @property
    def store(self) -> Store:
        """The objects and their history."""
        return self.api.store

    @property
    def port(self) -> int:
        """The port, known after `start`."""
        return self._http.port

    @property
    def url(self) -> str:
        """The URL for clients: plain HTTP on loopback."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def failures(self) -> tuple[Exception, ...]:
        """Bugs of this server found while answering (each was a 500); a test should find none."""
        return tuple(self._site.failures)

    def client(self, name: str) -> InProcessClient:
        """An in-process client; `name` is its field manager."""
        return InProcessClient(self.api, name)

    def start(self) -> "ApiServer":
        """Starts to listen. Raises OSError if the port is taken."""
        self._http.accept()
        return self

    def stop(self) -> None:
        """Ends every stream and connection; a stopped server is not started again."""
        self._http.stop()

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Refuses connections and breaks running ones until the block ends; the port and the objects stay."""
        self._http.refuse()
        try:
            yield
        finally:
            self._http.accept()

    def __enter__(self) -> "ApiServer":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
