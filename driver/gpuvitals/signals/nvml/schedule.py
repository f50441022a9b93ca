"""Which GPU is looked at when, and which is left alone: the memory of the NVML monitor. No clock, no I/O."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from gpuvitals.model.gpu import DeviceKind, Gpu
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.signal import ReadStatus
from gpuvitals.observability.logs import keys
from gpuvitals.signals.nvml.decode import in_pci_order
from gpuvitals.signals.nvml.decode_mig import as_given_out, divided, refreshed
from gpuvitals.signals.nvml_worker.protocol import MigFacts

log = logging.getLogger(__name__)

_SPACING_SECONDS = 0.2
"""The least time between two looks at one GPU, however often it is asked about."""


class AvoidReason(Enum):
    """Why a GPU is probed seldom instead of polled. ASKED: a reset wants it free, so it is not touched at all."""

    LOST = "lost"
    HUNG = "hung"
    XID = "xid"
    CRASH = "crash"
    ASKED = "asked"


@dataclass(slots=True)
class Watched:
    """One GPU that was ever seen, with its MIG instances. `due_at` is the next poll or, where it is avoided, the next probe.

    `asked_at`: somebody wants to know more than the schedule; a worker that is older can't have the answer. `odd` is
    what made no sense in the last answer about its instances.
    `heard`: the worker that sits has registered for its events. `check_at`: from then on a poll is a checkup too.
    `unchecked` is why the last one failed.
    """

    gpu: Gpu
    instances: tuple[Gpu, ...] = ()
    enumerated: bool = True
    status: ReadStatus | None = None
    avoid: AvoidReason | None = None
    avoided_at: float = 0.0
    due_at: float = 0.0
    asked_at: float = 0.0
    visited_at: float = 0.0
    crashes: int = 0
    odd: str = ""
    heard: bool = False
    check_at: float = 0.0
    unchecked: str = ""


class PollSchedule:
    """Keeps a GPU after it was lost, until another GPU is in its slot: it may come back.

    `nameless` are the indexes whose GPU did not say who it is at the last survey, with the reason.
    """

    def __init__(self, remembered: Iterable[Gpu]) -> None:
        """MIG instances are not looked at: they are as well as their GPU, and are kept with it."""
        known = tuple(remembered)
        self.nameless: dict[int, str] = {}
        self._entries = {
            gpu.uuid: Watched(
                gpu=gpu,
                instances=tuple(each for each in known if each.mig is not None and each.gpu_uuid == gpu.uuid),
                enumerated=False,
            )
            for gpu in known
            if gpu.kind is DeviceKind.GPU
        }

    def __iter__(self) -> Iterator[Watched]:
        order = in_pci_order(entry.gpu for entry in self._entries.values())
        return iter([self._entries[gpu.uuid] for gpu in order])

    def get(self, uuid: str) -> Watched | None:
        """The entry of a UUID."""
        return self._entries.get(GpuUuid(uuid))

    def gpus(self, *, enumerated: bool = False) -> tuple[Gpu, ...]:
        """All GPUs, or those only that the driver enumerates, in PCI order, each before its MIG instances."""
        shown = (entry for entry in self if entry.enumerated or not enumerated)
        return tuple(gpu for entry in shown for gpu in (as_given_out(entry.gpu), *entry.instances))

    def begin(self, now: float) -> None:
        """A new worker sits: it has registered for nobody's events yet, and is to look at everyone it may."""
        for entry in self._entries.values():
            entry.heard = False
            if entry.avoid is None:
                entry.due_at = now

    def adopt(self, found: Iterable[Gpu], divisions: Mapping[GpuUuid, MigFacts], now: float) -> None:
        """Takes up what the driver enumerates. A lost GPU that is back is polled again; a missing one is lost.

        One whose slot holds another GPU now is not looked for: each look would cost a worker, for a GPU that is gone.

        `divisions` has how each GPU is divided; one that it lacks stays divided as it was known to be.
        """
        gpus = {gpu.uuid: gpu for gpu in found}
        for uuid, gpu in gpus.items():
            entry = self._entries.setdefault(uuid, Watched(gpu=gpu))
            entry.gpu = replace(gpu, mig_enabled=entry.gpu.mig_enabled)
            entry.instances = refreshed(gpu, entry.instances)
            self.divide(entry, divisions.get(uuid))
            if entry.avoid is AvoidReason.LOST:
                entry.avoid = None
            if entry.avoid is None:
                entry.due_at = now
        slots = {gpu.bus_id for gpu in gpus.values()}
        for uuid, entry in list(self._entries.items()):
            entry.enumerated = uuid in gpus
            if entry.enumerated:
                continue
            if entry.gpu.bus_id in slots:
                self.forget(uuid)
            elif entry.avoid is None:
                self.avoid(entry, AvoidReason.LOST, now)

    def forget(self, uuid: GpuUuid) -> None:
        """Looks for a GPU no more: another is in its slot, or a person has it forgotten. One that is enumerated stays."""
        entry = self._entries.get(uuid)
        if entry is not None and not entry.enumerated:
            log.info("gpu not looked for any more", extra=keys(gpu=uuid, bus_id=entry.gpu.bus_id))
            del self._entries[uuid]

    def divide(self, entry: Watched, facts: MigFacts | None) -> bool:
        """Takes up how a GPU is divided, None for no answer; whether that is news. What makes no sense is no answer."""
        if facts is None:
            return False
        try:
            gpu, instances = divided(entry.gpu, facts, entry.instances)
        except ValueError as error:
            if str(error) != entry.odd:
                log.warning("mig instances not understood", extra=keys(gpu=entry.gpu.uuid, reason=str(error)))
            entry.odd = str(error)
            return False
        entry.odd = ""
        is_news = (gpu, instances) != (entry.gpu, entry.instances)
        entry.gpu, entry.instances = gpu, instances
        return is_news

    def avoid(self, entry: Watched, why: AvoidReason, now: float) -> None:
        """Puts a GPU on the list of those that are left alone, and makes its first probe due."""
        if entry.avoid is None:
            entry.avoided_at = now
        if entry.avoid is not AvoidReason.ASKED:
            entry.avoid = why
        entry.due_at = now

    def count(self, why: AvoidReason) -> int:
        """How many GPUs are left alone for that reason."""
        return sum(entry.avoid is why for entry in self._entries.values())

    def ask(self, uuid: GpuUuid | None, now: float, settle: float) -> None:
        """Makes one GPU due, or all of them; a UUID that is not known asks for nothing.

        One that hung is due no sooner than `settle` seconds after its last look: each look may cost a worker.
        """
        for entry in self._entries.values():
            if uuid is None or entry.gpu.uuid == uuid:
                entry.asked_at = now
                rest = settle if entry.avoid is AvoidReason.HUNG else _SPACING_SECONDS
                entry.due_at = min(entry.due_at, max(now, entry.visited_at + rest))

    def due(self, now: float) -> list[Watched]:
        """What is to be looked at now, in PCI order."""
        return [entry for entry in self if entry.due_at <= now]

    def next_due_at(self, otherwise: float) -> float:
        """When the next look is due."""
        return min((entry.due_at for entry in self._entries.values()), default=otherwise)
