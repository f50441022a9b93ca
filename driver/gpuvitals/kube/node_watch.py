"""Looks at the own Node again and again: its labels, which policies match by, and its annotations, which people write.

The agent may get its Node and not watch it. The answer comes from the API server's cache (resourceVersion 0), and one
whose resourceVersion was seen before is not looked into.
"""

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

import msgspec

from gpuvitals.kube.client import Call, Transport
from gpuvitals.kube.errors import ApiError, Retryable
from gpuvitals.kube.retry import WATCH, Retries, retrying
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics

log = logging.getLogger(__name__)

_SOONEST = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeMeta:
    """What people and other programs have written on the Node."""

    labels: dict[str, str]
    annotations: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeWatchSettings:
    """Whose Node, and how many seconds lie between two looks at most."""

    node: str
    seconds: float = 20.0


class NodeWatch:
    """One thread that looks. `changed` is called on it after a look that differs from the one before."""

    def __init__(
        self,
        settings: NodeWatchSettings,
        transport: Transport,
        metrics: NodeMetrics,
        changed: Callable[[NodeMeta], None],
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._metrics = metrics
        self._changed = changed
        self._version = ""
        self._seen: NodeMeta | None = None
        self._stop = threading.Event()
        # A daemon: it only reads, so a call that outlives the stop deadline has nothing to lose.
        self._thread = threading.Thread(target=self._run, name="node-watch", daemon=True)

    def start(self) -> None:
        """Looks at once, and then again and again."""
        self._thread.start()

    def stop(self, deadline_seconds: float) -> None:
        """Ends the looking; waits for a look at hand up to the deadline."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(deadline_seconds)

    def _run(self) -> None:
        loop = Retries(
            stop=self._stop,
            metrics=self._metrics,
            failed=self._failed,
            urgent=lambda: self._seen is None,
        )
        step = retrying(WATCH, loop)
        while not self._stop.is_set():
            try:
                step(self._look)
            except ApiError as error:
                log.debug("node not looked at", extra=keys(error=str(error)))
            # A fleet that started together must not ask together for ever.
            self._stop.wait(self._settings.seconds * random.uniform(_SOONEST, 1))

    def _look(self) -> None:
        path = f"/api/v1/nodes/{quote(self._settings.node, safe='')}"
        body = self._transport.request(Call(method="GET", path=path, query=(("resourceVersion", "0"),)))
        try:
            meta = msgspec.json.decode(body, type=_Node).metadata
        except msgspec.DecodeError as error:
            raise Retryable(f"node {self._settings.node}: {error}") from error
        if meta.resource_version and meta.resource_version == self._version:
            return
        self._version = meta.resource_version
        seen = NodeMeta(labels=meta.labels, annotations=meta.annotations)
        if seen != self._seen:
            self._seen = seen
            self._changed(seen)

    def _failed(self, error: ApiError, seconds: float) -> None:
        log.warning("node not read", extra=keys(error=str(error), again_in=round(seconds, 1)))


class _Meta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class _Node(msgspec.Struct):
    metadata: _Meta
