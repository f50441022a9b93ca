"""The escalation part of a GPUHealthPolicy, with its defaults."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from gpuvitals.inventory.policy_match import Mode
from gpuvitals.model.action import Step

MAX_ATTEMPTS = 3
"""The most attempts that a policy may allow for one step."""
_APPROVED = frozenset({Step.RESET_GPU, Step.DRAIN_AND_REBOOT, Step.REPLACE_NODE})
_TIMEOUTS = {
    Step.EVICT_REFUSED: timedelta(minutes=5),
    Step.EVICT_HOLDERS: timedelta(minutes=30),
    Step.RESTART_SERVICES: timedelta(minutes=5),
    Step.RESET_GPU: timedelta(minutes=30),
    Step.CORDON_NODE: timedelta(minutes=1),
    Step.DRAIN_AND_REBOOT: timedelta(hours=2),
    Step.REPLACE_NODE: timedelta(hours=24),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPolicy:
    """The limits of one step. `per_target` narrows the cool-down from the node to the target.

    Raises ValueError if a value is out of its range.
    """

    step: Step
    timeout: timedelta
    attempts: int = 2
    cool_down: timedelta = timedelta(minutes=30)
    approval: bool = False
    per_target: bool = False
    backend: str = ""

    def __post_init__(self) -> None:
        name = self.step.value
        if not timedelta(seconds=30) <= self.timeout <= timedelta(hours=24):
            raise ValueError(f"step {name}: timeout {self.timeout} is not in 30 s..24 h")
        if not 1 <= self.attempts <= MAX_ATTEMPTS:
            raise ValueError(f"step {name}: attempts {self.attempts} is not in 1..{MAX_ATTEMPTS}")
        if not timedelta(minutes=5) <= self.cool_down <= timedelta(hours=24):
            raise ValueError(f"step {name}: coolDown {self.cool_down} is not in 5 m..24 h")


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """A budget per value of a node label: at most `percent` of its nodes, and at most `maximum`."""

    label: str
    percent: int = 10
    maximum: int = 5

    def __post_init__(self) -> None:
        if not 1 <= self.percent <= 50 or self.maximum < 1:
            raise ValueError(f"domain {self.label}: percent is not in 1..50, or max is below 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """The breaker: the share of GPUs newly out of service within the window, and the least number of them."""

    percent: int = 10
    minimum: int = 3
    window: timedelta = timedelta(minutes=5)


class Preference(Enum):
    """The choice for a class of workloads: MOVE evicts at once, DEVICE waits and prefers the cure of the device."""

    MOVE = "Move"
    DEVICE = "Device"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A class of workloads. `wait` is the time from the fault to the first eviction of a pod that runs."""

    name: str
    grace_seconds: int = 30
    wait: timedelta = timedelta(0)
    prefer: Preference = Preference.DEVICE
    approval: bool = True
    unowned: bool = False


TRAINING = Workload(name="training", grace_seconds=300, wait=timedelta(minutes=10))
INFERENCE = Workload(name="inference", grace_seconds=60, prefer=Preference.MOVE, approval=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A weekly maintenance window in UTC. Days are 0 (Monday) to 6; the window may end on the following day."""

    days: frozenset[int]
    start: timedelta
    length: timedelta


DOMAINS = (
    Domain(label="topology.kubernetes.io/rack"),
    Domain(label="topology.kubernetes.io/zone"),
    Domain(label="nvidia.com/gpu.clique"),
)
"""The default budgets: rack, zone, and NVSwitch clique."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationPolicy:
    """The policy of a target. `unread_since`: the stored policy is unreadable, and this is the last good one.

    `failed_devices` of a node, or a fault older than `node_deadline`, let node steps start beside busy siblings.
    """

    name: str = ""
    mode: Mode = Mode.ISOLATE
    paused: bool = False
    steps: tuple[StepPolicy, ...] = ()
    domains: tuple[Domain, ...] = DOMAINS
    stop: Stop = Stop()
    workloads: tuple[Workload, ...] = (TRAINING, INFERENCE)
    windows: tuple[Window, ...] = ()
    restart: tuple[str, ...] = ()
    failed_devices: int | None = None
    node_deadline: timedelta | None = None
    validation: bool = False
    unread_since: datetime | None = None

    def step(self, step: Step) -> StepPolicy:
        """The limits of the step: the policy's own, else the defaults."""
        for each in self.steps:
            if each.step is step:
                return each
        return StepPolicy(step=step, timeout=_TIMEOUTS[step], approval=step in _APPROVED)

    def workload(self, name: str) -> Workload:
        """The class with that name, else the most careful one: it waits and needs an approval."""
        return next((each for each in self.workloads if each.name == name), TRAINING)


DEFAULT_POLICY = EscalationPolicy()
"""The policy of a target that no GPUHealthPolicy matches: mode Isolate."""
