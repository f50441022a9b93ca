"""The Node: its UID, for the owner reference of the slices, and what people annotate it with."""

from collections.abc import Callable
from urllib.parse import quote

import msgspec

from gpuvitals.decode_error import decoded
from gpuvitals.kube.errors import Conflict, Retryable
from gpuvitals.kube.slices.metadata import NodeOwner
from gpuvitals.kube.transport import MERGE_PATCH, Call, Transport

_ATTEMPTS = 5


class _Meta(msgspec.Struct, rename="camel"):
    uid: str
    resource_version: str = ""
    annotations: dict[str, str] = {}


class _Node(msgspec.Struct):
    metadata: _Meta


_NODE = msgspec.json.Decoder(_Node)


def node_owner(transport: Transport, name: str) -> NodeOwner:
    """The Node as an owner. Raises ApiError; NotFound where no such Node exists."""
    return NodeOwner(name=name, uid=_read(transport, name).metadata.uid)


def edit_annotation(transport: Transport, name: str, key: str, edit: Callable[[str], str]) -> None:
    """Makes of one annotation what `edit` makes of its text; an empty text removes it. What others wrote is not lost.

    Raises ApiError, and what `edit` raises.
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


def _path(name: str) -> str:
    return f"/api/v1/nodes/{quote(name, safe='')}"


def _read(transport: Transport, name: str) -> _Node:
    body = transport.request(Call(method="GET", path=_path(name)))
    try:
        return decoded(_NODE, body)
    except msgspec.DecodeError as error:
        raise Retryable(f"node {name}: {error}") from error
