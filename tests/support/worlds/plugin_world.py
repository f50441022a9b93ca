"""A node for the kubelet edge: real sockets, real files, a driver root of empty files, claims from a dict."""

import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc

from gpuvitals.inventory.device import device_name
from gpuvitals.inventory.event import Event
from gpuvitals.kubeletplugin.allocated_claim import AllocatedClaim, AllocatedDevice
from gpuvitals.kubeletplugin.plugin import KubeletPlugin
from gpuvitals.kubeletplugin.ports import (
    ClaimNotFoundError,
    ClaimUnavailableError,
    PluginPorts,
)
from gpuvitals.kubeletplugin.settings import DriverRootSettings, Limits, PluginSettings
from gpuvitals.model.clock import Moment
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.health import HealthClass, HealthState, NvlinkStatus, Phase, RowRemap, Verdict
from gpuvitals.model.ids import ClaimUid, GpuUuid, NodeName, PciBusId, Reason
from gpuvitals.model.snapshot import GpuHealth, NodeFacts, Snapshot
from gpuvitals.proto import dra_v1_pb2 as dra
from gpuvitals.proto.dra_v1_pb2_grpc import DRAPluginStub
from gpuvitals_sim.hardware.driver_files import make_driver_root

NODE = NodeName("node-a")
DRIVER = "gpu.vitals.internal"
FAST = Limits(
    transient_wait_seconds=5.0,
    deadline_margin_seconds=0.1,
    heartbeat_seconds=0.3,
    stale_tick_seconds=1.0,
    connected_seconds=0.3,
    lock_wait_seconds=5.0,
    orphan_grace_seconds=0.0,
    watch_seconds=0.05,
    reconcile_seconds=0.5,
    claim_check_seconds=0.1,
    confirmed_seconds=0.0,
    stale_checks=2,
)


class SystemClock:
    """The clock of the real agent."""

    def now(self) -> Moment:
        return Moment(at=time.clock_gettime(time.CLOCK_BOOTTIME), time=datetime.now(UTC))


class Claims:
    """The API server's claims. `fail` makes every read raise; `gate` makes it wait."""

    def __init__(self) -> None:
        self.claims: dict[tuple[str, str], AllocatedClaim] = {}
        self.fail: str = ""
        self.gate: threading.Event | None = None
        self.reads = 0

    def put(self, claim: AllocatedClaim) -> AllocatedClaim:
        self.claims[claim.namespace, claim.name] = claim
        return claim

    def allocated(self, namespace: str, name: str) -> AllocatedClaim:
        self.reads += 1
        if self.gate is not None:
            assert self.gate.wait(10)
        if self.fail:
            raise ClaimUnavailableError(self.fail)
        try:
            return self.claims[namespace, name]
        except KeyError:
            raise ClaimNotFoundError(f"{namespace}/{name}") from None


@dataclass
class AgentStub:
    """The agent's current snapshot, and the age of its loop's last turn."""

    snapshot: Snapshot | None
    tick_age_seconds: float = 0.0


class Events:
    """The events that would go to the API server."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def reasons(self) -> list[str]:
        return [event.reason for event in self.events]


class World:
    """One node with `gpus` GPUs. The directory's path is short, because socket paths are limited."""

    def __init__(self, directory: Path, gpus: int = 4) -> None:
        self.directory = directory
        self.boot_id = directory / "boot_id"
        self.boot_id.write_text("boot-1\n")
        self.root = directory / "root"
        make_driver_root(self.root, gpus=gpus, version="570.86.15")
        self.snapshot = snapshot_of(gpus)
        self.agent = AgentStub(self.snapshot)
        self.claims = Claims()
        self.events = Events()
        self.fenced: frozenset[GpuUuid] = frozenset()
        self.fatal: list[str] = []

    def settings(self, pod_uid: str = "", limits: Limits = FAST) -> PluginSettings:
        return PluginSettings(
            node=NODE,
            data_directory=self.directory / "data",
            registry_directory=self.directory / "registry",
            cdi_directory=self.directory / "cdi",
            boot_id_file=self.boot_id,
            pod_uid=pod_uid,
            driver_root=DriverRootSettings(
                driver_root=self.root,
                dev_root=self.root,
                proc_root=self.root / "proc",
                require_character_devices=False,
            ),
            limits=limits,
        )

    def ports(self, **changed: Any) -> PluginPorts:
        ports = PluginPorts(claims=self.claims, agent=self.agent, events=self.events, fences=self)
        return replace(ports, **changed)

    def plugin(self, pod_uid: str = "", limits: Limits = FAST) -> KubeletPlugin:
        return KubeletPlugin(self.settings(pod_uid, limits), SystemClock(), self.fatal.append)

    @contextmanager
    def running(self, pod_uid: str = "", limits: Limits = FAST, **ports: Any) -> Iterator[KubeletPlugin]:
        plugin = self.plugin(pod_uid, limits)
        plugin.start()
        try:
            plugin.attach(self.ports(**ports))
            yield plugin
        finally:
            plugin.stop(1.0)

    def device(self, index: int) -> str:
        return device_name(self.snapshot.gpus[index].gpu)

    def uuid(self, index: int) -> GpuUuid:
        return self.snapshot.gpus[index].gpu.uuid

    def allocate(self, number: int, *gpus: int, **changed: Any) -> dra.Claim:
        """Allocates these GPUs to claim `number`, one request each, and returns its reference in a request."""
        results = tuple(
            AllocatedDevice(request=f"r{position}", driver=DRIVER, pool=NODE, device=self.device(gpu))
            for position, gpu in enumerate(gpus)
        )
        claim = AllocatedClaim(namespace="ml", name=f"claim-{number}", uid=uid_of(number), results=results)
        self.claims.put(replace(claim, **changed))
        return dra.Claim(namespace="ml", name=f"claim-{number}", uid=uid_of(number))

    def judge(self, index: int, state: HealthState, **changed: Any) -> Snapshot:
        """A new snapshot in which one GPU has another verdict; it becomes the current one."""
        entries = list(self.snapshot.gpus)
        verdict = replace(entries[index].verdict, state=state, **changed)
        isolated = state is HealthState.UNHEALTHY
        entries[index] = replace(entries[index], verdict=verdict, isolated=isolated)
        self.snapshot = replace(self.snapshot, revision=self.snapshot.revision + 1, gpus=tuple(entries))
        self.agent.snapshot = self.snapshot
        return self.snapshot

    def cdi_files(self) -> list[str]:
        directory = self.directory / "cdi"
        return sorted(os.listdir(directory)) if directory.exists() else []

    def checkpoint_file(self) -> Path:
        return self.directory / "data" / "checkpoint.json"


@contextmanager
def world(gpus: int = 4) -> Iterator[World]:
    """A node in a short directory of its own, removed afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="gv"))
    try:
        yield World(directory, gpus)
    finally:
        shutil.rmtree(directory)


def uid_of(number: int) -> ClaimUid:
    return ClaimUid(f"00000000-0000-4000-8000-{number:012d}")


def snapshot_of(gpus: int) -> Snapshot:
    moment = SystemClock().now()
    entries = tuple(
        GpuHealth(gpu=_gpu(index), verdict=_healthy(index), isolated=False, state_since=moment.time)
        for index in range(gpus)
    )
    return Snapshot(revision=1, taken=moment, node=NODE, gpus=entries, facts=NodeFacts())


def _gpu(index: int) -> Gpu:
    return Gpu(
        uuid=GpuUuid(f"GPU-{index:08d}"),
        bus_id=PciBusId(f"0000:{index + 5:02x}:00.0"),
        product_name="NVIDIA H100 80GB HBM3",
        minor=index,
        memory_bytes=80 << 30,
    )


def _healthy(index: int) -> Verdict:
    return Verdict(
        uuid=GpuUuid(f"GPU-{index:08d}"),
        state=HealthState.HEALTHY,
        phase=Phase.STEADY,
        score=100,
        health_class=HealthClass.HIGH,
        reason=Reason("None"),
        message="",
        definitive=False,
        xid_errors=0,
        last_xid=0,
        last_fault_time=None,
        nvlink_status=NvlinkStatus.ACTIVE,
        nvlink_bandwidth_percent=100,
        ecc_uncorrected=0,
        row_remap=RowRemap.NONE,
        recovery_action="None",
        coverage=100,
    )


@contextmanager
def channel(path: Path) -> Iterator[grpc.Channel]:
    """A client on a plugin's socket, opened as the kubelet does."""
    options = [("grpc.default_authority", "localhost")]
    with grpc.insecure_channel(f"unix:{path}", options=options) as opened:
        yield opened


class Kubelet:
    """The calls of a kubelet, over the plugin's DRA socket."""

    def __init__(self, opened: grpc.Channel) -> None:
        self._stub = DRAPluginStub(opened)

    def prepare(
        self, *claims: dra.Claim, timeout: float = 10.0
    ) -> dict[str, dra.NodePrepareResourceResponse]:
        answer = self._stub.NodePrepareResources(
            dra.NodePrepareResourcesRequest(claims=claims), timeout=timeout
        )
        return dict(answer.claims)

    def unprepare(self, *claims: dra.Claim, timeout: float = 10.0) -> dict[str, str]:
        answer = self._stub.NodeUnprepareResources(
            dra.NodeUnprepareResourcesRequest(claims=claims), timeout=timeout
        )
        return {uid: entry.error for uid, entry in answer.claims.items()}


@contextmanager
def kubelet(plugin: KubeletPlugin) -> Iterator[Kubelet]:
    with channel(plugin.paths.dra) as opened:
        yield Kubelet(opened)


def written(directory: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of every file below `directory`, equal if nothing was written."""
    found: dict[str, tuple[int, int]] = {}
    for path in sorted(directory.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            found[str(path)] = (status.st_ino, status.st_mtime_ns)
    return found
