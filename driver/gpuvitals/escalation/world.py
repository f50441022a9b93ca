"""The controller's view of the cluster at one moment: only targets, their holders, records and policies."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from gpuvitals.escalation.policy import DEFAULT_POLICY, EscalationPolicy
from gpuvitals.escalation.remediation import Remediation, Target
from gpuvitals.model.action import Step
from gpuvitals.model.health import Confidence
from gpuvitals.model.ids import BootId, ClaimUid, GpuUuid, NodeName, Reason

CUT_OFF = timedelta(seconds=60)
"""The time without contact to a source after which nothing disruptive is decided."""


class Capability(Enum):
    """Whether the platform resets a GPU. UNKNOWN permits no reset."""

    ABLE = "able"
    UNABLE = "unable"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetGroup:
    """GPUs that can be reset only together, with the reason of the capability."""

    members: tuple[GpuUuid, ...]
    capability: Capability
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The node report. `start` names the run of the agent; an empty `driver_load` means that no driver is loaded.

    `resets` is empty if the agent is too old to report its reset groups.
    """

    boot_id: BootId
    driver_load: str
    start: str
    resets: tuple[ResetGroup, ...] = ()

    def group_of(self, gpu: GpuUuid) -> ResetGroup | None:
        """The reset group of the GPU, None if the report has none."""
        return next((group for group in self.resets if gpu in group.members), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Our mark on a node: the remediation that cordoned it, with step and attempt."""

    remediation: str
    step: Step
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault of the node itself, such as an unresponsive driver."""

    reason: Reason
    since: datetime
    confidence: Confidence
    witnesses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node with GPUs. `owners` are remediation or maintenance objects of other programs on it.

    `gpus` is the number of its physical GPUs. `policy` is the name of the policy for its node steps. `report` is None
    if no report can be read. `faults` None means unknown, the empty tuple that the report shows none.
    """

    name: NodeName
    uid: str
    labels: Mapping[str, str] = field(default_factory=dict)
    ready: bool = True
    unschedulable: bool = False
    mark: Mark | None = None
    owners: tuple[str, ...] = ()
    driver_upgrade: bool = False
    opted_out: bool = False
    boot_id: BootId
    gpus: int
    policy: str = ""
    report: Report | None = None
    faults: tuple[Fault, ...] | None = ()
    drained: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceOut:
    """A physical GPU out of service. A fault of a MIG instance is listed under its parent GPU."""

    node: NodeName
    gpu: GpuUuid
    reason: Reason
    since: datetime
    confidence: Confidence
    witnesses: tuple[str, ...] = ()
    recovery_action: str = ""
    platform: str = ""
    mig_mode: bool = False
    policy: str = ""


class Return(Enum):
    """A published good verdict."""

    PROBATION = "probation"
    GOOD = "good"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim allocated to our devices; `gpus` are the physical GPUs. `prepared`: our entries are in its status."""

    uid: ClaimUid
    namespace: str
    name: str
    gpus: tuple[GpuUuid, ...]
    prepared: bool
    pods: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod that is not terminal. `not_ready_since`: PodReadyToStartContainers is not true since then; None if it ran.

    `owner` is the kind of the controller that makes a new pod, empty if nothing does. `disruption_budget` names the
    PodDisruptionBudget that refuses the eviction now. `workload` is the name of its class.
    """

    uid: str
    namespace: str
    name: str
    claims: tuple[ClaimUid, ...]
    owner: str = ""
    not_ready_since: datetime | None = None
    terminating: bool = False
    protected: bool = False
    opted_out: bool = False
    disruption_budget: str = ""
    workload: str = ""

    @property
    def shown(self) -> str:
        """Namespace and name, for messages."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A watch of the observer. `cut_since` is the time at which it lost the server, None while it is connected."""

    name: str
    synced: bool
    cut_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Leadership:
    """This process as leader. `known` are the remediations in its view when it last renewed the lease.

    `user` is the account of the controller, whose approvals are void.
    """

    epoch: int
    lease_ends: datetime
    known: frozenset[str]
    user: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything that a decision may read. Pods are listed per node: a node that is not a key was not listed.

    `returned` has the published good verdicts of targets with an open remediation. A target that is neither out nor
    returned is unknown.
    """

    nodes: Mapping[NodeName, Node]
    out: Mapping[NodeName, tuple[DeviceOut, ...]]
    remediations: Mapping[str, Remediation]
    leadership: Leadership
    returned: Mapping[Target, Return] = field(default_factory=dict)
    claims: Mapping[NodeName, tuple[Claim, ...]] = field(default_factory=dict)
    pods: Mapping[NodeName, tuple[Pod, ...]] = field(default_factory=dict)
    policies: Mapping[str, EscalationPolicy] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()

    def policy(self, name: str) -> EscalationPolicy:
        """The policy with that name, else the default one."""
        return self.policies.get(name, DEFAULT_POLICY)

    def device(self, target: Target) -> DeviceOut | None:
        """The device of the target if it is out of service."""
        return next((each for each in self.out.get(target.node, ()) if each.gpu == target.gpu), None)

    def node(self, target: Target) -> Node | None:
        """The node of the target, None if it is gone or was created again."""
        node = self.nodes.get(target.node)
        return node if node is not None and node.uid == target.node_uid else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """An own write that the watch has not shown yet. `disruptive_until` is the end of a disruptive intent in it."""

    remediation: str
    node: NodeName
    disruptive_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Own writes that are not yet seen, by remediation, and the last eviction tried of each pod, by UID.

    Losing it costs one conflict or one repeated refusal, never a second act.
    """

    pending: Mapping[str, Pending] = field(default_factory=dict)
    tried: Mapping[str, datetime] = field(default_factory=dict)
