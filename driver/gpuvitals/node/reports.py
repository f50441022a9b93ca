"""Reports of operators and programs about this node's GPUs: which are in force, and when the fold has to apply them.

Owned by the agent's thread. A source always sends all its reports; expired ones are dropped here.
"""

from collections.abc import Collection

from gpuvitals.health.fold_reports import report_text
from gpuvitals.inventory.device import device_name, silicon
from gpuvitals.inventory.event import EventSink
from gpuvitals.model.clock import Clock, Moment
from gpuvitals.model.gpu_name import normalize_gpu_name
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.signal import ExternalReport, ExternalReports, Source
from gpuvitals.node.events import report_refused
from gpuvitals.node.state_store import GpuRecord
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals.signals.source import SignalSink


class StandingReports:
    """The reports of each source, and those that the fold has applied."""

    def __init__(self) -> None:
        self._received: dict[Source, tuple[ExternalReport, ...]] = {}
        self._applied: dict[Source, tuple[tuple[ExternalReport, ...], frozenset[GpuUuid]]] = {}

    @property
    def lines(self) -> tuple[str, ...]:
        """The applied reports, one line each, in a stable order."""
        standing = [report for applied, _ in self._applied.values() for report in applied]
        return tuple(sorted(f"{each.gpu} {each.state.value}, {report_text(each)}" for each in standing))

    def replace(self, signal: ExternalReports) -> None:
        """Replaces all reports of a source."""
        self._received[signal.source] = signal.reports

    def due(
        self, now: Moment, gpus: Collection[GpuUuid]
    ) -> tuple[tuple[Source, tuple[ExternalReport, ...]], ...]:
        """The sources whose reports in force, or whose GPUs, differ from the applied ones. Marks them as applied."""
        if not gpus:
            return ()
        known = frozenset(gpus)
        due = []
        for source, received in self._received.items():
            standing = tuple(each for each in received if each.expires is None or now.time < each.expires)
            if self._applied.get(source) != (standing, known):
                self._applied[source] = (standing, known)
                due.append((source, standing))
        return tuple(due)


class RefusedReports:
    """Counts and reports the reports that can't be used. Thread safe."""

    def __init__(self, events: EventSink, metrics: NodeMetrics) -> None:
        self._events = events
        self._metrics = metrics

    def refused(self, place: str, why: str) -> None:
        """Records one report. `place` is the annotation or the file that it is in."""
        self._metrics.reports_refused.inc()
        self._events.emit(report_refused(place, why))


class NoReportFolder:
    """Takes the place of the report folder if none is configured: retracts the reports that were in an earlier one."""

    def __init__(self, clock: Clock, sink: SignalSink) -> None:
        self._clock = clock
        self._sink = sink

    def start(self) -> None:
        """Sends the empty set of reports."""
        self._sink.put(ExternalReports(source=Source.DROP_IN, seen=self._clock.now(), reports=()))

    def stop(self, deadline_seconds: float) -> None:
        """Has nothing to stop."""


def names(text: str, entry: GpuRecord) -> bool:
    """Whether `text` names this device. The name of a GPU names each of its MIG instances too.

    Only its UUID names a retired device: the names of its slot are those of the GPU that is there now.
    """
    gpu, name = entry.gpu, device_name(entry.gpu)
    own: set[str]
    if entry.retired:
        own = {gpu.uuid, gpu.gpu_uuid}
    elif gpu.mig is None:
        own = {gpu.uuid, gpu.bus_id, name}
    else:
        own = {gpu.uuid, gpu.bus_id, name, gpu.mig.parent, silicon(name)}
    return normalize_gpu_name(text) in {normalize_gpu_name(each) for each in own}
