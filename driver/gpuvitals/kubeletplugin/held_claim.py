"""Prepared claims and their devices, as recorded in the checkpoint. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from gpuvitals.inventory.claims import ClaimRef, PreparedDevice
from gpuvitals.inventory.device import silicon
from gpuvitals.model.ids import ClaimUid, DeviceName, GpuUuid


@dataclass(frozen=True, slots=True, kw_only=True)
class MigIds:
    """GPU instance and compute instance of a MIG device, on the GPU with the device's minor number."""

    gpu_instance: int
    compute_instance: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldDevice:
    """A device held by a claim. `requests` are names without the subrequest part; `env` comes from opaque configs.

    `minor` is the minor number of the GPU, for a MIG device of its parent. `admin` access never excludes other claims.
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
    """A claim that is prepared on this node, with its devices in the order of the allocation."""

    claim: ClaimRef
    devices: tuple[HeldDevice, ...]
    prepared_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A device, and the other claim that holds it."""

    device: HeldDevice
    holder: ClaimRef


def excludes(one: HeldDevice, other: HeldDevice) -> bool:
    """Whether two claims can't hold these devices at the same time.

    That is so for the same device, unless one has admin access or they are different shares. A device name stands for a
    slot, so equal names conflict even after the board in the slot was replaced. A GPU conflicts with its instances.
    """
    if one.admin or other.admin:
        return False
    if one.uuid == other.uuid or one.device == other.device:
        return one.share_id is None or other.share_id is None or one.share_id == other.share_id
    return is_part_of(one, other) or is_part_of(other, one)


def is_part_of(instance: HeldDevice, whole: HeldDevice) -> bool:
    """Whether `instance` is a MIG instance of the GPU `whole`."""
    return instance.mig is not None and whole.mig is None and silicon(instance.device) == whole.device


def conflict(uid: ClaimUid, devices: Iterable[HeldDevice], held: Iterable[HeldClaim]) -> Conflict | None:
    """The first conflict between `devices` and a claim other than `uid`; None without one."""
    wanted = tuple(devices)
    for claim in held:
        if claim.claim.uid == uid:
            continue
        for held_device in claim.devices:
            for device in wanted:
                if excludes(device, held_device):
                    return Conflict(device=device, holder=claim.claim)
    return None


def prepared_devices(held: Iterable[HeldClaim]) -> tuple[PreparedDevice, ...]:
    """The devices of the claims as the inventory's type."""
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
