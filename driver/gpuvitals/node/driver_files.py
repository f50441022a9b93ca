"""What the agent makes of looks at the driver's files: devices that are out since nothing can be prepared with them.

The agent's thread owns it. A device that is new waits for its first look, and a while for files that are just coming up, so
that a driver container that starts is not told as a lack.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from gpuvitals.health.unusable import files_missing
from gpuvitals.inventory.event import Event
from gpuvitals.model.files import FilesSeen, Lack
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.health import HealthState
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.snapshot import GpuHealth, NodeFacts
from gpuvitals.node.events import lack_events
from gpuvitals.node.state_store import GpuRecord

_COMING_UP_SECONDS = 5.0
"""How long a device that is new waits at most for a look that finds everything."""


class DriverFiles:
    """`look` gives the newest look, None where nobody looks: nothing is lacking then."""

    def __init__(self, look: Callable[[Sequence[Gpu]], FilesSeen | None]) -> None:
        self._look = look
        self._until: dict[GpuUuid, float] = {}
        self._told: Mapping[GpuUuid, Lack] = {}
        self._node: Lack | None = None
        self.lacks: Mapping[GpuUuid, Lack] = {}

    def update(self, entries: Collection[GpuRecord], at: float, *, is_first: bool) -> frozenset[GpuUuid]:
        """Takes the newest look. The devices that must not be published yet; for the first snapshot, also known ones."""
        here = [entry for entry in entries if not entry.retired and not entry.gone]
        seen = self._look([entry.gpu for entry in here])
        if seen is None:
            return frozenset()
        awaited: set[GpuUuid] = set()
        for entry in here:
            uuid, is_new = entry.gpu.uuid, entry.published is None
            if not (is_new or is_first):
                self._until.pop(uuid, None)
                continue
            until = self._until.setdefault(uuid, at + _COMING_UP_SECONDS)
            is_settled = uuid in seen.looked_at and not (is_new and uuid in seen.lacks)
            if not is_settled and not entry.gpu.mig_enabled and at < until:
                awaited.add(uuid)
        uuids = {entry.gpu.uuid for entry in here}
        self.lacks = {uuid: lack for uuid, lack in seen.lacks.items() if uuid in uuids - awaited}
        self._node = seen.node
        return frozenset(awaited)

    @property
    def are_news(self) -> bool:
        """Whether what is lacking differs from what was published."""
        return self.lacks != self._told

    def news(self) -> tuple[Event, ...]:
        """What people are to be told of a change, once."""
        before, self._told = self._told, self.lacks
        return lack_events(before, self.lacks)

    def added_to(self, facts: NodeFacts) -> NodeFacts:
        """The facts of the node with the reason of what the node as a whole lacks."""
        return facts if self._node is None else replace(facts, reasons=(*facts.reasons, self._node.reason))


def as_shown(
    entries: Iterable[GpuRecord], withheld: Mapping[GpuUuid, str], lacks: Mapping[GpuUuid, Lack]
) -> tuple[GpuHealth, ...]:
    """The devices of a snapshot. One that failed keeps its own verdict, whatever its driver lacks."""
    shown: list[GpuHealth] = []
    for entry in entries:
        judged, lack = entry.published, lacks.get(entry.gpu.uuid)
        if judged is None:
            continue
        failed = judged.state is HealthState.UNHEALTHY
        shown.append(
            GpuHealth(
                gpu=entry.gpu,
                verdict=judged,
                isolated=entry.isolated,
                state_since=entry.state_since,
                spared=entry.spared,
                withheld=withheld.get(entry.gpu.uuid, ""),
                slot_taken=entry.slot_taken,
                unprepared=None if lack is None or failed else files_missing(judged, lack),
            )
        )
    return tuple(shown)
