"""What is prepared on this node, in the words of the checkpoint. Pure; everything else here speaks these."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from gpuvitals.inventory.claims import ClaimRef, PreparedDevice
from gpuvitals.inventory.device import silicon
from gpuvitals.model.ids import ClaimUid, DeviceName, GpuUuid


@dataclass(frozen=True, slots=True, kw_only=True)
class MigIds:
    """GPU instance and compute instance of a MIG device, below the parent whose minor the device carries."""

    gpu_instance: int
    compute_instance: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldDevice:
    """One device that a claim holds. `requests` carry no subrequest part; `env` is what its configs ask for.

    `minor` is that of the GPU, for a MIG device that of its parent. `admin` access shares the device with everyone.
    """

    uuid: GpuUuid
    device: DeviceName
    minor: int
    requests: tuple[str, ...]
    share_id: str | None = None
    admin: bool = False
    env: tuple[tuple[str, str], ...] = ()
    mig: MigIds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldClaim:
    """A claim that is prepared here, with its devices in the order of the allocation."""

    claim: ClaimRef
    devices: tuple[HeldDevice, ...]
    prepared_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A device that another claim holds already."""

    device: HeldDevice
    holder: ClaimRef


def excludes(one: HeldDevice, other: HeldDevice) -> bool:
    """Whether two claims can't hold these at once: the same device, no admin access, not two different shares.

    A name is a slot, so one name is one device also where the board in the slot was replaced in between. A GPU and an
    instance of it are one piece of silicon.
    """
    if one.admin or other.admin:
        return False
    if one.uuid == other.uuid or one.device == other.device:
        return one.share_id is None or other.share_id is None or one.share_id == other.share_id
    return is_part_of(one, other) or is_part_of(other, one)


def is_part_of(instance: HeldDevice, whole: HeldDevice) -> bool:
    """Whether one is a MIG instance of the other, which is held as a GPU."""
    return instance.mig is not None and whole.mig is None and silicon(instance.device) == whole.device


def conflict(uid: ClaimUid, devices: Iterable[HeldDevice], held: Iterable[HeldClaim]) -> Conflict | None:
    """The first of `devices` that a claim other than `uid` holds exclusively; None where all are free."""
    wanted = tuple(devices)
    for claim in held:
        if claim.claim.uid == uid:
            continue
        for theirs in claim.devices:
            for ours in wanted:
                if excludes(ours, theirs):
                    return Conflict(device=ours, holder=claim.claim)
    return None


def prepared_devices(held: Iterable[HeldClaim]) -> tuple[PreparedDevice, ...]:
    """The same facts in the inventory's words."""
    return tuple(
        PreparedDevice(
            claim=entry.claim,
            uuid=device.uuid,
            device=device.device,
            share_id=device.share_id,
            prepared_time=entry.prepared_time,
            admin=device.admin,
        )
        for entry in held
        for device in entry.devices
    )
