"""The Node: only its UID is read, for the owner reference of the slices."""

from urllib.parse import quote

import msgspec

from gpuvitals.kube.client import Call, Transport
from gpuvitals.kube.errors import Retryable
from gpuvitals.kube.slice_codec import NodeOwner


class _Meta(msgspec.Struct):
    uid: str


class _Node(msgspec.Struct):
    metadata: _Meta


def node_owner(transport: Transport, name: str) -> NodeOwner:
    """The Node as an owner. Raises ApiError; NotFound where no such Node exists."""
    body = transport.request(Call(method="GET", path=f"/api/v1/nodes/{quote(name, safe='')}"))
    try:
        return NodeOwner(name=name, uid=msgspec.json.decode(body, type=_Node).metadata.uid)
    except msgspec.DecodeError as error:
        raise Retryable(f"node {name}: {error}") from error
