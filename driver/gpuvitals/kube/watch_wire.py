"""What a list and a watch look like on the wire, as far as the reflector needs it."""

from typing import TypeVar

import msgspec

from gpuvitals.decode_error import decoded
from gpuvitals.kube.errors import Retryable

_T = TypeVar("_T")


class ListMeta(msgspec.Struct, rename="camel"):
    """The place of a list in history, and the token of its next page."""

    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class ObjectList(msgspec.Struct):
    """A page of a list."""

    metadata: ListMeta
    items: list[msgspec.Raw] = []


class ObjectMeta(msgspec.Struct, rename="camel"):
    """Which object it is, and in which version."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""


class StoredObject(msgspec.Struct):
    """An object whose rest is of no interest here."""

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
    """The decoded answer. Raises Retryable where it is none."""
    try:
        return decoded(decoder, body)
    except msgspec.DecodeError as error:
        raise Retryable(f"answer of the API server: {error}") from error
