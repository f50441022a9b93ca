"""Applies checks of the driver's files: takes devices that can't be prepared out of service.

Owned by the agent's thread. A new device waits for its first check, and briefly for files that are still missing, so
that a starting driver container is not reported as a lack.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from gpuvitals.health.unusable import files_missing
from gpuvitals.inventory.event import Event
from gpuvitals.model.files import Lack
from gpuvitals.model.health import HealthState
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.snapshot import GpuHealth, NodeFacts
from gpuvitals.node.events import lack_events
from gpuvitals.node.ports import DriverFilesWatch
from gpuvitals.node.state_store import GpuRecord

_COMING_UP_SECONDS = 5.0
"""The longest time for which a new device waits for a check without a lack."""


class DriverFiles:
    """The devices that lack files, as reported by `watch`."""

    def __init__(self, watch: DriverFilesWatch) -> None:
        self._watch = watch
        self._until: dict[GpuUuid, float] = {}
        self._reported: Mapping[GpuUuid, Lack] = {}
        self._node: Lack | None = None
        self.lacks: Mapping[GpuUuid, Lack] = {}

    def update(self, entries: Collection[GpuRecord], at: float, *, is_first: bool) -> frozenset[GpuUuid]:
        """Applies the newest check. Returns the devices that must not be published yet, new ones or, at first, any."""
        here = [entry for entry in entries if not entry.retired and not entry.gone]
        check = self._watch.latest([entry.gpu for entry in here])
        if check is None:
            return frozenset()
        awaited: set[GpuUuid] = set()
        for entry in here:
            uuid, is_new = entry.gpu.uuid, entry.published is None
            if not (is_new or is_first):
                self._until.pop(uuid, None)
                continue
            until = self._until.setdefault(uuid, at + _COMING_UP_SECONDS)
            is_settled = uuid in check.checked and not (is_new and uuid in check.lacks)
            if not is_settled and not entry.gpu.mig_enabled and at < until:
                awaited.add(uuid)
        uuids = {entry.gpu.uuid for entry in here}
        self.lacks = {uuid: lack for uuid, lack in check.lacks.items() if uuid in uuids - awaited}
        self._node = check.node
        return frozenset(awaited)

    @property
    def has_changed(self) -> bool:
        """Whether the lacks differ from the reported ones."""
        return self.lacks != self._reported

    def events(self) -> tuple[Event, ...]:
        """The events of a change; each change is reported once."""
        before, self._reported = self._reported, self.lacks
        return lack_events(before, self.lacks)

    def added_to(self, facts: NodeFacts) -> NodeFacts:
        """The facts with the reason of a lack that concerns the whole node."""
        return facts if self._node is None else replace(facts, reasons=(*facts.reasons, self._node.reason))


def published_devices(
    entries: Iterable[GpuRecord], withheld: Mapping[GpuUuid, str], lacks: Mapping[GpuUuid, Lack]
) -> tuple[GpuHealth, ...]:
    """The devices of a snapshot. A failed device keeps its own verdict, whatever its driver lacks."""
    shown: list[GpuHealth] = []
    for entry in entries:
        verdict, lack = entry.published, lacks.get(entry.gpu.uuid)
        if verdict is None:
            continue
        failed = verdict.state is HealthState.UNHEALTHY
        shown.append(
            GpuHealth(
                gpu=entry.gpu,
                verdict=verdict,
                isolated=entry.isolated,
                state_since=entry.state_since,
                spared=entry.spared,
                withheld=withheld.get(entry.gpu.uuid, ""),
                slot_taken=entry.slot_taken,
                unprepared=None if lack is None or failed else files_missing(verdict, lack),
            )
        )
    return tuple(shown)
