"""A GPURemediation as the controller sees it, reduced to the fields that decisions need."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from gpuvitals.model.action import Ask, Block, Step
from gpuvitals.model.health import Confidence
from gpuvitals.model.ids import BootId, GpuUuid, NodeName, Reason


class Scope(Enum):
    """The extent of a fault. FABRIC is never the scope of a remediation: a person decides."""

    DEVICE = "Device"
    NODE = "Node"
    FABRIC = "Fabric"


class Stage(Enum):
    """The stage of a remediation, as `status.stage` shows it."""

    OPEN = "Open"
    WAITING = "Waiting"
    WAITING_FOR_NODE = "WaitingForNode"
    ACTING = "Acting"
    VERIFYING = "Verifying"
    PROBATION = "Probation"
    HELD = "Held"
    NEEDS_PERSON = "NeedsPerson"
    ENDED = "Ended"


class Result(Enum):
    """The result of an attempt. CANCELLED: undone before it could heal, by a mode or because the fault cleared."""

    DONE = "Done"
    HEALED = "Healed"
    NOT_HEALED = "NotHealed"
    REFUSED = "Refused"
    UNSUPPORTED = "Unsupported"
    TIMED_OUT = "TimedOut"
    CANCELLED = "Cancelled"


class ChangeKind(Enum):
    """A change that a step makes and that its rollback reverts."""

    FENCE = "Fence"
    CORDON = "Cordon"
    MONITOR_LABEL = "MonitorLabel"
    BACKEND_OBJECT = "BackendObject"
    NODE_CONDITION = "NodeCondition"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The physical GPU or the node of an incident. `gpu` is None exactly for a node."""

    node: NodeName
    node_uid: str
    gpu: GpuUuid | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """The fault that opened an incident, as published. `since` is the agent's stamp."""

    reason: Reason
    since: datetime
    confidence: Confidence
    witnesses: tuple[str, ...] = ()
    recovery_action: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A person's approval of one attempt of one step. It ends at `until`."""

    step: Step
    attempt: int
    by: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change noted before it is made. `was` is the former value, empty if there was none."""

    kind: ChangeKind
    object: str
    uid: str = ""
    was: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A settled attempt. `at` is the time of its intent, `ended` the time at which its result was recorded."""

    step: Step
    attempt: int
    at: datetime
    result: Result
    ended: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveStep:
    """The intent that is in progress. `pods` are the UIDs to evict.

    `before` is the fact that must change: the agent's start for RestartServices, the boot ID for DrainAndReboot.
    """

    step: Step
    attempt: int
    since: datetime
    until: datetime
    ask: Ask = Ask.NONE
    pods: tuple[str, ...] = ()
    before: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The receipt of the reset program, folded by the agent. `refusal` is empty unless the reset was not run."""

    boot_id: BootId
    exit_code: int
    refusal: str = ""
    unsupported: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """`status.node`, which only the agent writes. None means not reported.

    `proof_at` is the time of the proof of idleness, `users` the programs that hold the devices open. `healed` is the
    agent's verification after the reset. `token` is whether the reset program's token lies on the host.
    """

    attempt: int = 0
    fenced: tuple[GpuUuid, ...] = ()
    refusal: str = ""
    proof_at: datetime | None = None
    users: tuple[str, ...] = ()
    receipt: Receipt | None = None
    healed: bool | None = None
    checked: bool | None = None
    resets_24h: int = 0
    token: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """`status` of a remediation. `ended` is set together with stage Ended."""

    epoch: int
    stage: Stage = Stage.OPEN
    active: ActiveStep | None = None
    attempts: tuple[Attempt, ...] = ()
    changes: tuple[Change, ...] = ()
    blocks: tuple[Block, ...] = ()
    node: NodeStatus = NodeStatus()
    ended: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Remediation:
    """One GPURemediation. `platform` names product and platform, for facts about resets there.

    `status` is None for a new object; `unreadable` is the reason why a stored status can't be decoded.
    """

    name: str
    target: Target
    cause: Cause
    platform: str = ""
    approvals: tuple[Approval, ...] = ()
    hold: bool = False
    status: Status | None = None
    unreadable: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it is not ended. An unreadable status counts as open."""
        return self.status is None or self.status.stage is not Stage.ENDED

    @property
    def active(self) -> ActiveStep | None:
        """The step in progress."""
        return None if self.status is None else self.status.active

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The settled attempts, oldest first."""
        return () if self.status is None else self.status.attempts

    @property
    def changes(self) -> tuple[Change, ...]:
        """The changes that a rollback must revert."""
        return () if self.status is None else self.status.changes
