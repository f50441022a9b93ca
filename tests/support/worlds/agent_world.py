"""An agent with a real store, and a clock that the test turns; what it publishes and asks for is kept."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from gpuvitals.health.policy import Policy
from gpuvitals.health.restored_faults import PublishedVerdict
from gpuvitals.model.clock import Moment
from gpuvitals.model.files import FilesSeen
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
from gpuvitals.node.policy_resolver import GovernorPorts, PolicyResolver
from gpuvitals.node.ports import AgentPorts
from gpuvitals.node.state_store import StateStore
from gpuvitals.node.storage import StorageReport
from gpuvitals.observability.metrics import NodeMetrics
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
    """One agent with eight healthy GPUs, and what it published and asked for."""

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
        self.repolled: list[GpuUuid | None] = []
        self.avoided: list[GpuUuid] = []
        self.events = EventLog()
        self.heard: list[float | None] = []
        self.held: dict[GpuUuid, tuple[str, ...]] = {}
        self.read_to: int | None = 7
        self.publishing = True
        self.files: FilesSeen | None = None
        self.recalled: tuple[PublishedVerdict, ...] | None = ()
        storage = StorageReport(self.events)
        governing = GovernorPorts(
            changed=lambda: None,
            events=self.events,
            may_save=lambda: self.publishing,
            storage=storage,
        )
        self.governor = PolicyResolver(policy or Policy(), folder / "policies.json", governing, 5.0)
        self.governor.load()
        if is_listed:
            self.governor.labels(labels or {})
            self.governor.listed()
        ports = AgentPorts(
            holders=lambda uuid: self.held.get(uuid, ()),
            claimed=lambda: self.held,
            repoll=self.repolled.append,
            avoid=self.avoided.append,
            kmsg_sequence=lambda: self.read_to,
            events=self.events,
            rules=self.governor.rules,
            is_settled=lambda: self.governor.is_settled,
            is_publishing=lambda: self.publishing,
            files=lambda _: self.files,
            storage=storage,
            recalled=lambda: self.recalled,
        )
        settings = AgentSettings(node=NodeName("node-a"), boot_id=BootId(boot))
        store = StateStore(folder / "state.json")
        self.metrics = NodeMetrics("test")
        self.agent = NodeAgent(settings, self.clock, store, ports, self.metrics)
        self.agent.listen(lambda snapshot, heard_at: self.hear(snapshot, heard_at))
        self.agent.restore(store.load())

    def hear(self, snapshot: Snapshot, heard_at: float | None) -> None:
        self.published.append(snapshot)
        self.heard.append(heard_at)

    def turn(self, at: float, *signals: Signal) -> None:
        self.clock.at = at
        self.agent.turn(list(signals))

    def begin(self, at: float = 1000.0) -> None:
        self.turn(at, inventory(at, self.gpus), *(reading(index, at) for index in range(self.gpus)))

    def states(self) -> list[HealthState]:
        return [entry.verdict.state for entry in self.published[-1].gpus]
