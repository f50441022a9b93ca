"""Restores faults from published verdicts for GPUs whose memory could not be read. They end by the usual rules."""

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
    """Published verdicts of GPUs that are not enumerated yet. Used by the agent's thread only.

    The stored slices are read only if the memory is incomplete, and count only for GPUs that are not in it.
    """

    def __init__(self, memory: Memory | None, boot: BootId) -> None:
        self._boot = boot
        self._remembered = frozenset[GpuUuid]() if memory is None else memory.remembered
        self._waiting: dict[GpuUuid, list[PublishedVerdict]] = {}
        self._is_complete = False
        for verdict in () if memory is None else memory.verdicts:
            self._waiting.setdefault(verdict.uuid, []).append(verdict)

    @property
    def is_complete(self) -> bool:
        """Whether the stored slices were read or are not needed."""
        return self._is_complete

    @property
    def waiting(self) -> frozenset[GpuUuid]:
        """The GPUs with a verdict that was not applied yet."""
        return frozenset(self._waiting)

    def take(self, stored: tuple[PublishedVerdict, ...] | None) -> None:
        """Adds the verdicts of the stored slices; None while they were not read."""
        if stored is None or self._is_complete:
            return
        self._is_complete = True
        for verdict in stored:
            if verdict.uuid not in self._remembered:
                self._waiting.setdefault(verdict.uuid, []).append(verdict)

    def restored(self, entry: GpuRecord, now: Moment, policy: Policy) -> GpuRecord:
        """The record of a waiting GPU with its published faults."""
        for verdict in self._waiting.pop(entry.gpu.uuid):
            same_boot = verdict.boot_id in ("", self._boot)
            state = with_published_fault(entry.state, verdict, now, policy, same_boot=same_boot)
            if state is not entry.state:
                log.warning(
                    "fault restored",
                    extra=keys(
                        gpu=verdict.uuid, state=verdict.state, reason=verdict.reason, origin=verdict.origin
                    ),
                )
            entry = replace(entry, state=state, isolated=entry.isolated or verdict.isolated)
        return entry
