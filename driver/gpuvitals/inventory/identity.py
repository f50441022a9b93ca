"""Assigns PCI slots to GPUs, and retires GPUs that lost their slot. Pure.

A slot is a PCI bus id. Its owner is the UUID that the driver enumerated there last. A GPU that is not enumerated keeps
its slot until another GPU is enumerated there, since a dead board is still in the machine. A GPU without a slot is
retired: its health stays in the agent's memory, and it is neither published nor polled. MIG instances have no slot of
their own and follow their parent.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gpuvitals.model.ids import GpuUuid, PciBusId

MAX_RETIRED = 64
"""The most retired GPUs in memory, latest first to stay: four times the GPUs of a large node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotOwners:
    """The owner of each slot, and the GPUs without a slot; the GPU that lost its slot last is at the end."""

    owners: Mapping[PciBusId, GpuUuid] = field(default_factory=dict)
    retired: tuple[GpuUuid, ...] = ()


def slot_owners(before: SlotOwners, enumerated: Iterable[tuple[PciBusId, GpuUuid]]) -> SlotOwners:
    """The owners after the driver has enumerated these GPUs. Retired GPUs beyond MAX_RETIRED are dropped.

    Two GPUs on one bus id, or one GPU on two, contradict each other: the present owner wins, otherwise the UUID or bus
    id that sorts first, so that every agent decides alike.
    """
    placed: dict[PciBusId, GpuUuid] = {}
    there: set[GpuUuid] = set()
    losers: list[GpuUuid] = []
    for slot, uuid in sorted(
        set(enumerated), key=lambda each: (before.owners.get(each[0]) != each[1], *each)
    ):
        if uuid in there:
            continue
        if slot in placed:
            losers.append(uuid)
            continue
        placed[slot] = uuid
        there.add(uuid)
    kept = {slot: uuid for slot, uuid in before.owners.items() if slot not in placed and uuid not in there}
    owners = kept | placed
    seated = set(owners.values())
    candidates = (*before.retired, *before.owners.values(), *losers)
    retired = tuple(uuid for uuid in dict.fromkeys(candidates) if uuid not in seated)
    return SlotOwners(owners=owners, retired=retired[-MAX_RETIRED:])
