"""Evidence in a stored claim: the time of its allocation, and the GPU on which a device was prepared for it. Pure.

A device name stands for a slot, so neither the name nor the allocation identifies the board. Unreadable text is no evidence
and never fails the claim.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import msgspec

from gpuvitals.decode_error import decoded


class ManagedFields(msgspec.Struct, frozen=True):
    """The fields that a manager wrote last, and the time of that write."""

    subresource: str = ""
    time: str | None = None
    fields: msgspec.Raw = msgspec.field(default=msgspec.Raw(b"{}"), name="fieldsV1")


class StatusDevice(msgspec.Struct, frozen=True):
    """One entry of `status.devices`, of any driver."""

    driver: str
    pool: str
    device: str
    share_id: str | None = msgspec.field(default=None, name="shareID")
    data: msgspec.Raw = msgspec.Raw(b"null")


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedBefore:
    """A device that was prepared for the claim, with the UUID of its GPU (for a MIG instance, of the GPU that held it)."""

    driver: str
    pool: str
    device: str
    share_id: str | None
    gpu_uuid: str


class _Data(msgspec.Struct, frozen=True):
    uuid: str = ""
    parent: str = msgspec.field(default="", name="parentUUID")


class _Owned(msgspec.Struct, frozen=True):
    status: dict[str, msgspec.Raw] = msgspec.field(default_factory=dict, name="f:status")


_DATA = msgspec.json.Decoder(_Data)
_OWNED = msgspec.json.Decoder(_Owned)


def prepared_before(devices: Iterable[StatusDevice]) -> tuple[PreparedBefore, ...]:
    """The entries that name a GPU; entries of other drivers have none."""
    found: list[PreparedBefore] = []
    for entry in devices:
        try:
            data = decoded(_DATA, entry.data)
        except msgspec.DecodeError:
            continue
        # The UUID of a MIG instance alone does not identify the board.
        uuid = data.parent or ("" if data.uuid.startswith("MIG-") else data.uuid)
        if uuid:
            found.append(
                PreparedBefore(
                    driver=entry.driver,
                    pool=entry.pool,
                    device=entry.device,
                    share_id=entry.share_id,
                    gpu_uuid=uuid,
                )
            )
    return tuple(found)


def allocated_by(timestamp: str | None, managed: Iterable[ManagedFields]) -> datetime | None:
    """A time by which the claim was allocated; None if none is stored.

    Servers without the gate DRADeviceBindingConditions keep no timestamp of the allocation. The managed fields have the
    time of their last change instead. Source: kubernetes/api resource/v1/types.go, AllocationResult; Kubernetes API
    reference, ManagedFieldsEntry.
    """
    stored = _time(timestamp)
    if stored is not None:
        return stored
    times = [_time(entry.time) for entry in managed if entry.subresource == "status" and _allocates(entry)]
    return max((time for time in times if time is not None), default=None)


def _allocates(entry: ManagedFields) -> bool:
    try:
        return "f:allocation" in decoded(_OWNED, entry.fields).status
    except msgspec.DecodeError:
        return False


def _time(text: str | None) -> datetime | None:
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
