"""Builders of signals for the health tests: one GPU, seconds since boot, everything else in order."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from gpuvitals.health.evaluate import advance, evaluate
from gpuvitals.health.policy import Policy
from gpuvitals.health.state import GpuState, initial_state
from gpuvitals.health.verdict import verdict
from gpuvitals.model.clock import Moment
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.health import Verdict
from gpuvitals.model.ids import GpuUuid, PciBusId
from gpuvitals.model.signal import (
    Checkup,
    FabricState,
    GpuSignal,
    IdentityReport,
    LinkState,
    Reading,
    ReadStatus,
    RecoveryActionReport,
    Source,
    XidReport,
)

UUID = GpuUuid("GPU-00000000-0000-0000-0000-000000000000")
BUS = PciBusId("0000:3b:00.0")
GPU = Gpu(
    uuid=UUID, bus_id=BUS, product_name="NVIDIA H100 80GB HBM3", memory_bytes=80 << 30, expected_links=18
)
START = 1000.0
POLICY = Policy()


def moment(at: float) -> Moment:
    """Seconds since boot, with a wall clock that runs along."""
    return Moment(at=at, time=datetime(2026, 11, 24, tzinfo=UTC) + timedelta(seconds=at))


def xid(code: int, at: float, *, source: Source = Source.KMSG, claim: str | None = None) -> XidReport:
    """An XID of the one GPU."""
    return XidReport(source=source, seen=moment(at), bus_id=BUS, code=code, claim=claim)


def identity(at: float) -> IdentityReport:
    """The driver logs the GPU's identity."""
    return IdentityReport(source=Source.KMSG, seen=moment(at), bus_id=BUS, uuid=UUID)


def asks(action: int, at: float, *, before: int = 0) -> RecoveryActionReport:
    """XID 154: the driver's recovery action changes to `action`."""
    return RecoveryActionReport(
        source=Source.KMSG, seen=moment(at), bus_id=BUS, action_from=before, action_to=action
    )


def links(active: int) -> tuple[LinkState, ...]:
    """18 NVLinks of which `active` work."""
    return (LinkState.ACTIVE,) * active + (LinkState.INACTIVE,) * (18 - active)


GOOD = Reading(
    source=Source.NVML_POLL,
    seen=moment(START),
    uuid=UUID,
    status=ReadStatus.OK,
    recovery_action=0,
    ecc_uncorrected_volatile=0,
    ecc_uncorrected_aggregate=0,
    ecc_corrected_volatile=0,
    sram_threshold_exceeded=False,
    remap_pending=False,
    remap_failed=False,
    remapped_uncorrectable=0,
    banks_without_spare=0,
    links=(LinkState.ACTIVE,) * 18,
    fabric=FabricState.COMPLETED,
    thermal_margin_celsius=30,
    hardware_slowdown=False,
)


_CHECKED = Checkup(
    source=Source.NVML_POLL,
    seen=moment(0),
    uuid=UUID,
    link_replays=0,
    link_recoveries=0,
    link_recoveries_failed=0,
    link_crc_errors=0,
    link_errors_per_petabit=0,
    pcie_replays=0,
    pcie_fatal_errors=0,
    pcie_lanes=16,
    pcie_lanes_max=16,
    pcie_generation=5,
    pcie_generation_max=5,
    idle=False,
    retired_pages=0,
    page_retirement_pending=False,
    repair_pending=False,
    memory_unrepairable=False,
    power_milliwatts=300_000,
    processes=1,
)


def good(at: float, **changes: object) -> Reading:
    """A poll in which everything reads good, but for `changes`."""
    return replace(GOOD, seen=moment(at), **changes)  # type: ignore[arg-type]  # names checked by replace()


def checkup(at: float, **changes: object) -> Checkup:
    """A checkup that finds nothing, but for `changes`."""
    return replace(_CHECKED, seen=moment(at), **changes)  # type: ignore[arg-type]


def broken(at: float, status: ReadStatus) -> Reading:
    """A poll that gave no values."""
    return Reading(source=Source.NVML_POLL, seen=moment(at), uuid=UUID, status=status)


def fresh() -> GpuState:
    """A GPU that was just met."""
    return initial_state(GPU, moment(START))


def fold(*signals: GpuSignal, state: GpuState | None = None, policy: Policy = POLICY) -> GpuState:
    """The state after the signals, each at its own time."""
    folded = fresh() if state is None else state
    for signal in signals:
        folded = evaluate(advance(folded, signal.seen.at, policy), signal, policy)
    return folded


def judge(state: GpuState, at: float, policy: Policy = POLICY) -> Verdict:
    """The verdict at `at`, after time has passed until then."""
    return verdict(advance(state, at, policy), moment(at), policy)
