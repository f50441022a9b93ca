"""What the fold remembers of one GPU: plain data, so that it can be written to disk and read back as it was."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from gpuvitals.health.expected_links import expected_links, lacking_values
from gpuvitals.health.fault_classes import CauseRule
from gpuvitals.model.clock import Moment
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.ids import GpuUuid, Reason
from gpuvitals.model.signal import Checkup, Reading, Source

MAX_EPISODES = 8
"""Episode starts kept a fault: enough for every window, bounded whatever the hardware does."""
MAX_XIDS = 32
"""XID records kept a GPU, newest first to stay."""
MAX_PAST = 32
"""Kinds of ended faults kept a GPU, newest last."""
MAX_MEETINGS = 4
"""Claims kept an XID: two decide, the rest is for people."""


class Standing(Enum):
    """How much an open fault is worth, until a reading of the GPU confirms or disproves it.

    BEFORE_START: an XID from before this GPU was first met. The first good reading decides: dropped or CURRENT.
    BEFORE_BOOT: from an earlier boot or driver load. It stands until a clean reading ends it.
    """

    CURRENT = "current"
    BEFORE_START = "before-start"
    BEFORE_BOOT = "before-boot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One open fault; at most one a reason. Times are boot-clock seconds.

    `episodes` are the starts of its episodes, newest last. Of class B, `reports` are the starts of the newest reports of an
    event, where lines close together are one, or of the times that a level was bad again after it read good. `run_since`
    is the start of the run of an event's reports that has not been interrupted for as long as the dwell. `good_since` is
    set while a level reads good again. `sources` are the witnesses that reported it.
    """

    rule: CauseRule
    standing: Standing
    first_at: float
    last_at: float
    last_time: datetime
    episodes: tuple[float, ...]
    good_since: float | None
    sources: frozenset[Source]
    detail: str
    reports: tuple[float, ...] = ()
    run_since: float | None = None


class Ending(Enum):
    """What ended a fault. QUIET: hours without a relapse. BOOT: a new boot or driver load with clean readings."""

    RESET = "reset"
    BOOT = "boot"
    OPERATOR = "operator"
    LEVEL = "read-good"
    EXPIRY = "expiry"
    QUIET = "quiet"


@dataclass(frozen=True, slots=True, kw_only=True)
class PastFault:
    """Faults that are over: those of one reason that ended one way, `times` of them, counted as one entry.

    The first of them began at `first_at`, the newest ended at `ended_at`. `isolated`: they had taken the GPU out of
    service. `note` is the operator's reason, where an operator ended the newest.
    """

    reason: Reason
    ending: Ending
    isolated: bool
    times: int
    first_at: float
    ended_at: float
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """When an XID last met a claim, that is, hit the GPU while that claim alone held it."""

    claim: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class XidRecord:
    """The newest episode of one XID code on one unit, which began at `episode_at` and was last heard of at `last_at`.

    `rule` is the worst that the code was judged since it was last resolved. `counted_at` is when it was last heard of and
    counted: None for what is recorded only, and for an application's XID until a second claim meets it. `meetings` has
    each claim once, oldest first: class C counts them. `caused_by` is the XID that the driver named as the cause of this
    episode.
    """

    code: int
    unit: str
    rule: CauseRule
    episode_at: float
    last_at: float
    last_time: datetime
    meetings: tuple[Meeting, ...]
    resolved: bool
    caused_by: int | None = None
    counted_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Worst:
    """The worst that was read of a value lately; higher is worse, and 0 is good: what flaps is not good half of the time.

    It has been bad since `since`, was last read as bad as that at `at`, and has been read better since `better_since`.
    """

    value: int
    since: float
    at: float
    better_since: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuState:
    """Everything the fold knows. `second` is what DCGM last read, while it is fresh. `heat_step` is 0, 1 or 2: the smoothed thermal margin, with hysteresis.

    `expected_links` is how many NVLinks the GPU should have active, None where nobody knows yet. `lacks` are the values of
    a Reading that its model does not have.

    `identified_at` is the earliest instant of this driver load at which the driver is known to have logged the GPU's
    identity, and `action_logged_at` that of its newest XID 154. `initialised_at` is the latest instant before which everything happened to a GPU that was not yet
    initialised anew, and `resolved_until` the latest before which everything is known to be repaired: what arrives late is history. Of what
    the log held from before `started_at`, a reading has settled everything up to `settled_early`.
    `suspect_since` is when the present unbroken run of class B levels began, whatever their names, and `suspect_runs`
    are the starts of such runs. `remapped_at` is when the count of remapped rows last grew. `links_down` and
    `memory_percent` are what the score takes of the links and of the memory, None where that was not read, and
    `ecc_uncorrected` is the volatile count, 0 where it was never read. `repairs` are the instants
    at which the GPU came back into service, one an incident, since an operator last declared it repaired, and `past` is
    its history. `last_clear` is the newest clear of an operator that was applied, with its time as it was written.
    """

    uuid: GpuUuid
    started_at: float
    expected_links: int | None
    unsupported_values: frozenset[str] = frozenset()
    faults: tuple[Fault, ...] = ()
    xids: tuple[XidRecord, ...] = ()
    reading: Reading | None = None
    dcgm_reading: Reading | None = None
    checkup: Checkup | None = None
    pcie_fatal_errors: int | None = None
    last_ok_at: float | None = None
    identified_at: float | None = None
    action_logged_at: float | None = None
    initialised_at: float | None = None
    resolved_until: float | None = None
    settled_early: float | None = None
    suspect_since: float | None = None
    suspect_runs: tuple[float, ...] = ()
    remapped_rows: int | None = None
    remapped_at: float | None = None
    links_down: Worst | None = None
    memory_percent: Worst | None = None
    ecc_uncorrected: Worst | None = None
    margin_millicelsius: int | None = None
    heat_step: int = 0
    probation_until: float | None = None
    repaired_at: float | None = None
    relapses: int = 0
    repairs: tuple[float, ...] = ()
    past: tuple[PastFault, ...] = ()
    last_clear: str = ""

    def fault(self, reason: Reason) -> Fault | None:
        """The open fault of that reason."""
        return next((fault for fault in self.faults if fault.rule.reason == reason), None)


def unit_of(gpu_instance: int | None) -> str:
    """The unit that an XID record names: the GPU instance, or the empty string for the GPU as a whole."""
    return "" if gpu_instance is None else f"GI{gpu_instance}"


def initial_state(gpu: Gpu, seen: Moment) -> GpuState:
    """The state of a GPU that was met for the first time at `seen`: nothing is known, so it is Unknown."""
    return with_expected_values(GpuState(uuid=gpu.uuid, started_at=seen.at, expected_links=None), gpu)


def with_expected_values(state: GpuState, gpu: Gpu) -> GpuState:
    """`state` with what is to be expected of `gpu`, as it was identified now."""
    links, unsupported = (
        expected_links(gpu.product_name, gpu.expected_links),
        lacking_values(gpu.architecture),
    )
    if links is None:
        links = state.expected_links
    if (links, unsupported) == (state.expected_links, state.unsupported_values):
        return state
    return replace(state, expected_links=links, unsupported_values=unsupported)


def with_identity_logged(state: GpuState, at: float) -> GpuState:
    """`state` with the GPU's identity logged by `at`: the driver logs it before the first XID, the next time after a reset."""
    known = state.identified_at
    return state if known is not None and known <= at else replace(state, identified_at=at)


def initial_instance_state(gpu: GpuState, instance: Gpu) -> GpuState:
    """The state of a MIG instance that is met for the first time: a fault of its GPU is its own from the start.

    Faults of other instances, which were held against the GPU because nobody knew them, are not. One of this very
    instance is: it was heard before the instance was seen.
    """
    mine = ("", unit_of(instance.mig.gpu_instance if instance.mig is not None else None))
    kept = tuple(record for record in gpu.xids if record.unit in mine)
    others = {record.rule.reason for record in gpu.xids if record.unit not in mine}
    foreign = others - {record.rule.reason for record in kept}
    return replace(
        gpu,
        uuid=instance.uuid,
        faults=tuple(fault for fault in gpu.faults if fault.rule.reason not in foreign),
        xids=kept,
        past=(),
    )
