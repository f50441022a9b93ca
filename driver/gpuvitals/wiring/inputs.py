"""Composes the external inputs of a node: cluster policies, annotations of the Node, report files, the DCGM exporter."""

from dataclasses import dataclass
from pathlib import Path

from gpuvitals.inventory.event import EventSink
from gpuvitals.inventory.naming import Naming
from gpuvitals.kube.nodes import NodeWatch, NodeWatchSettings
from gpuvitals.kube.other_drivers import OtherDriverWatch
from gpuvitals.kube.policy_watch import PolicyWatch
from gpuvitals.kube.transport import Transport
from gpuvitals.model.clock import Clock
from gpuvitals.node.node_updates import NodeUpdates
from gpuvitals.node.policy_resolver import PolicyResolver
from gpuvitals.node.ports import PublisherRole
from gpuvitals.node.report_annotations import AnnotationPorts, ReportAnnotations
from gpuvitals.node.reports import NoReportFolder, RefusedReports
from gpuvitals.node.storage import StorageReport
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals.signals.dcgm import DcgmSettings, DcgmSource
from gpuvitals.signals.reports.folder import DropInSettings, DropInSource
from gpuvitals.signals.source import SignalSink


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalInputSettings:
    """The node and its naming, the longest time between two reads of the Node, and the sources.

    `reports` is the file that keeps the annotations. `report_folder` is None without reports of programs, `dcgm` is
    None without an exporter.
    """

    node: str
    naming: Naming
    node_poll_seconds: float
    reports: Path
    report_folder: Path | None
    dcgm: DcgmSettings | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InputTargets:
    """The parts that the inputs feed, and those that their readers use."""

    resolver: PolicyResolver
    other_drivers: OtherDriverWatch
    signals: SignalSink
    events: EventSink
    role: PublisherRole
    storage: StorageReport
    clock: Clock


class ExternalInputs:
    """The watches and sources of external inputs. Call `load` before `start`."""

    def __init__(
        self,
        settings: ExternalInputSettings,
        transport: Transport,
        metrics: NodeMetrics,
        targets: InputTargets,
    ) -> None:
        refused = RefusedReports(targets.events, metrics)
        ports = AnnotationPorts(refused=refused, role=targets.role, storage=targets.storage)
        self._resolver = targets.resolver
        self._annotations = ReportAnnotations(
            settings.naming, settings.reports, targets.clock, targets.signals, ports
        )
        updates = NodeUpdates(targets.resolver, targets.other_drivers, self._annotations)
        self._policies = PolicyWatch(settings.naming.api_group, transport, metrics, targets.resolver)
        watch = NodeWatchSettings(node=settings.node, seconds=settings.node_poll_seconds)
        self._node = NodeWatch(watch, transport, metrics, updates)
        self._sources: list[DropInSource | NoReportFolder | DcgmSource] = []
        if settings.report_folder is None:
            self._sources.append(NoReportFolder(targets.clock, targets.signals))
        else:
            folder = DropInSettings(folder=settings.report_folder)
            self._sources.append(DropInSource(folder, targets.clock, targets.signals, refused))
        if settings.dcgm is not None:
            self._sources.append(DcgmSource(settings.dcgm, targets.clock, targets.signals))

    def load(self) -> None:
        """Restores the policies and annotations that an earlier agent saved."""
        self._resolver.load()
        self._annotations.load()

    def start(self) -> None:
        """Starts the sources and watches."""
        for source in self._sources:
            source.start()
        self._policies.start()
        self._node.start()

    def stop(self, deadline_seconds: float) -> None:
        """Stops all; each of them gets the deadline."""
        for source in self._sources:
            source.stop(deadline_seconds)
        self._policies.stop(deadline_seconds)
        self._node.stop(deadline_seconds)
