"""What a stored claim says of its own past: when it was allocated, and on which GPU a device was prepared for it. Pure.

A device name is a slot, so neither the name nor the allocation says which board was there. Text that can't be read says
nothing: it never fails the claim.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import msgspec

from gpuvitals.decode_error import decoded


class ManagedFields(msgspec.Struct, frozen=True):
    """Which fields a manager wrote last, and when."""

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
    """A device that was prepared for the claim, and the UUID of the GPU that it was, or was an instance of."""

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
    """The entries that name the GPU; those of other drivers do not."""
    found: list[PreparedBefore] = []
    for entry in devices:
        try:
            data = decoded(_DATA, entry.data)
        except msgspec.DecodeError:
            continue
        # The UUID of a MIG instance alone does not say on which board it was.
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
    """An instant by which the claim was allocated, None where it says none.

    Servers without the gate DRADeviceBindingConditions keep no timestamp of the allocation. The fields' manager has
    one, which is that of its last change. Source: kubernetes/api resource/v1/types.go, AllocationResult; Kubernetes API
    reference, ManagedFieldsEntry.
    """
    told = _time(timestamp)
    if told is not None:
        return told
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
