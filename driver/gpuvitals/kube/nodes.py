"""The Node: its UID, for the owner reference of the slices, and what it has allocatable."""

from urllib.parse import quote

import msgspec

from gpuvitals.kube.client import Call, Transport
from gpuvitals.kube.errors import Retryable
from gpuvitals.kube.slice_codec import NodeOwner


class _Meta(msgspec.Struct):
    uid: str


class _Status(msgspec.Struct):
    allocatable: dict[str, str] = {}


class _Node(msgspec.Struct):
    metadata: _Meta
    status: _Status = msgspec.field(default_factory=_Status)


def node_owner(transport: Transport, name: str) -> NodeOwner:
    """The Node as an owner. Raises ApiError; NotFound where no such Node exists."""
    return NodeOwner(name=name, uid=_read(transport, name).metadata.uid)


def allocatable(transport: Transport, name: str) -> tuple[tuple[str, str], ...]:
    """What the Node has allocatable, sorted by resource. Raises ApiError."""
    return tuple(sorted(_read(transport, name).status.allocatable.items()))


def _read(transport: Transport, name: str) -> _Node:
    body = transport.request(Call(method="GET", path=f"/api/v1/nodes/{quote(name, safe='')}"))
    try:
        return msgspec.json.decode(body, type=_Node)
    except msgspec.DecodeError as error:
        raise Retryable(f"node {name}: {error}") from error
