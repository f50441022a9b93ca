"""Protocols through which the agent's loop uses the other parts of the process. None of their methods may block."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gpuvitals.health.restored_faults import PublishedVerdict
from gpuvitals.inventory.event import EventSink
from gpuvitals.inventory.policy_match import EffectivePolicy
from gpuvitals.model.files import FilesCheck
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.ids import GpuUuid
from gpuvitals.node.queue import SignalQueue
from gpuvitals.node.storage import StorageReport
from gpuvitals.signals.kmsg.source import KmsgPosition


class HeldDevices(Protocol):
    """The devices that are prepared for claims on this node."""

    def holders(self, uuid: GpuUuid) -> tuple[str, ...]:
        """The UIDs of the claims that hold a device."""
        ...

    def claimed(self) -> Collection[GpuUuid]:
        """The devices that a claim holds without admin access."""
        ...


class GpuMonitor(Protocol):
    """Polls the GPUs."""

    def request_poll(self, uuid: GpuUuid | None) -> None:
        """Requests a fresh reading of one GPU, or of all for None."""
        ...

    def avoid(self, uuid: GpuUuid) -> None:
        """Stops polling a GPU whose driver calls may hang; it is probed rarely instead."""
        ...


class KernelLog(Protocol):
    """The reader of the kernel log."""

    @property
    def position(self) -> KmsgPosition | None:
        """The last record whose signals are all in the queue; None before the first."""
        ...


class Policies(Protocol):
    """The policies in force."""

    @property
    def is_settled(self) -> bool:
        """Whether the policies are known, rather than assumed."""
        ...

    def effective(self, gpus: Collection[Gpu]) -> Mapping[GpuUuid, EffectivePolicy]:
        """The policy of each of these GPUs."""
        ...


class PublisherRole(Protocol):
    """The role of this instance: during a rolling update two agents run, and one of them publishes."""

    def publishing(self) -> bool:
        """Whether this instance publishes, and owns the state files."""
        ...


class PublishedVerdicts(Protocol):
    """The verdicts in the stored slices."""

    @property
    def verdicts(self) -> tuple[PublishedVerdict, ...] | None:
        """The verdicts; None until the slices were read."""
        ...


class DriverFilesWatch(Protocol):
    """Checks the driver's files that a preparation needs."""

    def latest(self, gpus: Sequence[Gpu]) -> FilesCheck | None:
        """The newest result for these GPUs; None if the files are not checked."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentPorts:
    """The parts that the agent uses.

    `queue` is the queue that the sources fill; `storage` gets the result of each save.
    """

    devices: HeldDevices
    monitor: GpuMonitor
    kernel_log: KernelLog
    events: EventSink
    policies: Policies
    role: PublisherRole
    storage: StorageReport
    published: PublishedVerdicts
    files: DriverFilesWatch
    queue: SignalQueue = field(default_factory=SignalQueue)
