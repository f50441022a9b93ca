"""The immutable view of the node that writers and gRPC handlers read."""

from dataclasses import dataclass
from datetime import datetime

from gpuvitals.model.clock import Moment
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.health import Verdict
from gpuvitals.model.ids import BootId, GpuUuid, NodeName, Reason
from gpuvitals.model.signal import MonitorState, Source

NO_BOOT = BootId("")
"""The boot is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuHealth:
    """One GPU with its verdict. `isolated`: it must not be allocated, by taint or by withdrawal.

    `spared` is why it is in service although its verdict takes it out: the policy that says so, else empty.
    `state_since` is when the verdict's state last changed: the transition time of the claim's condition.
    `withheld` is why it is not offered whatever its health: a claim holds the same silicon in another form. `slot_taken`
    is when it took its slot from another GPU, None where no other was known there. `unprepared` is the verdict that the
    device is published with while no claim for it can be prepared; claims and the kubelet get the GPU's own.
    """

    gpu: Gpu
    verdict: Verdict
    isolated: bool
    state_since: datetime
    spared: str = ""
    withheld: str = ""
    slot_taken: datetime | None = None
    unprepared: Verdict | None = None

    @property
    def shown(self) -> Verdict:
        """The verdict that the published device carries."""
        return self.verdict if self.unprepared is None else self.unprepared


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What is true of the node rather than of one GPU. `reasons` are node-scope entries of the closed list.

    `statements` are what people and programs say of its GPUs now, each in one line. `retired` are GPUs whose slot is
    another's by now: the agent remembers their health until they are back or a person has them forgotten.
    """

    monitors: tuple[tuple[Source, MonitorState], ...] = ()
    reasons: tuple[Reason, ...] = ()
    expected_gpus: int = 0
    missing_gpus: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()
    retired: tuple[GpuUuid, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The node after a change. `revision` grows by one a change; `gpus` are in PCI order, at most one a slot.

    `replaced` are devices that a claim holds and whose slot is another GPU's by now: they are reported to their claims and
    published nowhere.
    `boot_id` is the boot that the verdicts are of, empty where it is not known.
    """

    revision: int
    taken: Moment
    node: NodeName
    gpus: tuple[GpuHealth, ...]
    facts: NodeFacts
    replaced: tuple[GpuHealth, ...] = ()
    boot_id: BootId = NO_BOOT

    def find(self, uuid: GpuUuid) -> GpuHealth | None:
        """The GPU of that UUID, None where this node has none."""
        return next((entry for entry in self.gpus if entry.gpu.uuid == uuid), None)

    def find_held(self, uuid: GpuUuid) -> GpuHealth | None:
        """The GPU of that UUID, also where it was replaced while a claim holds it."""
        return self.find(uuid) or next((entry for entry in self.replaced if entry.gpu.uuid == uuid), None)
