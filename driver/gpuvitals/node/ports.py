"""What the agent asks of others; `wiring` hands the implementations in."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from gpuvitals.health.restored_faults import PublishedVerdict
from gpuvitals.inventory.event import EventSink
from gpuvitals.inventory.policy_match import EffectivePolicy
from gpuvitals.model.files import FilesSeen
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.ids import GpuUuid
from gpuvitals.node.storage import StorageReport


def _nobody_looks(_: Sequence[Gpu]) -> FilesSeen | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentPorts:
    """What the agent asks of others. None of them may block.

    `holders` gives the UIDs of the claims that hold a GPU, and `claimed` the devices that a claim holds without admin
    access; `repoll` asks for a fresh reading of one GPU, or of all
    for None; `avoid` has a GPU left alone whose driver calls may hang; `kmsg_sequence` is how far the log was read,
    counting only records whose signals are on the queue already; `events` queues Kubernetes events;
    `rules` gives what governs each GPU, and `is_settled` whether that is more than a guess;
    `files` is the newest look at the driver's files, given the devices there are, None where nobody looks;
    `is_publishing`: of two agents that overlap in a rolling update, this is the one that acts in public;
    `storage` takes how each save ended; `recalled` gives the verdicts in the stored slices, None while they are not read.
    """

    holders: Callable[[GpuUuid], tuple[str, ...]]
    claimed: Callable[[], Collection[GpuUuid]]
    repoll: Callable[[GpuUuid | None], None]
    avoid: Callable[[GpuUuid], None]
    kmsg_sequence: Callable[[], int | None]
    events: EventSink
    rules: Callable[[Collection[Gpu]], Mapping[GpuUuid, EffectivePolicy]]
    is_settled: Callable[[], bool]
    is_publishing: Callable[[], bool]
    storage: StorageReport
    recalled: Callable[[], tuple[PublishedVerdict, ...] | None] = field(default=lambda: ())
    files: Callable[[Sequence[Gpu]], FilesSeen | None] = _nobody_looks
