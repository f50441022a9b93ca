"""The schedule of the NVML monitor: when each GPU is polled next, and which GPUs are avoided. No clock, no I/O."""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from gpuvitals.model.gpu import DeviceKind, Gpu
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.signal import ReadStatus
from gpuvitals.observability.logs import keys
from gpuvitals.signals.nvml.decode import in_pci_order
from gpuvitals.signals.nvml.decode_mig import as_published, divided, refreshed
from gpuvitals.signals.nvml_worker.protocol import MigFacts

log = logging.getLogger(__name__)

_SPACING_SECONDS = 0.2
"""The least time between two polls of one GPU, however many are requested."""


class AvoidReason(Enum):
    """Why a GPU is probed at long intervals instead of polled. QUIESCED: it is to be reset, so no call is about it."""

    LOST = "lost"
    HUNG = "hung"
    XID = "xid"
    CRASH = "crash"
    QUIESCED = "quiesced"


@dataclass(slots=True)
class PollEntry:
    """One GPU that the driver has ever enumerated, with its MIG instances.

    `due_at` is the time of the next poll or, for an avoided GPU, of the next probe. From `checkup_at` on a poll is
    followed by a checkup. `requested_at`: the time of the last request for a poll, which an older worker can't answer.
    `has_events`: the active worker has registered for the GPU's events. `mig_trouble` and `checkup_trouble`: why the
    last answer about MIG was invalid, and why the last checkup failed.
    """

    gpu: Gpu
    instances: tuple[Gpu, ...] = ()
    enumerated: bool = True
    status: ReadStatus | None = None
    avoid: AvoidReason | None = None
    avoided_at: float = 0.0
    due_at: float = 0.0
    requested_at: float = 0.0
    polled_at: float = 0.0
    checkup_at: float = 0.0
    crashes: int = 0
    has_events: bool = False
    mig_trouble: str = ""
    checkup_trouble: str = ""


class PollSchedule:
    """The entries of all known GPUs. A lost GPU is kept, since it may return, until another GPU is in its slot.

    `unidentified` has the reason for each driver index whose GPU could not be identified at the last survey.
    """

    def __init__(self, remembered: Iterable[Gpu]) -> None:
        """`remembered` are the GPUs and MIG instances of an earlier run; instances are polled with their GPU."""
        known = tuple(remembered)
        self.unidentified: dict[int, str] = {}
        self._entries = {
            gpu.uuid: PollEntry(
                gpu=gpu,
                instances=tuple(each for each in known if each.mig is not None and each.gpu_uuid == gpu.uuid),
                enumerated=False,
            )
            for gpu in known
            if gpu.kind is DeviceKind.GPU
        }

    def __iter__(self) -> Iterator[PollEntry]:
        order = in_pci_order(entry.gpu for entry in self._entries.values())
        return iter([self._entries[gpu.uuid] for gpu in order])

    def get(self, uuid: str) -> PollEntry | None:
        """The entry of a UUID."""
        return self._entries.get(GpuUuid(uuid))

    def gpus(self, *, enumerated: bool = False) -> tuple[Gpu, ...]:
        """All GPUs, or only the enumerated ones, in PCI order, each followed by its MIG instances."""
        shown = (entry for entry in self if entry.enumerated or not enumerated)
        return tuple(gpu for entry in shown for gpu in (as_published(entry.gpu), *entry.instances))

    def worker_started(self, now: float) -> None:
        """Prepares for a new worker: no events are registered, and every GPU is due unless it is avoided."""
        for entry in self._entries.values():
            entry.has_events = False
            if entry.avoid is None:
                entry.due_at = now

    def adopt(self, found: Iterable[Gpu], divisions: Mapping[GpuUuid, MigFacts], now: float) -> None:
        """Applies a survey. A lost GPU that is enumerated again is polled again; a missing GPU is lost.

        A missing GPU whose slot holds another GPU is removed, since each probe for it would cost a worker. A GPU
        without an entry in `divisions` keeps its known MIG instances.
        """
        gpus = {gpu.uuid: gpu for gpu in found}
        for uuid, gpu in gpus.items():
            entry = self._entries.setdefault(uuid, PollEntry(gpu=gpu))
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
        """Removes a GPU that is not enumerated: another GPU is in its slot, or an operator had it forgotten."""
        entry = self._entries.get(uuid)
        if entry is not None and not entry.enumerated:
            log.info("gpu not looked for any more", extra=keys(gpu=uuid, bus_id=entry.gpu.bus_id))
            del self._entries[uuid]

    def divide(self, entry: PollEntry, facts: MigFacts | None) -> bool:
        """Applies an answer about MIG, None for a failed call. Returns whether mode or instances have changed.

        An invalid answer counts as a failed call.
        """
        if facts is None:
            return False
        try:
            gpu, instances = divided(entry.gpu, facts, entry.instances)
        except ValueError as error:
            if str(error) != entry.mig_trouble:
                log.warning("mig instances not understood", extra=keys(gpu=entry.gpu.uuid, reason=str(error)))
            entry.mig_trouble = str(error)
            return False
        entry.mig_trouble = ""
        has_changed = (gpu, instances) != (entry.gpu, entry.instances)
        entry.gpu, entry.instances = gpu, instances
        return has_changed

    def avoid(self, entry: PollEntry, reason: AvoidReason, now: float) -> None:
        """Avoids a GPU from now on, and makes its first probe due. QUIESCED outlasts every other reason."""
        if entry.avoid is None:
            entry.avoided_at = now
        if entry.avoid is not AvoidReason.QUIESCED:
            entry.avoid = reason
        entry.due_at = now

    def avoid_after_xid(self, uuid: GpuUuid, now: float) -> None:
        """Avoids a GPU that reported one of HANDS_OFF_XIDS, unless it is unknown or avoided already."""
        entry = self._entries.get(uuid)
        if entry is not None and entry.avoid is None:
            self.avoid(entry, AvoidReason.XID, now)

    def quiesce(self, uuids: Collection[GpuUuid], now: float) -> None:
        """Avoids these GPUs until `resume`: no call is about them."""
        for entry in self._entries.values():
            if entry.gpu.uuid in uuids:
                self.avoid(entry, AvoidReason.QUIESCED, now)

    def resume(self, uuids: Collection[GpuUuid] | None, now: float) -> None:
        """Polls quiesced GPUs again, all for None."""
        for entry in self._entries.values():
            if entry.avoid is AvoidReason.QUIESCED and (uuids is None or entry.gpu.uuid in uuids):
                entry.avoid, entry.due_at = None, now

    def count(self, reason: AvoidReason) -> int:
        """The number of GPUs that are avoided for that reason."""
        return sum(entry.avoid is reason for entry in self._entries.values())

    def request(self, uuid: GpuUuid | None, now: float, settle_seconds: float) -> None:
        """Makes one GPU due, or all for None. An unknown UUID changes nothing.

        A hung GPU is due no sooner than `settle_seconds` after its last probe, since each probe may cost a worker.
        """
        for entry in self._entries.values():
            if uuid is None or entry.gpu.uuid == uuid:
                entry.requested_at = now
                pause = settle_seconds if entry.avoid is AvoidReason.HUNG else _SPACING_SECONDS
                entry.due_at = min(entry.due_at, max(now, entry.polled_at + pause))

    def due(self, now: float) -> list[PollEntry]:
        """The entries that are due, in PCI order."""
        return [entry for entry in self if entry.due_at <= now]

    def next_due_at(self, otherwise: float) -> float:
        """The time of the next poll or probe; `otherwise` without any GPU."""
        return min((entry.due_at for entry in self._entries.values()), default=otherwise)
