"""The wire form of lists and watches, limited to the fields that the reflector reads."""

from typing import TypeVar

import msgspec

from gpuvitals.decode_error import decoded
from gpuvitals.kube.errors import Retryable

_T = TypeVar("_T")


class ListMeta(msgspec.Struct, rename="camel"):
    """The resourceVersion of a list, and the token of its next page."""

    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class ObjectList(msgspec.Struct):
    """A page of a list."""

    metadata: ListMeta
    items: list[msgspec.Raw] = []


class ObjectMeta(msgspec.Struct, rename="camel"):
    """The identity and version of an object."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""


class StoredObject(msgspec.Struct):
    """An object, reduced to its metadata."""

    metadata: ObjectMeta


class WatchError(msgspec.Struct):
    """The error that a watch ends with."""

    code: int = 0
    reason: str = ""
    message: str = ""


class WatchEvent(msgspec.Struct):
    """One event of a watch."""

    type: str
    object: msgspec.Raw


LIST = msgspec.json.Decoder(ObjectList)
OBJECT = msgspec.json.Decoder(StoredObject)
STATUS = msgspec.json.Decoder(WatchError)
EVENT = msgspec.json.Decoder(WatchEvent)


def read_answer(body: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[_T]) -> _T:
    """The decoded answer. Raises Retryable for a body that does not decode."""
    try:
        return decoded(decoder, body)
    except msgspec.DecodeError as error:
        raise Retryable(f"answer of the API server: {error}") from error
