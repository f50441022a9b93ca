"""(state, reading) -> verdict: levels, blindness, loss."""

from dataclasses import replace

import pytest

from gpuvitals.model.health import HealthClass, HealthState, NvlinkStatus, Phase, RowRemap
from gpuvitals.model.signal import (
    ConfigSpace,
    FabricState,
    PresenceReport,
    ReadStatus,
    Source,
)
from support.signals import BUS, UUID, broken, fold, fresh, good, judge, links, moment


def test_no_evidence_is_unknown() -> None:
    verdict = judge(fold(), 1000)

    assert (verdict.state, verdict.score, verdict.health_class) == (
        HealthState.UNKNOWN,
        0,
        HealthClass.UNKNOWN,
    )
    assert verdict.coverage == 0


def test_a_good_reading_is_healthy_with_full_coverage() -> None:
    verdict = judge(fold(good(1000)), 1000)

    assert (verdict.state, verdict.score, verdict.coverage) == (HealthState.HEALTHY, 100, 100)
    assert (verdict.nvlink_status, verdict.row_remap, verdict.recovery_action) == (
        NvlinkStatus.ACTIVE,
        RowRemap.NONE,
        "None",
    )


def test_a_minute_without_a_reading_is_unknown_and_a_reading_ends_it() -> None:
    state = fold(good(1000))

    assert judge(state, 1059).state is HealthState.HEALTHY
    assert judge(state, 1060).state is HealthState.UNKNOWN
    assert judge(fold(good(1061), state=state), 1061).state is HealthState.HEALTHY


def test_a_failed_gpu_stays_failed_while_nobody_sees_it() -> None:
    state = fold(good(1000), broken(1001, ReadStatus.LOST))

    assert judge(state, 5000).state is HealthState.UNHEALTHY


@pytest.mark.parametrize(
    ("action", "state", "published"),
    [
        (1, HealthState.UNHEALTHY, "ResetGpu"),
        (2, HealthState.UNHEALTHY, "RebootNode"),
        (3, HealthState.DEGRADED, "DrainP2P"),
        (4, HealthState.UNHEALTHY, "DrainAndReset"),
        (5, HealthState.DEGRADED, "RecoverImexDomain"),
        (6, HealthState.UNHEALTHY, "BusReset"),
        (7, HealthState.UNHEALTHY, "SystemReboot"),
        (99, HealthState.DEGRADED, "Unknown"),
    ],
)
def test_the_drivers_recovery_action_decides(action: int, state: HealthState, published: str) -> None:
    folded = fold(good(1000), good(1001, recovery_action=action), good(1030, recovery_action=action))
    verdict = judge(folded, 1030)

    assert (verdict.state, verdict.recovery_action) == (state, published)


def test_one_link_down_degrades_once_it_lasts() -> None:
    state = fold(good(1000), good(1001, links=links(17)))

    assert judge(state, 1002).state is HealthState.HEALTHY
    late = judge(fold(good(1016, links=links(17)), state=state), 1016)
    assert (late.state, late.nvlink_status, late.nvlink_bandwidth_percent) == (
        HealthState.DEGRADED,
        NvlinkStatus.DEGRADED,
        94,
    )


def test_most_links_down_is_suspect_and_isolates_after_its_dwell() -> None:
    state = fold(good(1000), *(good(1001 + step, links=links(8)) for step in range(0, 300, 50)))

    assert (judge(state, 1300).state, judge(state, 1300).phase) == (HealthState.DEGRADED, Phase.SUSPECT)
    verdict = judge(fold(good(1301, links=links(8)), state=state), 1301)
    assert (verdict.state, verdict.definitive, verdict.reason) == (HealthState.UNHEALTHY, False, "NvlinkDown")


def test_a_link_that_flaps_keeps_its_dwell_running() -> None:
    flaps = [good(1001 + 30 * step, links=links(8 if step % 2 == 0 else 18)) for step in range(12)]
    state = fold(good(1000), *flaps)

    assert judge(state, 1332).state is HealthState.UNHEALTHY


def test_a_level_that_stays_good_ends_and_a_gpu_that_was_out_goes_on_probation() -> None:
    bad = fold(good(1000), *(good(1001 + step, links=links(8)) for step in range(0, 301, 50)))
    mended = fold(*(good(1310 + step) for step in range(0, 31, 30)), state=bad)

    assert judge(mended, 1369).state is HealthState.UNHEALTHY
    verdict = judge(mended, 1371)
    assert (verdict.phase, verdict.reason) == (Phase.PROBATION, "Probation")
    assert verdict.score <= 69


def test_a_hung_gpu_is_suspect_then_out_without_definitive_evidence() -> None:
    state = fold(good(1000), *(broken(1001 + step, ReadStatus.HUNG) for step in range(0, 301, 30)))

    assert judge(state, 1030).phase is Phase.SUSPECT
    assert judge(state, 1100).state is HealthState.UNKNOWN
    verdict = judge(state, 1302)
    assert (verdict.state, verdict.reason, verdict.definitive) == (HealthState.UNHEALTHY, "NvmlHung", False)


@pytest.mark.parametrize(
    ("present", "config"),
    [(False, ConfigSpace.UNREADABLE), (True, ConfigSpace.ALL_ONES)],
    ids=["gone", "all ones"],
)
def test_a_gpu_off_the_bus_is_out_at_once(present: bool, config: ConfigSpace) -> None:
    report = PresenceReport(
        source=Source.SYSFS, seen=moment(1001), bus_id=BUS, uuid=UUID, present=present, config_space=config
    )
    verdict = judge(fold(good(1000), report), 1001)

    assert (verdict.state, verdict.reason) == (HealthState.UNHEALTHY, "GpuLost")


def test_a_failed_remap_is_never_healed_by_a_reset() -> None:
    state = fold(good(1000, remap_failed=True), good(2000))

    assert judge(state, 2001).reason == "RowRemapFailed"


def test_memory_errors_are_those_last_read_and_none_where_none_were_ever_read() -> None:
    """The attribute is always a whole number, so only the coverage shows a value that could not be read."""
    unread = {"ecc_uncorrected_volatile": None}
    never = judge(fold(good(1000, **unread)), 1000)
    later = judge(
        fold(good(1000, ecc_uncorrected_volatile=5), good(1005, **unread), good(1300, **unread)), 1300
    )

    assert (never.ecc_uncorrected, never.coverage) == (0, 90)
    assert (later.ecc_uncorrected, later.coverage) == (5, 90)


def test_what_a_model_lacks_lowers_coverage_and_never_health() -> None:
    verdict = judge(fold(good(1000, fabric=None, sram_threshold_exceeded=None)), 1000)

    assert (verdict.state, verdict.coverage) == (HealthState.HEALTHY, 80)


def test_a_fabric_in_progress_degrades_the_status_only() -> None:
    verdict = judge(fold(good(1000, fabric=FabricState.IN_PROGRESS)), 1000)

    assert (verdict.state, verdict.nvlink_status) == (HealthState.HEALTHY, NvlinkStatus.DEGRADED)


def test_a_model_that_nobody_knows_has_as_many_links_as_were_ever_seen() -> None:
    unknown = replace(fresh(), expected_links=None)
    state = fold(good(1000, links=links(4)), good(1005), state=unknown)

    assert judge(fold(good(1000, links=None), state=unknown), 1000).nvlink_status is NvlinkStatus.UNKNOWN
    assert judge(fold(good(1000, links=()), state=unknown), 1000).nvlink_status is NvlinkStatus.NONE
    assert judge(state, 1005).nvlink_status is NvlinkStatus.ACTIVE
    late = fold(*(good(at, links=links(4)) for at in range(1010, 1040, 5)), state=state)
    assert (judge(late, 1035).nvlink_status, judge(late, 1035).nvlink_bandwidth_percent) == (
        NvlinkStatus.DOWN,
        22,
    )


def test_heat_alone_never_leaves_the_high_class() -> None:
    hot = fold(*(good(1000 + 60 * step, thermal_margin_celsius=-5) for step in range(20)))

    verdict = judge(hot, 2150)
    assert (verdict.score, verdict.health_class) == (91, HealthClass.HIGH)
