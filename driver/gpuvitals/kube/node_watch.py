"""Keeps the own Node in view: labels, which policies match by, annotations, which people write, and what is allocatable.

One watch with a field selector gives all of it, and no request while nothing changes. Where the agent may not watch
Nodes it reads its own every `seconds`, from the API server's cache.
"""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

import msgspec

from gpuvitals.decode_error import decoded
from gpuvitals.kube.cause_log import CauseLog
from gpuvitals.kube.errors import ApiError, Refused, Retryable
from gpuvitals.kube.polling import Poller, PollTask
from gpuvitals.kube.reflector import ObjectKey, Reflector, ReflectorHooks, Selection
from gpuvitals.kube.resource_version import is_newer
from gpuvitals.kube.retry import WATCH_LATER
from gpuvitals.kube.transport import Call, Transport
from gpuvitals.observability.metrics import NodeMetrics

log = logging.getLogger(__name__)

_PATH = "/api/v1/nodes"
_SOONEST = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeMeta:
    """What people and other programs have written on the Node, and what it has `allocatable`, sorted by resource."""

    labels: dict[str, str]
    annotations: dict[str, str]
    allocatable: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeWatchSettings:
    """Whose Node, and how many seconds lie between two reads at most where it can't be watched."""

    node: str
    seconds: float = 20.0


class NodeWatch:
    """`changed` is called after each difference, on a thread of the watch."""

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
        self._uid = self._version = ""
        self._seen: NodeMeta | None = None
        self._may_watch = True
        self._failures = CauseLog(log, "node not read")
        selection = Selection(
            path=_PATH,
            query=(("fieldSelector", f"metadata.name={settings.node}"),),
            policy=WATCH_LATER,
        )
        turns = ReflectorHooks(listed=self._listed, urgent=lambda: self._seen is None)
        self._reflector = Reflector(selection, transport, self._watched, metrics, turns)
        looking = PollTask(
            name="node-watch",
            look=self._look,
            is_urgent=lambda: self._seen is None,
            failed=lambda error, seconds: self._failures.failed(error, again_in=round(seconds, 1)),
            # A fleet that started together must not ask together for ever.
            pause_seconds=lambda: settings.seconds * random.uniform(_SOONEST, 1),
        )
        self._looker = Poller(looking, metrics)

    def start(self) -> None:
        """Starts to watch."""
        self._reflector.start()

    def stop(self, deadline_seconds: float) -> None:
        """Ends it; waits for a call at hand up to the deadline."""
        self._reflector.stop()
        self._looker.stop(deadline_seconds)
        self._reflector.stop(deadline_seconds)

    def _listed(self, error: ApiError | None) -> None:
        """A missing right is made up for by reads, for as long as it is missing."""
        self._may_watch = not isinstance(error, Refused)
        if not self._may_watch:
            self._looker.start_once()

    def _watched(self, key: ObjectKey, raw: bytes | None) -> None:
        # The last state of a Node that was deleted stays in force: the agent still runs on it.
        if raw is not None:
            self._take(raw)

    def _look(self) -> None:
        if self._may_watch:
            return
        path = f"{_PATH}/{quote(self._settings.node, safe='')}"
        body = self._transport.request(Call(method="GET", path=path, query=(("resourceVersion", "0"),)))
        try:
            self._take(body)
        except msgspec.DecodeError as error:
            raise Retryable(f"node {self._settings.node}: {error}") from error

    def _take(self, raw: bytes) -> None:
        """An older state than the known one comes from a server that lags. Raises msgspec.DecodeError."""
        node = decoded(_DECODER, raw)
        meta = node.metadata
        is_same = meta.uid == self._uid
        if is_same and self._version and not is_newer(meta.resource_version, self._version):
            return
        self._uid, self._version = meta.uid, meta.resource_version
        seen = NodeMeta(
            labels=meta.labels,
            annotations=meta.annotations,
            allocatable=tuple(sorted(node.status.allocatable.items())),
        )
        if seen != self._seen:
            self._seen = seen
            self._changed(seen)


class _Meta(msgspec.Struct, rename="camel"):
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class _Status(msgspec.Struct):
    allocatable: dict[str, str] = {}


class _Node(msgspec.Struct):
    metadata: _Meta
    status: _Status = msgspec.field(default_factory=_Status)


_DECODER = msgspec.json.Decoder(_Node)
