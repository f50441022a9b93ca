"""Applies the identity rule to the agent's memory: assigns its devices to slots, and retires those without one."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from gpuvitals.health.attribution import affected_gpus
from gpuvitals.health.clearing import after_restart
from gpuvitals.health.state import initial_instance_state, initial_state, with_expected_values
from gpuvitals.inventory.identity import SlotOwners, slot_owners
from gpuvitals.model.clock import Moment
from gpuvitals.model.gpu import DeviceKind, Gpu
from gpuvitals.model.ids import GpuUuid, PciBusId
from gpuvitals.model.signal import GpuSignal, InventoryReport
from gpuvitals.node.mig_instances import with_gone
from gpuvitals.node.ports import HeldDevices
from gpuvitals.node.state_store import GpuRecord

KnownGpus = dict[GpuUuid, GpuRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class Takeover:
    """A slot in which another GPU was enumerated than before."""

    slot: PciBusId
    before: GpuUuid
    now: GpuUuid


def remembered_owners(memory: Mapping[GpuUuid, GpuRecord]) -> SlotOwners:
    """The owner of each slot according to the memory. Of two GPUs in one slot, the one added later owns it.

    The memory of an older agent can contain such pairs; the next inventory shows which of the two is there.
    """
    owners: dict[PciBusId, GpuUuid] = {}
    retired: list[GpuUuid] = []
    for uuid, entry in memory.items():
        if entry.gpu.kind is not DeviceKind.GPU:
            continue
        if entry.retired:
            retired.append(uuid)
            continue
        earlier = owners.get(entry.gpu.bus_id)
        if earlier is not None:
            retired.append(earlier)
        owners[entry.gpu.bus_id] = uuid
    return SlotOwners(owners=owners, retired=tuple(retired))


def in_a_slot(stored: Iterable[GpuRecord]) -> tuple[Gpu, ...]:
    """The devices of a stored memory, without retired ones: no source polls those."""
    memory = {entry.gpu.uuid: entry for entry in stored}
    there = set(remembered_owners(memory).owners.values())
    return tuple(entry.gpu for entry in memory.values() if entry.gpu.gpu_uuid in there)


def affected_devices(signal: GpuSignal, memory: Mapping[GpuUuid, GpuRecord]) -> tuple[GpuUuid, ...]:
    """The devices concerned by `signal`: a slot means the GPU that owns it, a UUID that GPU, retired or not."""
    found = affected_gpus(signal, (entry.gpu for entry in memory.values() if not entry.retired))
    if found or signal.uuid is None:
        return found
    return affected_gpus(signal, (entry.gpu for entry in memory.values() if entry.retired))


def after_inventory(
    memory: Mapping[GpuUuid, GpuRecord],
    report: InventoryReport,
    devices: HeldDevices,
    *,
    reloaded: bool,
) -> tuple[KnownGpus, tuple[Takeover, ...]]:
    """The memory after an inventory of the driver, and each slot that changed its owner.

    `reloaded`: the driver was loaded again since the memory was made. Retired devices come last, the newest at the end;
    those beyond the limit are dropped, unless a claim holds them.
    """
    before = remembered_owners(memory)
    found = [(gpu.bus_id, gpu.uuid) for gpu in report.gpus if gpu.kind is DeviceKind.GPU]
    owners = slot_owners(before, found)
    taken = tuple(
        Takeover(slot=slot, before=earlier, now=owners.owners[slot])
        for slot, earlier in before.owners.items()
        if owners.owners.get(slot, earlier) != earlier
    )
    known = dict(memory)
    there = set(owners.owners.values())
    for gpu in report.gpus:
        # A GPU that is listed in two slots is taken in the slot that it owns.
        if gpu.gpu_uuid not in there or owners.owners.get(gpu.bus_id) == gpu.gpu_uuid:
            known[gpu.uuid] = _taken_in(gpu, known, report.seen, reloaded=reloaded)
    known = {uuid: _unnumbered(with_gone(entry, report.gpus), report.gpus) for uuid, entry in known.items()}
    kept = {*owners.owners.values(), *owners.retired}
    bounded = {
        uuid: entry for uuid, entry in known.items() if entry.gpu.gpu_uuid in kept or devices.holders(uuid)
    }
    return with_slots(bounded, owners, taken, report.seen.time), taken


def without_gpu(
    memory: Mapping[GpuUuid, GpuRecord],
    uuid: GpuUuid,
    enumerated: Collection[GpuUuid],
    devices: HeldDevices,
) -> KnownGpus:
    """The memory without a GPU and its instances. Raises ValueError with the reason if the GPU has to stay."""
    entry = memory.get(uuid)
    if entry is None:
        away = [each for each, known in memory.items() if known.gpu.mig is None and each not in enumerated]
        listed = ", ".join(away) or "none"
        raise ValueError(f"gpu {uuid}: is not in the agent's memory; GPUs that can be forgotten: {listed}")
    if entry.gpu.mig is not None:
        raise ValueError(f"gpu {uuid}: is a MIG instance of {entry.gpu.mig.parent} and is forgotten with it")
    if uuid in enumerated:
        raise ValueError(
            f"gpu {uuid}: the driver enumerates it at {entry.gpu.bus_id}; only a GPU that is gone can be forgotten"
        )
    parts = {each for each, known in memory.items() if known.gpu.gpu_uuid == uuid}
    held = sorted({claim for each in parts for claim in devices.holders(each)})
    if held:
        raise ValueError(
            f"gpu {uuid}: is held by the claims with uid {', '.join(held)}; delete their pods first"
        )
    return {each: known for each, known in memory.items() if each not in parts}


def with_slots(
    memory: Mapping[GpuUuid, GpuRecord], owners: SlotOwners, taken: Iterable[Takeover], now: datetime
) -> KnownGpus:
    """The memory with each device in its slot or retired; retired devices come last, the newest at the end."""
    there = set(owners.owners.values())
    since = dict.fromkeys((each.now for each in taken), now)
    updated = {
        uuid: replace(
            entry,
            retired=entry.gpu.gpu_uuid not in there,
            slot_taken=since.get(entry.gpu.gpu_uuid, entry.slot_taken),
        )
        for uuid, entry in memory.items()
    }
    order = {uuid: place for place, uuid in enumerate(owners.retired)}
    last = sorted(
        (uuid for uuid, entry in updated.items() if entry.retired),
        key=lambda uuid: order.get(updated[uuid].gpu.gpu_uuid, -1),
    )
    present = {uuid: entry for uuid, entry in updated.items() if not entry.retired}
    return present | {uuid: updated[uuid] for uuid in last}


def _unnumbered(entry: GpuRecord, listed: Iterable[Gpu]) -> GpuRecord:
    """The device without its minor number if the driver assigns that number to another GPU too.

    A driver reload can renumber minors, and a GPU that the driver does not list keeps its old one. If two listed GPUs
    have one number, neither device node can be trusted.
    """
    minor = entry.gpu.minor
    if minor is None or entry.gpu.mig is not None:
        return entry
    if all(gpu.minor != minor or gpu.mig is not None or gpu.uuid == entry.gpu.uuid for gpu in listed):
        return entry
    return replace(entry, gpu=replace(entry.gpu, minor=None))


def _taken_in(gpu: Gpu, memory: Mapping[GpuUuid, GpuRecord], seen: Moment, *, reloaded: bool) -> GpuRecord:
    known = memory.get(gpu.uuid)
    if known is None:
        parent = memory.get(gpu.gpu_uuid)
        return GpuRecord(
            gpu=gpu,
            state=initial_state(gpu, seen) if parent is None else initial_instance_state(parent.state, gpu),
            published=None,
            published_at=0.0,
            state_since=seen.time,
            isolated=False,
            slot_taken=None if parent is None else parent.slot_taken,
        )
    state = known.state
    if reloaded:
        state = after_restart(state, same_boot=True, same_driver_load=False, age_seconds=0.0)
    # A slot that it moved into had no owner, unless a takeover reports one.
    taken = known.slot_taken if known.gpu.bus_id == gpu.bus_id else None
    return replace(known, gpu=gpu, state=with_expected_values(state, gpu), slot_taken=taken)
