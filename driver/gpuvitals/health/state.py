"""The fold's state of one GPU, as plain data. The agent saves it to disk: field names and enum values are stored."""

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
"""Episode starts kept per fault: enough for every window of the policy."""
MAX_XIDS = 32
"""XID records kept per GPU; the oldest are dropped first."""
MAX_PAST = 32
"""Entries of ended faults kept per GPU, newest last."""
MAX_MEETINGS = 4
"""Claims kept per XID: two are enough for class C, further ones are for display."""


class Standing(Enum):
    """Whether an open fault still needs confirmation by a reading.

    CURRENT: confirmed, or observed by this agent. BEFORE_START: an XID logged before the agent first saw the GPU; the
    first good reading makes it CURRENT or drops it. BEFORE_BOOT: from an earlier boot or driver load; a clean reading
    ends it.
    """

    CURRENT = "current"
    BEFORE_START = "before-start"
    BEFORE_BOOT = "before-boot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One open fault; at most one per reason. Times are boot-clock seconds.

    `episodes` are the starts of its episodes, newest last. `reports` are only used for class B: the starts of an event's
    newest reports, lines close together being one report, or the times at which a level became bad again after a good
    reading. `run_since` is the start of a run of reports without a gap as long as the dwell. `good_since` is set while a
    level reads good again. `sources` are the sources that reported the fault.
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
    """The event that ended a fault. BOOT: a new boot or driver load with clean readings. LEVEL: good readings.

    EXPIRY: a day without the event. QUIET: hours without a relapse.
    """

    RESET = "reset"
    BOOT = "boot"
    OPERATOR = "operator"
    LEVEL = "read-good"
    EXPIRY = "expiry"
    QUIET = "quiet"


@dataclass(frozen=True, slots=True, kw_only=True)
class PastFault:
    """Ended faults with the same reason, ending and `isolated`, summed up in one entry; `times` is their number.

    The first of them began at `first_at`, the newest ended at `ended_at`. `isolated`: they had taken the GPU out of
    service. `note` is the operator's reason if an operator ended the newest.
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
    """The last time that an XID occurred while this claim alone held the GPU."""

    claim: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class XidRecord:
    """The newest episode of one XID code on one unit, from `episode_at` to its last report at `last_at`.

    `rule` is the worst rule since the code was last resolved. `counted_at` is the time of the last report that counts:
    None for XIDs that are only recorded, and for an application's XID until it hits a second claim. `meetings` has each
    claim once, oldest first; class C counts them. `caused_by` is the XID that the driver named as the cause of this
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
    """The worst recent value of a reading; higher is worse, 0 is good. A flapping value therefore stays bad.

    The value has been bad since `since`, was last this bad at `at`, and has been better since `better_since`.
    """

    value: int
    since: float
    at: float
    better_since: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuState:
    """The whole state of one GPU in the fold. Times are boot-clock seconds.

    Readings: `reading` is the last good reading of NVML, `dcgm_reading` the last one of the DCGM exporter while it is
    fresh. `expected_links` is the number of NVLinks that should be active, None while unknown. `unsupported_values` are
    the fields of a Reading that the GPU's model does not have. `remapped_at` is the last increase of the remapped rows.
    `links_down` and `memory_percent` are inputs of the score, None if never read. `ecc_uncorrected` is the volatile count.
    `heat_step` is 0, 1 or 2: the smoothed thermal margin, with hysteresis.

    Instants: `identified_at` is the earliest known log line with the GPU's identity in this driver load,
    `action_logged_at` the newest XID 154. The GPU was last initialised after `initialised_at`. Everything before
    `resolved_until` is repaired, so a signal from before it is ignored. Readings have settled the log lines from before
    `started_at` up to `settled_early`.

    Suspicion and repair: `suspect_since` is the start of the present uninterrupted run of class B levels, of any reason,
    and `suspect_runs` are the starts of earlier runs. `repairs` are the returns to service, one per incident, since an
    operator last cleared the GPU. `past` is the history of ended faults. `last_clear` is the newest applied clear.
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
        """The open fault with that reason."""
        return next((fault for fault in self.faults if fault.rule.reason == reason), None)


def unit_of(gpu_instance: int | None) -> str:
    """The unit that an XID record names: the GPU instance, or the empty string for the GPU as a whole."""
    return "" if gpu_instance is None else f"GI{gpu_instance}"


def initial_state(gpu: Gpu, seen: Moment) -> GpuState:
    """The state of a GPU first seen at `seen`. Without a reading its verdict is Unknown."""
    return with_expected_values(GpuState(uuid=gpu.uuid, started_at=seen.at, expected_links=None), gpu)


def with_expected_values(state: GpuState, gpu: Gpu) -> GpuState:
    """`state` with the expected NVLinks and the unsupported values of `gpu`."""
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
    """`state` with the GPU's identity logged by `at`. The driver logs it before the first XID, and again after a reset."""
    known = state.identified_at
    return state if known is not None and known <= at else replace(state, identified_at=at)


def initial_instance_state(gpu: GpuState, instance: Gpu) -> GpuState:
    """The first state of a MIG instance: it inherits the faults of its GPU.

    Faults of other instances, attributed to the GPU while those were unknown, are left out. A fault of this instance that
    was logged before the instance was first listed is kept.
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
