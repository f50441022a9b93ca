"""Reads ResourceClaims: the allocation, and the evidence of earlier preparations."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from urllib.parse import quote

import msgspec

from gpuvitals.decode_error import decoded
from gpuvitals.kube.claim_evidence import (
    ManagedFields,
    PreparedBefore,
    StatusDevice,
    allocated_by,
    prepared_before,
)
from gpuvitals.kube.errors import Retryable
from gpuvitals.kube.transport import Call, Transport

_READ_SECONDS = 8.0

StoredEntries = tuple[msgspec.Raw, ...]
"""The entries of `status.devices` as they are stored, of all drivers."""


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
    """The object that reserved the claim, most often a pod."""

    resource: str
    name: str
    uid: str


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


_CLAIM = msgspec.json.Decoder(_Claim)
_DEVICE = msgspec.json.Decoder(StatusDevice)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadClaim:
    """A claim as stored. `allocated`: it has an allocation; `deleting`: its deletion has begun.

    `allocated_by` is a time by which it was allocated; None if no such time is stored.
    """

    uid: str
    allocated: bool
    results: tuple[DeviceResult, ...]
    configs: tuple[DeviceConfig, ...]
    reserved_for: tuple[Consumer, ...]
    deleting: bool
    allocated_by: datetime | None = None
    prepared_before: tuple[PreparedBefore, ...] = ()


class ClaimObserver(Protocol):
    """Receives the stored status of each claim that is read. Must not block."""

    def observe(self, uid: str, stored: StoredEntries) -> None:
        """The claim of that UID has these entries in its status."""
        ...


class ClaimReader:
    """Reads claims live. Raises ApiError. Thread safe."""

    def __init__(self, transport: Transport, observer: ClaimObserver | None = None) -> None:
        self._transport = transport
        self._observer = observer

    def read(self, namespace: str, name: str) -> ReadClaim:
        """The claim of that name. Raises ApiError; NoSuchObject for a claim that does not exist."""
        call = Call(method="GET", path=claim_path(namespace, name), deadline_seconds=_READ_SECONDS)
        try:
            claim = decoded(_CLAIM, self._transport.request(call))
        except msgspec.DecodeError as error:
            raise Retryable(f"claim {namespace}/{name}: {error}") from error
        if self._observer is not None:
            self._observer.observe(claim.metadata.uid, claim.status.devices)
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
            prepared_before=prepared_before(_readable(claim.status.devices)),
        )


def claim_path(namespace: str, name: str) -> str:
    """The path of one claim."""
    return f"/apis/resource.k8s.io/v1/namespaces/{quote(namespace, safe='')}/resourceclaims/{quote(name, safe='')}"


def _readable(stored: StoredEntries) -> Iterable[StatusDevice]:
    """The entries that can be read: an entry of another driver must not fail the claim."""
    for raw in stored:
        try:
            yield _DEVICE.decode(raw)
        except msgspec.DecodeError:
            continue
