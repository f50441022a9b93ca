"""Which GPU is looked at when, and which is left alone: the memory of the NVML monitor. No clock, no I/O."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from gpuvitals.model.gpu import DeviceKind, Gpu
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.signal import ReadStatus
from gpuvitals.signals.nvml_identity import in_pci_order

HANDS_OFF_XIDS = frozenset({79, 119, 120})
"""After these a call may hang, so the GPU is probed seldom instead of polled.

Source: NVIDIA/DCGM v4.6.0 DcgmCacheManager.cpp, which skips driver calls for the whole host after them.
"""

_SPACING_SECONDS = 0.2
"""The least time between two looks at one GPU, however often it is asked about."""


class Avoid(Enum):
    """Why a GPU is probed seldom instead of polled."""

    LOST = "lost"
    HUNG = "hung"
    XID = "xid"
    CRASH = "crash"


@dataclass(slots=True)
class Watched:
    """One GPU that was ever seen. `due_at` is the next poll or, where it is avoided, the next probe.

    `asked_at`: somebody wants to know more than the schedule; a worker that is older can't have the answer.
    """

    gpu: Gpu
    enumerated: bool = True
    status: ReadStatus | None = None
    avoid: Avoid | None = None
    avoided_at: float = 0.0
    due_at: float = 0.0
    asked_at: float = 0.0
    visited_at: float = 0.0
    crashes: int = 0


class Watchlist:
    """Keeps a GPU after it was lost: who it is must be known for as long as it may come back."""

    def __init__(self, remembered: Iterable[Gpu]) -> None:
        """MIG instances are not looked at: they are as well as their parent."""
        self._entries = {
            gpu.uuid: Watched(gpu=gpu, enumerated=False) for gpu in remembered if gpu.kind is DeviceKind.GPU
        }

    def __iter__(self) -> Iterator[Watched]:
        order = in_pci_order(entry.gpu for entry in self._entries.values())
        return iter([self._entries[gpu.uuid] for gpu in order])

    def get(self, uuid: str) -> Watched | None:
        """The entry of a UUID."""
        return self._entries.get(GpuUuid(uuid))

    def gpus(self, *, enumerated: bool = False) -> tuple[Gpu, ...]:
        """All GPUs, or those only that the driver enumerates, in PCI order."""
        return tuple(entry.gpu for entry in self if entry.enumerated or not enumerated)

    def adopt(self, found: Iterable[Gpu], now: float) -> None:
        """Takes up what the driver enumerates. A lost GPU that is back is polled again; a missing one is lost."""
        gpus = {gpu.uuid: gpu for gpu in found}
        for uuid, gpu in gpus.items():
            entry = self._entries.setdefault(uuid, Watched(gpu=gpu))
            entry.gpu = gpu
            if entry.avoid is Avoid.LOST:
                entry.avoid = None
            if entry.avoid is None:
                entry.due_at = now
        for uuid, entry in self._entries.items():
            entry.enumerated = uuid in gpus
            if not entry.enumerated and entry.avoid is None:
                self.avoid(entry, Avoid.LOST, now)

    def avoid(self, entry: Watched, why: Avoid, now: float) -> None:
        """Puts a GPU on the list of those that are left alone, and makes its first probe due."""
        if entry.avoid is None:
            entry.avoided_at = now
        entry.avoid, entry.due_at = why, now

    def count(self, why: Avoid) -> int:
        """How many GPUs are left alone for that reason."""
        return sum(entry.avoid is why for entry in self._entries.values())

    def ask(self, uuid: GpuUuid | None, now: float, settle: float) -> None:
        """Makes one GPU due, or all of them; a UUID that is not known asks for nothing.

        One that hung is due no sooner than `settle` seconds after its last look: each look may cost a worker.
        """
        for entry in self._entries.values():
            if uuid is None or entry.gpu.uuid == uuid:
                entry.asked_at = now
                rest = settle if entry.avoid is Avoid.HUNG else _SPACING_SECONDS
                entry.due_at = min(entry.due_at, max(now, entry.visited_at + rest))

    def due(self, now: float) -> list[Watched]:
        """What is to be looked at now, in PCI order."""
        return [entry for entry in self if entry.due_at <= now]

    def next_due_at(self, otherwise: float) -> float:
        """When the next look is due."""
        return min((entry.due_at for entry in self._entries.values()), default=otherwise)
