"""An agent with a real store and a clock that the test sets; keeps its snapshots, events and requests."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from gpuvitals.health.policy import Policy
from gpuvitals.model.clock import Moment
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.health import HealthState
from gpuvitals.model.ids import BootId, GpuUuid, NodeName, PciBusId
from gpuvitals.model.signal import (
    InventoryReport,
    MonitorReport,
    MonitorState,
    Reading,
    ReadStatus,
    Signal,
    Source,
    XidReport,
)
from gpuvitals.model.snapshot import Snapshot
from gpuvitals.node.agent import AgentSettings, NodeAgent
from gpuvitals.node.policy_resolver import PolicyResolver, ResolverPorts
from gpuvitals.node.ports import AgentPorts
from gpuvitals.node.queue import SignalQueue
from gpuvitals.node.state_store import StateStore
from gpuvitals.node.storage import StorageReport
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals.signals.kmsg.source import KmsgPosition
from support.fakes.agent_ports import (
    DriverFilesWatch,
    GpuMonitor,
    HeldDevices,
    KernelLog,
    PublishedVerdicts,
    Role,
)
from support.fakes.event_log import EventLog
from support.signals import good, moment, xid


def gpu(index: int) -> Gpu:
    return Gpu(
        uuid=GpuUuid(f"GPU-{index}"),
        bus_id=PciBusId(f"0000:{index:02x}:00.0"),
        product_name="NVIDIA H100 80GB HBM3",
        memory_bytes=80 << 30,
        expected_links=18,
    )


def reading(index: int, at: float, **changes: object) -> Reading:
    return replace(good(at, **changes), uuid=GpuUuid(f"GPU-{index}"))


def fault(index: int, code: int, at: float) -> XidReport:
    return replace(xid(code, at), bus_id=PciBusId(f"0000:{index:02x}:00.0"))


def inventory(at: float, gpus: int = 8) -> InventoryReport:
    return InventoryReport(
        source=Source.NVML_POLL,
        seen=moment(at),
        gpus=tuple(gpu(index) for index in range(gpus)),
        driver_load="570.1",
    )


def lost(index: int, at: float) -> Reading:
    return Reading(
        source=Source.NVML_POLL, seen=moment(at), uuid=GpuUuid(f"GPU-{index}"), status=ReadStatus.LOST
    )


def monitor(source: Source) -> MonitorReport:
    """The source sees."""
    return MonitorReport(source=source, seen=moment(1000), state=MonitorState.WATCHING)


class TurnedClock:
    """Stands still until the test turns it."""

    def __init__(self) -> None:
        self.at = 1000.0
        self.shift = timedelta()

    def now(self) -> Moment:
        shown = moment(self.at)
        return replace(shown, time=shown.time + self.shift)


class AgentWorld:
    """One agent with eight healthy GPUs, its snapshots, its events and the parts that it uses."""

    def __init__(
        self,
        folder: Path,
        boot: str = "boot-1",
        *,
        gpus: int = 8,
        labels: dict[str, str] | None = None,
        is_listed: bool = True,
        policy: Policy | None = None,
    ) -> None:
        self.folder, self.gpus = folder, gpus
        self.clock = TurnedClock()
        self.published: list[Snapshot] = []
        self.events = EventLog()
        self.observed: list[float | None] = []
        self.devices = HeldDevices()
        self.monitor = GpuMonitor()
        self.boot = BootId(boot)
        self.log = KernelLog()
        self.read_log_to(7)
        self.role = Role()
        self.files = DriverFilesWatch()
        self.stored_verdicts = PublishedVerdicts()
        self.queue = SignalQueue()
        storage = StorageReport(self.events)
        resolver_ports = ResolverPorts(queue=self.queue, events=self.events, role=self.role, storage=storage)
        self.resolver = PolicyResolver(policy or Policy(), folder / "policies.json", resolver_ports, 5.0)
        self.resolver.load()
        if is_listed:
            self.resolver.labels(labels or {})
            self.resolver.listed()
        ports = AgentPorts(
            queue=self.queue,
            devices=self.devices,
            monitor=self.monitor,
            kernel_log=self.log,
            events=self.events,
            policies=self.resolver,
            role=self.role,
            storage=storage,
            published=self.stored_verdicts,
            files=self.files,
        )
        settings = AgentSettings(node=NodeName("node-a"), boot_id=BootId(boot))
        store = StateStore(folder / "state.json")
        self.metrics = NodeMetrics("test")
        self.agent = NodeAgent(settings, self.clock, store, ports, self.metrics)
        self.agent.listen(lambda snapshot, observed_at: self.publish(snapshot, observed_at))
        self.agent.restore(store.load())

    def publish(self, snapshot: Snapshot, observed_at: float | None) -> None:
        self.published.append(snapshot)
        self.observed.append(observed_at)

    def turn(self, at: float, *signals: Signal) -> None:
        self.clock.at = at
        self.agent.turn(list(signals))

    def read_log_to(self, sequence: int) -> None:
        """Moves the kernel log's position."""
        self.log.position = KmsgPosition(boot_id=self.boot, sequence=sequence)

    def begin(self, at: float = 1000.0) -> None:
        self.turn(at, inventory(at, self.gpus), *(reading(index, at) for index in range(self.gpus)))

    def states(self) -> list[HealthState]:
        return [entry.verdict.state for entry in self.published[-1].gpus]
