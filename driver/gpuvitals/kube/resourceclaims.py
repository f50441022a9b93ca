"""ResourceClaims: read one live, and write our entries of `status.devices` by server-side apply.

The writer is level-triggered: it holds what each claim should show and sends a claim again only when that changed. An
apply with the claim's UID in the body can't hit a claim that was created anew under the same name.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec

from gpuvitals.inventory.claims import ClaimEntry, ClaimRef, Condition
from gpuvitals.kube.claim_evidence import (
    ManagedFields,
    PreparedBefore,
    StatusDevice,
    allocated_by,
    prepared_before,
)
from gpuvitals.kube.client import APPLY_PATCH, Call, Transport
from gpuvitals.kube.errors import ApiError, Invalid, NotFound, Refused, Retryable
from gpuvitals.kube.retry import CLAIMS, Retries, retrying
from gpuvitals.kube.right_of_way import RightOfWay
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics

log = logging.getLogger(__name__)

FIELD_MANAGER = "gpuvitals-agent"
_IDLE_SECONDS = 30.0
_PATIENT_SECONDS = 0.1
"""For so long claims wait to be told that they are prepared: pods that start together need the API server first."""
_READ_SECONDS = 8.0
_WRITE_SECONDS = 5.0
_MAX_TEXT = 1024
"""Characters of a message or a value: far below what the server takes (32 KiB a message, 10 KiB the data of a device).

Source: kubernetes/api resource/v1/types.go; kubernetes/apimachinery pkg/apis/meta/v1/types.go, Condition.
"""
_EVERYBODYS = (0, 401, 429, 503)
"""Codes that the next claim would get as well."""


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


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    allocation: _Allocation | None = None
    reserved_for: tuple[Consumer, ...] = ()
    devices: tuple[StatusDevice, ...] = ()


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
    """Reads claims live. Raises ApiError."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def read(self, namespace: str, name: str) -> ReadClaim:
        """The claim of that name; NotFound where there is none."""
        call = Call(method="GET", path=claim_path(namespace, name), deadline_seconds=_READ_SECONDS)
        try:
            claim = _CLAIM.decode(self._transport.request(call))
        except msgspec.DecodeError as error:
            raise Retryable(f"claim {namespace}/{name}: {error}") from error
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
            prepared_before=prepared_before(claim.status.devices),
        )


class ClaimStatusWriter:
    """One thread. `show` replaces what every claim should show; a claim that left the mapping needs no write.

    `refused` hears once why the right to write is missing, and again only after a write went through.
    """

    def __init__(
        self,
        transport: Transport,
        metrics: NodeMetrics,
        refused: Callable[[str], None] | None = None,
        way: RightOfWay | None = None,
    ) -> None:
        self._way = way or RightOfWay()
        self._transport = transport
        self._metrics = metrics
        self._tell_refused = refused
        self._is_refused = False
        self._changed = threading.Condition()
        self._desired: dict[ClaimRef, bytes] = {}
        self._accepted: dict[ClaimRef, bytes] = {}
        self._dirty = self._urgent = False
        self._stop = threading.Event()
        # A daemon: a write that outlives the stop deadline can't be called back, and nothing local hangs on it.
        self._thread = threading.Thread(target=self._run, name="claims", daemon=True)

    def start(self) -> None:
        """Starts to write."""
        self._thread.start()

    def stop(self, deadline_seconds: float) -> None:
        """Stops; what is stored stays."""
        self._stop.set()
        with self._changed:
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(deadline_seconds)

    def show(self, entries: Mapping[ClaimRef, tuple[ClaimEntry, ...]], *, urgent: bool = True) -> None:
        """Replaces the desired entries. Returns at once. What is not urgent is written a moment later."""
        desired = {claim: apply_body(claim, listed) for claim, listed in entries.items()}
        with self._changed:
            self._desired = desired
            self._accepted = {claim: body for claim, body in self._accepted.items() if claim in desired}
            self._dirty = True
            self._urgent = self._urgent or urgent
            self._changed.notify()

    def _run(self) -> None:
        step = retrying(
            CLAIMS,
            Retries(stop=self._stop, metrics=self._metrics, failed=self._failed, urgent=lambda: True),
        )
        while not self._stop.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._dirty or self._stop.is_set(), _IDLE_SECONDS)
                self._changed.wait_for(lambda: self._urgent or self._stop.is_set(), _PATIENT_SECONDS)
                self._dirty = self._urgent = False
            self._way.give()
            try:
                step(self._write_changed)
            except ApiError as error:
                log.debug("claim writer stopped", extra=keys(error=str(error)))

    def _failed(self, error: ApiError, seconds: float) -> None:
        log.warning("claim status not written", extra=keys(error=str(error), again_in=round(seconds, 1)))
        if isinstance(error, Refused) and not self._is_refused:
            self._is_refused = True
            if self._tell_refused is not None:
                self._tell_refused(str(error))

    def _write_changed(self) -> None:
        """Writes every claim that shows something else. One that fails alone does not hold up the others."""
        with self._changed:
            waiting = [
                (claim, body) for claim, body in self._desired.items() if self._accepted.get(claim) != body
            ]
        failed: ApiError | None = None
        for claim, body in waiting:
            if self._stop.is_set():
                break
            try:
                self._write(claim, body)
            except ApiError as error:
                self._metrics.claim_writes.labels(code=str(error.status)).inc()
                if isinstance(error, Refused) or error.status in _EVERYBODYS:
                    raise
                failed = error
        if failed is not None:
            raise failed

    def _write(self, claim: ClaimRef, body: bytes) -> None:
        call = Call(
            method="PATCH",
            path=claim_path(claim.namespace, claim.name) + "/status",
            query=(("fieldManager", FIELD_MANAGER), ("force", "true")),
            body=body,
            content_type=APPLY_PATCH,
            deadline_seconds=_WRITE_SECONDS,
        )
        code = "200"
        try:
            self._transport.request(call)
            self._is_refused = False
        except (NotFound, Invalid) as error:
            # Sent once: the same body would be refused again.
            code = str(error.status)
            if _is_gone(error):
                log.debug("claim takes no status any more", extra=keys(claim=claim.uid, error=str(error)))
            else:
                log.error(
                    "claim status refused",
                    extra=keys(claim=claim.uid, error=str(error), fields=list(error.fields)),
                )
        self._metrics.claim_writes.labels(code=code).inc()
        with self._changed:
            if claim in self._desired:
                self._accepted[claim] = body


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


def _is_gone(error: NotFound | Invalid) -> bool:
    """The claim was deleted, was created anew under its name (the UID guard), or no longer holds the device."""
    return (
        isinstance(error, NotFound)
        or "metadata.uid" in error.fields
        or "must be an allocated device" in str(error)
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
