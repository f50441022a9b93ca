"""What people and programs say of this node's GPUs: which of it stands now, and when the fold has to hear of it.

Owned by the agent's thread. A source tells all that it says at once; what expires falls away by itself.
"""

from collections.abc import Collection

from gpuvitals.health.fold_reports import report_text
from gpuvitals.inventory.device import device_name, silicon
from gpuvitals.model.clock import Moment
from gpuvitals.model.gpu_name import folded_name
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.signal import ExternalReport, Source, StatementsReport
from gpuvitals.node.state_store import GpuRecord


class StandingStatements:
    """The statements of each source, and what the fold was last told of them."""

    def __init__(self) -> None:
        self._said: dict[Source, tuple[ExternalReport, ...]] = {}
        self._told: dict[Source, tuple[tuple[ExternalReport, ...], frozenset[GpuUuid]]] = {}

    @property
    def lines(self) -> tuple[str, ...]:
        """What stands, each in one line, in a stable order."""
        standing = [statement for told, _ in self._told.values() for statement in told]
        return tuple(sorted(f"{each.gpu} {each.says.value}, {report_text(each)}" for each in standing))

    def take(self, report: StatementsReport) -> None:
        """Everything that a source says from now on."""
        self._said[report.source] = report.statements

    def due(
        self, now: Moment, gpus: Collection[GpuUuid]
    ) -> tuple[tuple[Source, tuple[ExternalReport, ...]], ...]:
        """The sources of which other statements stand now than were told, or were told to fewer GPUs."""
        if not gpus:
            return ()
        known = frozenset(gpus)
        due = []
        for source, said in self._said.items():
            standing = tuple(each for each in said if each.expires is None or now.time < each.expires)
            if self._told.get(source) != (standing, known):
                self._told[source] = (standing, known)
                due.append((source, standing))
        return tuple(due)


def names(text: str, entry: GpuRecord) -> bool:
    """Whether `text` means this device. The name of a GPU means each of its MIG instances as well.

    A retired device is meant by its UUID alone: the names of its slot are those of the GPU that is there now.
    """
    gpu, name = entry.gpu, device_name(entry.gpu)
    own: set[str]
    if entry.retired:
        own = {gpu.uuid, gpu.gpu_uuid}
    elif gpu.mig is None:
        own = {gpu.uuid, gpu.bus_id, name}
    else:
        own = {gpu.uuid, gpu.bus_id, name, gpu.mig.parent, silicon(name)}
    return folded_name(text) in {folded_name(each) for each in own}
