"""The HTTP side as a whole: listens on loopback, refuses connections, stops.

Place in the chain: `server.ApiServer` owns one `HttpSide`.
"""

import threading

from gpuvitals_sim.apiserver.http.handler import Handler
from gpuvitals_sim.apiserver.http.listener import Listener, Site

_STOP_SECONDS = 5.0


class HttpSide:
    """The HTTP side as a whole: one port for its life, with a listener while connections are accepted."""

    def __init__(self, site: Site, *, port: int) -> None:
        self._site = site
        self._port = port
        self._listener: Listener | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port, chosen at the first `accept` if it was 0."""
        return self._port

    def accept(self) -> None:
        """Listens. Raises OSError if the port is taken."""
        if self._listener is not None:
            return
        listener = Listener(self._port, self._site, Handler)
        self._port = listener.server_address[1]
        self._thread = threading.Thread(
            target=listener.serve_forever,
            kwargs={"poll_interval": 0.05},
            name="apiserver-accept",
            daemon=True,
        )
        self._listener = listener
        self._thread.start()

    def refuse(self) -> None:
        """Stops listening and breaks every connection; the port is kept for the next `accept`."""
        listener, thread = self._listener, self._thread
        if listener is None or thread is None:
            return
        listener.shutdown()
        thread.join(_STOP_SECONDS)
        listener.server_close()
        listener.cut_all()
        self._listener = self._thread = None

    def stop(self) -> None:
        """Ends every stream and connection, and waits for their threads."""
        self._site.stopping.set()
        self._site.faults.resume_watches()
        self._site.api.store.close_subscriptions()
        self.refuse()
