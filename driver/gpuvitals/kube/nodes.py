"""The Node object: its UID for owner references, edits of its annotations, and a watch of the agent's own Node.

The watch has a field selector and makes no request while nothing changes. An account that may not watch Nodes reads its
own one periodically instead, from the API server's cache.
"""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

import msgspec

from gpuvitals.decode_error import decoded
from gpuvitals.kube.cause_log import CauseLog
from gpuvitals.kube.errors import ApiError, Conflict, Refused, Retryable
from gpuvitals.kube.polling import Poller, PollTask
from gpuvitals.kube.reflector import Reflector
from gpuvitals.kube.reflector_ports import ObjectKey, ReflectorHooks, Selection
from gpuvitals.kube.resource_version import is_newer
from gpuvitals.kube.retry import WATCH_LATER
from gpuvitals.kube.slices.metadata import NodeOwner
from gpuvitals.kube.transport import MERGE_PATCH, Call, Transport
from gpuvitals.observability.metrics import NodeMetrics

log = logging.getLogger(__name__)

_PATH = "/api/v1/nodes"
_ATTEMPTS = 5
_SHORTEST_PAUSE = 0.8
"""As a share of the configured pause: nodes that started together must not keep reading at the same times."""
_CACHED = (("resourceVersion", "0"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeMeta:
    """The labels and annotations of the Node, and its allocatable resources, sorted by name."""

    labels: dict[str, str]
    annotations: dict[str, str]
    allocatable: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeWatchSettings:
    """The name of the Node, and the longest pause between two reads of a Node that cannot be watched."""

    node: str
    seconds: float = 20.0


class NodeListener(Protocol):
    """Receives the state of the Node, on a thread of the watch. Must not block."""

    def node_changed(self, meta: NodeMeta) -> None:
        """The Node was read for the first time, or differs from the last reported state."""
        ...


class NodeWatch:
    """Watches one Node and reports each difference to `listener`."""

    def __init__(
        self,
        settings: NodeWatchSettings,
        transport: Transport,
        metrics: NodeMetrics,
        listener: NodeListener,
    ) -> None:
        state = _NodeState(settings, transport, listener)
        selection = Selection(
            path=_PATH, query=(("fieldSelector", f"metadata.name={settings.node}"),), policy=WATCH_LATER
        )
        self._poller = Poller("node-watch", state, metrics)
        self._reflector = Reflector(selection, transport, metrics, _WatchHooks(state, self._poller))

    def start(self) -> None:
        """Starts to watch."""
        self._reflector.start()

    def stop(self, deadline_seconds: float) -> None:
        """Stops; waits for a call in progress up to the deadline."""
        self._reflector.stop()
        self._poller.stop(deadline_seconds)
        self._reflector.stop(deadline_seconds)


def node_owner(transport: Transport, name: str) -> NodeOwner:
    """The Node as an owner of objects. Raises ApiError; NotFound for a Node that does not exist."""
    uid = _read(transport, name).metadata.uid
    if not uid:
        raise Retryable(f"node {name}: the answer has no uid")
    return NodeOwner(name=name, uid=uid)


def node_allocatable(transport: Transport, name: str) -> tuple[tuple[str, str], ...]:
    """The allocatable resources of the Node, sorted by name. Raises ApiError."""
    return _meta(_read(transport, name)).allocatable


def edit_annotation(transport: Transport, name: str, key: str, edit: Callable[[str], str]) -> None:
    """Replaces the text of one annotation by the result of `edit`; an empty result removes it.

    A conflicting write of another client is not lost: the edit is repeated on the new text. Raises ApiError, and the
    exceptions of `edit`.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        meta = _read(transport, name).metadata
        before = meta.annotations.get(key, "")
        text = edit(before)
        if text == before:
            return
        change = {"resourceVersion": meta.resource_version, "annotations": {key: text or None}}
        call = Call(
            method="PATCH",
            path=_path(name),
            body=msgspec.json.encode({"metadata": change}),
            content_type=MERGE_PATCH,
        )
        try:
            transport.request(call)
            return
        except Conflict:
            if attempt == _ATTEMPTS:
                raise


class _NodeState(PollTask):
    """The newest known state of the Node, from watch events and reads."""

    def __init__(self, settings: NodeWatchSettings, transport: Transport, listener: NodeListener) -> None:
        self._settings = settings
        self._transport = transport
        self._listener = listener
        self._uid = self._version = ""
        self._reported: NodeMeta | None = None
        self._failures = CauseLog(log, "node not read")
        self.may_watch = True

    def take(self, node: "_Node") -> None:
        """Reports a state of the Node. One that is older than the known state comes from a server that lags."""
        meta = node.metadata
        is_same = meta.uid == self._uid
        if is_same and self._version and not is_newer(meta.resource_version, self._version):
            return
        self._uid, self._version = meta.uid, meta.resource_version
        state = _meta(node)
        if state != self._reported:
            self._reported = state
            self._listener.node_changed(state)

    def is_urgent(self) -> bool:
        """Whether the Node was never read."""
        return self._reported is None

    def poll(self) -> None:
        """Reads the Node, unless it can be watched. Raises ApiError."""
        if not self.may_watch:
            self.take(_read(self._transport, self._settings.node, _CACHED))

    def failed(self, error: ApiError, seconds: float) -> None:
        """Logs a failed read."""
        self._failures.failed(error, again_in=round(seconds, 1))

    def pause_seconds(self) -> float:
        """A random pause."""
        return self._settings.seconds * random.uniform(_SHORTEST_PAUSE, 1)


class _WatchHooks(ReflectorHooks):
    def __init__(self, state: _NodeState, poller: Poller) -> None:
        self._state = state
        self._poller = poller

    def changed(self, key: ObjectKey, raw: bytes | None) -> None:
        # A deleted Node keeps its last state: the agent still runs on it.
        if raw is not None:
            self._state.take(decoded(_NODE, raw))

    def is_urgent(self) -> bool:
        return self._state.is_urgent()

    def listed(self, error: ApiError | None) -> None:
        # Reads replace the watch for as long as the right to watch is missing.
        self._state.may_watch = not isinstance(error, Refused)
        if not self._state.may_watch:
            self._poller.start()


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


_NODE = msgspec.json.Decoder(_Node)


def _path(name: str) -> str:
    return f"{_PATH}/{quote(name, safe='')}"


def _read(transport: Transport, name: str, query: tuple[tuple[str, str], ...] = ()) -> _Node:
    body = transport.request(Call(method="GET", path=_path(name), query=query))
    try:
        return decoded(_NODE, body)
    except msgspec.DecodeError as error:
        raise Retryable(f"node {name}: {error}") from error


def _meta(node: _Node) -> NodeMeta:
    return NodeMeta(
        labels=node.metadata.labels,
        annotations=node.metadata.annotations,
        allocatable=tuple(sorted(node.status.allocatable.items())),
    )
