"""The parts that an agent uses, as plain objects that a test sets and reads."""

from collections.abc import Collection, Mapping, Sequence

from gpuvitals.health.policy import Policy
from gpuvitals.health.restored_faults import PublishedVerdict
from gpuvitals.inventory.policy_match import EffectivePolicy
from gpuvitals.model.files import FilesCheck
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.ids import GpuUuid
from gpuvitals.signals.kmsg.source import KmsgPosition


class HeldDevices:
    """The claims that hold each device; without admin access."""

    def __init__(self) -> None:
        self.by_device: dict[GpuUuid, tuple[str, ...]] = {}

    def holders(self, uuid: GpuUuid) -> tuple[str, ...]:
        return self.by_device.get(uuid, ())

    def claimed(self) -> Collection[GpuUuid]:
        return self.by_device


class GpuMonitor:
    """Keeps the requests of the agent."""

    def __init__(self) -> None:
        self.polled: list[GpuUuid | None] = []
        self.avoided: list[GpuUuid] = []

    def request_poll(self, uuid: GpuUuid | None) -> None:
        self.polled.append(uuid)

    def avoid(self, uuid: GpuUuid) -> None:
        self.avoided.append(uuid)


class KernelLog:
    """A position that the test sets."""

    def __init__(self, position: KmsgPosition | None = None) -> None:
        self.position = position


class Role:
    """Publishes unless the test changes it."""

    def __init__(self) -> None:
        self.is_publisher = True

    def publishing(self) -> bool:
        return self.is_publisher


class PublishedVerdicts:
    """The verdicts in the stored slices; none by default."""

    def __init__(self) -> None:
        self.verdicts: tuple[PublishedVerdict, ...] | None = ()


class DriverFilesWatch:
    """A result that the test sets; by default the files are not checked."""

    def __init__(self) -> None:
        self.seen: FilesCheck | None = None

    def latest(self, gpus: Sequence[Gpu]) -> FilesCheck | None:
        return self.seen


class DefaultPolicies:
    """The default policy for every GPU."""

    is_settled = True

    def effective(self, gpus: Collection[Gpu]) -> Mapping[GpuUuid, EffectivePolicy]:
        return {gpu.uuid: EffectivePolicy(health=Policy()) for gpu in gpus}
