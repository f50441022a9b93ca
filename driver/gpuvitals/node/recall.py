"""What the cluster was shown of GPUs whose memory could not be read: their faults stand until the rules end them."""

import logging
from dataclasses import replace

from gpuvitals.health.policy import Policy
from gpuvitals.health.restored_faults import PublishedVerdict, with_published_fault
from gpuvitals.model.clock import Moment
from gpuvitals.model.ids import BootId, GpuUuid
from gpuvitals.node.state_store import GpuRecord, Memory
from gpuvitals.observability.logs import keys

log = logging.getLogger(__name__)


class Recall:
    """Published verdicts that wait for their GPU to be enumerated. Owned by the agent's thread.

    The stored slices are asked for only where the memory is incomplete, and count only for GPUs that are not in it.
    """

    def __init__(self, memory: Memory | None, boot: BootId) -> None:
        self._boot = boot
        self._remembered = frozenset[GpuUuid]() if memory is None else memory.remembered
        self._waiting: dict[GpuUuid, list[PublishedVerdict]] = {}
        self._is_complete = False
        for shown in () if memory is None else memory.shown:
            self._waiting.setdefault(shown.uuid, []).append(shown)

    @property
    def is_complete(self) -> bool:
        """Whether the stored slices were read, or are not needed."""
        return self._is_complete

    @property
    def waiting(self) -> frozenset[GpuUuid]:
        """The GPUs of which a verdict is known that was not taken up yet."""
        return frozenset(self._waiting)

    def take(self, stored: tuple[PublishedVerdict, ...] | None) -> None:
        """The verdicts of the stored slices; None while they are not known."""
        if stored is None or self._is_complete:
            return
        self._is_complete = True
        for shown in stored:
            if shown.uuid not in self._remembered:
                self._waiting.setdefault(shown.uuid, []).append(shown)

    def restored(self, entry: GpuRecord, now: Moment, policy: Policy) -> GpuRecord:
        """The entry of a waiting GPU with the faults that were published of it."""
        for shown in self._waiting.pop(entry.gpu.uuid):
            same_boot = shown.boot_id in ("", self._boot)
            state = with_published_fault(entry.state, shown, now, policy, same_boot=same_boot)
            if state is not entry.state:
                log.warning(
                    "fault restored",
                    extra=keys(gpu=shown.uuid, state=shown.state, reason=shown.reason, origin=shown.origin),
                )
            entry = replace(entry, state=state, isolated=entry.isolated or shown.isolated)
        return entry
