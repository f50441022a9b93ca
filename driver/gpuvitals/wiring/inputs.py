"""Composes the external inputs of a node: the cluster's policies, the Node's annotations, reports, the DCGM exporter."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gpuvitals.config import ConfigError
from gpuvitals.health.policy import Policy
from gpuvitals.inventory.naming import Naming
from gpuvitals.kube.nodes import NodeMeta, NodeWatch, NodeWatchSettings
from gpuvitals.kube.policy_watch import PolicyWatch
from gpuvitals.kube.transport import Transport
from gpuvitals.model.clock import Clock
from gpuvitals.model.signal import Source, StatementsReport
from gpuvitals.node.events import statement_refused
from gpuvitals.node.policy_resolver import GovernorPorts, PolicyResolver
from gpuvitals.node.report_annotations import AnnotationPorts, ReportAnnotations
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals.signals.dcgm import DcgmSettings, DcgmSource, refused_address
from gpuvitals.signals.reports.folder import DropInSettings, DropInSource
from gpuvitals.signals.source import SignalSink

_FILE, _STATEMENTS = "policies.json", "statements.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalInputSettings:
    """The node, its naming, the policy values of its own file, and the folder that keeps the inputs.

    `poll_seconds` is between two readings of a GPU, `seconds` between two looks at the Node; `drop_in` is the folder of programs' reports, None for none; `dcgm` is how
    the DCGM exporter is asked, None for not.
    """

    node: str
    naming: Naming
    base: Policy
    poll_seconds: float
    directory: Path
    seconds: float
    drop_in: Path | None
    dcgm: DcgmSettings | None


def dcgm_settings(url: str, node_address: str, *, any_host: bool) -> DcgmSettings | None:
    """How the exporter is asked; `NODE_IP` in the address is this node's. None for no address. Raises ConfigError."""
    if not url:
        return None
    address = f"[{node_address}]" if ":" in node_address else node_address
    url = url.replace("NODE_IP", address)
    refused = refused_address(url, node_address, any_host=any_host)
    if refused:
        raise ConfigError(f"dcgm_url {url}: {refused}; dcgm_any_host allows other hosts")
    return DcgmSettings(url=url)


class ExternalInputs:
    """The governor with those who tell it. `start` comes after `governor.load`."""

    def __init__(
        self,
        settings: ExternalInputSettings,
        transport: Transport,
        metrics: NodeMetrics,
        ports: GovernorPorts,
        node_has: Callable[[tuple[tuple[str, str], ...]], None],
    ) -> None:
        """`node_has` gets what the Node has allocatable."""
        self._node_has = node_has
        self.governor = PolicyResolver(
            settings.base, settings.directory / _FILE, ports, settings.poll_seconds
        )
        self._policies = PolicyWatch(settings.naming.api_group, transport, metrics, self.governor)
        watch = NodeWatchSettings(node=settings.node, seconds=settings.seconds)
        self._node = NodeWatch(watch, transport, metrics, self)
        self._settings, self._metrics, self._ports = settings, metrics, ports
        self._door: ReportAnnotations | None = None
        self._sources: list[DropInSource | DcgmSource] = []

    def open_doors(self, clock: Clock, sink: SignalSink) -> None:
        """Lets in what others say of GPUs; what people said last is said again at once. Before `start`."""
        settings = self._settings
        annotations = AnnotationPorts(
            refused=self._refused, may_save=self._ports.may_save, storage=self._ports.storage
        )
        path = settings.directory / _STATEMENTS
        self._door = ReportAnnotations(settings.naming, path, clock, sink, annotations)
        self._door.load()
        if settings.drop_in is None:
            # What programs said while there was a folder must not stand for ever.
            sink.put(StatementsReport(source=Source.DROP_IN, seen=clock.now(), statements=()))
        else:
            folder = DropInSettings(folder=settings.drop_in)
            self._sources.append(DropInSource(folder, clock, sink, self._refused))
        if settings.dcgm is not None:
            self._sources.append(DcgmSource(settings.dcgm, clock, sink))

    def start(self) -> None:
        """Starts to listen."""
        for source in self._sources:
            source.start()
        self._policies.start()
        self._node.start()

    def stop(self, deadline_seconds: float) -> None:
        """Stops; each of the threads gets the deadline."""
        for source in self._sources:
            source.stop(deadline_seconds)
        self._policies.stop(deadline_seconds)
        self._node.stop(deadline_seconds)

    def node_changed(self, meta: NodeMeta) -> None:
        """Hands the state of the Node to the policy resolver, the other drivers' watch and the report annotations."""
        self.governor.labels(meta.labels)
        self._node_has(meta.allocatable)
        if self._door is not None:
            self._door.seen(meta.annotations)

    def _refused(self, where: str, why: str) -> None:
        self._metrics.reports_refused.inc()
        self._ports.events.emit(statement_refused(where, why))
