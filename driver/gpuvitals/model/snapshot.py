"""The immutable view of the node for writers and gRPC handlers."""

from dataclasses import dataclass
from datetime import datetime

from gpuvitals.model.clock import Moment
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.health import Verdict
from gpuvitals.model.ids import BootId, GpuUuid, NodeName, Reason
from gpuvitals.model.signal import MonitorState, Source

NO_BOOT = BootId("")
"""The ID of an unknown boot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuHealth:
    """One GPU with its verdict. `isolated`: it must not be allocated, and is tainted or withdrawn.

    `spared` names the policy that keeps the GPU in service against its verdict, else it is empty. `state_since` is the
    time of the last change of the verdict's state, the transition time of the claim's condition. `withheld` is why the
    GPU is not offered whatever its health: a claim holds the same silicon in another form. `slot_taken` is the time at
    which it replaced another GPU in its slot, None without a known predecessor. `unprepared` is the verdict that is
    published while no claim for the device can be prepared; claims and the kubelet get `verdict`.
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
        """The published verdict."""
        return self.verdict if self.unprepared is None else self.unprepared


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """Facts of the node rather than of one GPU. `reasons` are node-scope entries of the closed list.

    `reports` are the external reports in force, one line each. `retired` are GPUs whose slot holds another GPU: their
    health is kept until they return or an operator has them forgotten.
    """

    monitors: tuple[tuple[Source, MonitorState], ...] = ()
    reasons: tuple[Reason, ...] = ()
    expected_gpus: int = 0
    missing_gpus: tuple[str, ...] = ()
    reports: tuple[str, ...] = ()
    retired: tuple[GpuUuid, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The node after a change. `revision` grows by one per change; `gpus` are in PCI order, at most one per slot.

    `replaced` are devices that a claim holds and whose slot holds another GPU: their claims get their health, and they
    are not published. `boot_id` is the boot of the verdicts, empty if unknown.
    """

    revision: int
    taken: Moment
    node: NodeName
    gpus: tuple[GpuHealth, ...]
    facts: NodeFacts
    replaced: tuple[GpuHealth, ...] = ()
    boot_id: BootId = NO_BOOT

    def find(self, uuid: GpuUuid) -> GpuHealth | None:
        """The GPU with that UUID, None if the node has no such GPU."""
        return next((entry for entry in self.gpus if entry.gpu.uuid == uuid), None)

    def find_held(self, uuid: GpuUuid) -> GpuHealth | None:
        """The GPU with that UUID, also if it was replaced while a claim holds it."""
        return self.find(uuid) or next((entry for entry in self.replaced if entry.gpu.uuid == uuid), None)
