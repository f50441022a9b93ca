"""The vocabulary of escalation: steps, asks, acts, and the gates that block a step."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from gpuvitals.model.ids import GpuUuid, NodeName


class Step(Enum):
    """A decided step against one incident. The values are the names in a policy, an approval and a record.

    EVICT_REFUSED moves pods that never ran, so it disrupts nobody. EVICT_HOLDERS moves pods that run.
    """

    EVICT_REFUSED = "EvictRefused"
    EVICT_HOLDERS = "EvictHolders"
    RESTART_SERVICES = "RestartServices"
    RESET_GPU = "ResetGPU"
    CORDON_NODE = "CordonNode"
    DRAIN_AND_REBOOT = "DrainAndReboot"
    REPLACE_NODE = "ReplaceNode"


class Ask(Enum):
    """The request of the controller to the agent of a node during a reset."""

    NONE = "None"
    FENCE = "Fence"
    QUIESCE = "Quiesce"
    RESET = "Reset"
    RELEASE = "Release"


class Gate(Enum):
    """The reason against a step. The values are shown in `status.blockedBy`."""

    MODE = "Mode"
    APPROVAL = "Approval"
    CONFIDENCE = "Confidence"
    PAUSE = "Pause"
    HOLD = "Hold"
    OPT_OUT = "OptOut"
    WINDOW = "MaintenanceWindow"
    COOL_DOWN = "CoolDown"
    ATTEMPTS = "Attempts"
    FOREIGN_OWNER = "ForeignOwner"
    DRIVER_UPGRADE = "DriverUpgrade"
    CAPABILITY = "Capability"
    UNPROVED_CAPABILITY = "UnprovedCapability"
    AGENT_TOO_OLD = "AgentTooOld"
    UNOWNED_POD = "UnownedPod"
    PROTECTED_POD = "ProtectedPod"
    SHARED_CLAIM = "SharedClaim"
    DISRUPTION_BUDGET = "PodDisruptionBudget"
    WORKLOAD_WAIT = "WorkloadWait"
    GROUP_BUSY = "GroupBusy"
    SIBLINGS_BUSY = "SiblingsBusy"
    NODE_BUSY = "NodeBusy"
    STORM = "Storm"
    BUDGET = "Budget"
    NOT_BUILT = "NotBuilt"
    NOT_SEEN = "NotSeen"
    SOURCES = "Sources"
    POLICY_AGE = "PolicyAge"
    LEASE = "Lease"
    UNREADABLE = "UnreadableStatus"
    UNKNOWN_OUTCOME = "UnknownOutcome"
    PERSON = "NeedsPerson"


class Lifter(Enum):
    """The person able to lift a gate. NOBODY: only time lifts it."""

    NOBODY = "nobody"
    APPROVER = "an approver"
    ADMINISTRATOR = "an administrator of the policy"
    NODE_OPERATOR = "an operator of the node"
    POD_OWNER = "the owner of the pod"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One gate against a step, with the time or the person that can lift it.

    Raises ValueError if it names neither.
    """

    gate: Gate
    message: str
    until: datetime | None = None
    lifter: Lifter = Lifter.NOBODY

    def __post_init__(self) -> None:
        if self.until is None and self.lifter is Lifter.NOBODY:
            raise ValueError(f"gate {self.gate.value}: names neither a time nor a person")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evict:
    """Evicts the pod with exactly this UID through the Eviction API. The grace period is above 0."""

    namespace: str
    pod: str
    uid: str
    grace_seconds: int

    def __post_init__(self) -> None:
        if self.grace_seconds < 1 or not self.uid:
            raise ValueError(f"eviction of {self.namespace}/{self.pod}: needs a UID and a grace above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class AskNode:
    """Writes an ask for the agent of a node into the remediation."""

    node: NodeName
    ask: Ask
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReset:
    """Starts the reset Job of a fenced and idle group, and writes ask `Reset`. The proof is in the same object."""

    node: NodeName
    group: tuple[GpuUuid, ...]
    attempt: int
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPod:
    """Restarts one service of the node: the agent (empty `daemon_set`) or a pod of a listed DaemonSet."""

    node: NodeName
    daemon_set: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cordon:
    """Sets `unschedulable` and the mark of the remediation in one patch."""

    node: NodeName
    node_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Asks a backend to reboot or replace a node. `power_cycle`: a warm reboot does not cure the fault."""

    node: NodeName
    node_uid: str
    step: Step
    backend: str
    power_cycle: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCheck:
    """Starts the active check of the policy on a GPU that was reset, before the maintenance taint is lifted."""

    node: NodeName
    gpu: GpuUuid
    until: datetime


Act = Evict | AskNode | RunReset | RestartPod | Cordon | Request | RunCheck
