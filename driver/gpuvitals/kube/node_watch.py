"""Looks at the own Node again and again: its labels, which policies match by, and its annotations, which people write.

The agent may get its Node and not watch it. The answer comes from the API server's cache (resourceVersion 0), and one
whose resourceVersion was seen before is not looked into.
"""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

import msgspec

from gpuvitals.decoding import decoded
from gpuvitals.kube.client import Call, Transport
from gpuvitals.kube.errors import ApiError, Retryable
from gpuvitals.kube.looking import Looker, Looking
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
        self._changed = changed
        self._version = ""
        self._seen: NodeMeta | None = None
        looking = Looking(
            name="node-watch",
            look=self._look,
            is_urgent=lambda: self._seen is None,
            failed=self._failed,
            # A fleet that started together must not ask together for ever.
            pause_seconds=lambda: settings.seconds * random.uniform(_SOONEST, 1),
        )
        self._looker = Looker(looking, metrics)

    def start(self) -> None:
        """Looks at once, and then again and again."""
        self._looker.start()

    def stop(self, deadline_seconds: float) -> None:
        """Ends the looking; waits for a look at hand up to the deadline."""
        self._looker.stop(deadline_seconds)

    def _look(self) -> None:
        path = f"/api/v1/nodes/{quote(self._settings.node, safe='')}"
        body = self._transport.request(Call(method="GET", path=path, query=(("resourceVersion", "0"),)))
        try:
            meta = decoded(_NODE, body).metadata
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


_NODE = msgspec.json.Decoder(_Node)
