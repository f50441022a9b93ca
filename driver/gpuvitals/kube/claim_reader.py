"""ResourceClaims on the wire: a claim as it is read, and our entries of its `status.devices` as they are applied.

An apply with the claim's UID in the body can't hit a claim that was created anew under the same name.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from gpuvitals.decode_error import decoded
from gpuvitals.inventory.claims import ClaimEntry, ClaimRef, Condition
from gpuvitals.kube.claim_evidence import (
    ManagedFields,
    PreparedBefore,
    StatusDevice,
    allocated_by,
    prepared_before,
)
from gpuvitals.kube.errors import Retryable
from gpuvitals.kube.transport import APPLY_PATCH, Call, Transport

_T = TypeVar("_T")

FIELD_MANAGER = "gpuvitals-agent"
_READ_SECONDS = 8.0
_WRITE_SECONDS = 5.0
_MAX_TEXT = 1024
"""Characters of a message or a value: far below what the server takes (32 KiB a message, 10 KiB the data of a device).

Source: kubernetes/api resource/v1/types.go; kubernetes/apimachinery pkg/apis/meta/v1/types.go, Condition.
"""


class Toleration(msgspec.Struct, frozen=True):
    """A toleration of an allocation result; empty key and effect match everything."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


class DeviceResult(msgspec.Struct, frozen=True, rename="camel"):
    """One allocated device, of any driver."""

    request: str
    driver: str
    pool: str
    device: str
    admin_access: bool = False
    share_id: str | None = msgspec.field(default=None, name="shareID")
    tolerations: tuple[Toleration, ...] = ()


class _Opaque(msgspec.Struct, frozen=True):
    driver: str
    parameters: msgspec.Raw


class DeviceConfig(msgspec.Struct, frozen=True):
    """One config of the allocation; `source` is FromClass or FromClaim."""

    source: str
    requests: tuple[str, ...] = ()
    opaque: _Opaque | None = None


class _Devices(msgspec.Struct, frozen=True):
    results: tuple[DeviceResult, ...] = ()
    config: tuple[DeviceConfig, ...] = ()


class _Allocation(msgspec.Struct, frozen=True, rename="camel"):
    devices: _Devices = _Devices()
    allocation_timestamp: str | None = None


class Consumer(msgspec.Struct, frozen=True):
    """Who reserved the claim, most often a pod."""

    resource: str
    name: str
    uid: str


class _StoredCondition(msgspec.Struct, frozen=True, rename="camel"):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""


class _StoredEntry(msgspec.Struct, frozen=True, rename="camel"):
    driver: str = ""
    pool: str = ""
    device: str = ""
    share_id: str | None = msgspec.field(default=None, name="shareID")
    conditions: tuple[_StoredCondition, ...] = ()
    data: Any = None


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    devices: tuple[msgspec.Raw, ...] = ()
    allocation: _Allocation | None = None
    reserved_for: tuple[Consumer, ...] = ()


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    uid: str
    name: str
    namespace: str
    deletion_timestamp: str | None = None
    managed_fields: tuple[ManagedFields, ...] = ()


class _Claim(msgspec.Struct, frozen=True):
    metadata: _Meta
    status: _Status = _Status()


StoredEntries = tuple[msgspec.Raw, ...]
"""The entries of `status.devices` as they are stored, of all drivers."""

_CLAIM = msgspec.json.Decoder(_Claim)
_ENTRY = msgspec.json.Decoder(_StoredEntry)
_DEVICE = msgspec.json.Decoder(StatusDevice)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadClaim:
    """A claim as stored. `allocated` is False where it has no allocation; `deleting` where its deletion has begun.

    `allocated_by` is an instant by which it was allocated, None where that is not stored.
    """

    uid: str
    allocated: bool
    results: tuple[DeviceResult, ...]
    configs: tuple[DeviceConfig, ...]
    reserved_for: tuple[Consumer, ...]
    deleting: bool
    allocated_by: datetime | None = None
    prepared_before: tuple[PreparedBefore, ...] = ()


class ClaimReader:
    """Reads claims live. Raises ApiError. `seen` gets the status of each claim that was read; it must not block."""

    def __init__(
        self, transport: Transport, seen: Callable[[str, StoredEntries], None] | None = None
    ) -> None:
        self._transport = transport
        self._seen = seen

    def read(self, namespace: str, name: str) -> ReadClaim:
        """The claim of that name; NotFound where there is none."""
        call = Call(method="GET", path=claim_path(namespace, name), deadline_seconds=_READ_SECONDS)
        try:
            claim = decoded(_CLAIM, self._transport.request(call))
        except msgspec.DecodeError as error:
            raise Retryable(f"claim {namespace}/{name}: {error}") from error
        if self._seen is not None:
            self._seen(claim.metadata.uid, claim.status.devices)
        allocation = claim.status.allocation
        devices = allocation.devices if allocation is not None else _Devices()
        return ReadClaim(
            uid=claim.metadata.uid,
            allocated=allocation is not None,
            results=devices.results,
            configs=devices.config,
            reserved_for=claim.status.reserved_for,
            deleting=claim.metadata.deletion_timestamp is not None,
            allocated_by=allocated_by(
                None if allocation is None else allocation.allocation_timestamp,
                claim.metadata.managed_fields,
            ),
            prepared_before=prepared_before(_readable(claim.status.devices, _DEVICE)),
        )


def claim_path(namespace: str, name: str) -> str:
    """The path of one claim."""
    return f"/apis/resource.k8s.io/v1/namespaces/{quote(namespace, safe='')}/resourceclaims/{quote(name, safe='')}"


def apply_body(claim: ClaimRef, entries: tuple[ClaimEntry, ...]) -> bytes:
    """The server-side apply of our entries, with the claim's UID as a guard; stable bytes."""
    body = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": claim.name, "namespace": claim.namespace, "uid": claim.uid},
        "status": {"devices": [_entry(entry) for entry in entries]},
    }
    return msgspec.json.encode(body, order="deterministic")


def is_shown(entries: tuple[ClaimEntry, ...], stored: StoredEntries) -> bool:
    """Whether the stored status shows our entries. Conditions that others added to them don't matter."""
    found = {
        (entry.driver, entry.pool, entry.device, entry.share_id): entry for entry in _readable(stored, _ENTRY)
    }
    for wanted in map(_entry, entries):
        entry = found.get((wanted["driver"], wanted["pool"], wanted["device"], wanted.get("shareID")))
        if entry is None or entry.data != wanted["data"]:
            return False
        shown = {condition.type: msgspec.to_builtins(condition) for condition in entry.conditions}
        if any(shown.get(condition["type"]) != condition for condition in wanted["conditions"]):
            return False
    return True


def _readable(stored: StoredEntries, decoder: msgspec.json.Decoder[_T]) -> Iterable[_T]:
    """The entries without those of other drivers that can't be read: one of them must not fail the claim."""
    for raw in stored:
        try:
            yield decoder.decode(raw)
        except msgspec.DecodeError:
            continue


def apply_call(claim: ClaimRef, body: bytes) -> Call:
    """The request that applies a body of `apply_body`."""
    return Call(
        method="PATCH",
        path=claim_path(claim.namespace, claim.name) + "/status",
        query=(("fieldManager", FIELD_MANAGER), ("force", "true")),
        body=body,
        content_type=APPLY_PATCH,
        deadline_seconds=_WRITE_SECONDS,
    )


def _entry(entry: ClaimEntry) -> dict[str, Any]:
    body: dict[str, Any] = {
        "driver": entry.driver,
        "pool": entry.pool,
        "device": entry.device,
        "conditions": [_condition(condition) for condition in entry.conditions],
        "data": {key: _cut(value) if isinstance(value, str) else value for key, value in entry.data},
    }
    if entry.share_id is not None:
        body["shareID"] = entry.share_id
    return body


def _condition(condition: Condition) -> dict[str, str]:
    at = condition.transition_time.astimezone(UTC).replace(microsecond=0, tzinfo=None)
    return {
        "type": condition.type,
        "status": condition.status.value,
        "reason": condition.reason,
        "message": _cut(condition.message),
        "lastTransitionTime": f"{at.isoformat()}Z",
    }


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 3] + "..."
