"""(state, XID) -> verdict, one row a rule."""

import pytest

from gpuvitals.health.fault_classes import FaultClass
from gpuvitals.health.xid_catalog import CATALOG
from gpuvitals.health.xid_rules import xid_rule
from gpuvitals.model.health import HealthClass, HealthState, Phase
from gpuvitals.model.ids import PciBusId
from gpuvitals.model.signal import Nvlink5Detail, Source, XidReport
from support.signals import fold, good, identity, judge, moment, xid


@pytest.mark.parametrize(
    ("code", "state", "reason", "last_xid"),
    [
        pytest.param(79, HealthState.UNHEALTHY, "Xid79", 79, id="off the bus"),
        pytest.param(48, HealthState.UNHEALTHY, "Xid48", 48, id="double bit error"),
        pytest.param(95, HealthState.UNHEALTHY, "Xid95", 95, id="uncontained"),
        pytest.param(119, HealthState.UNHEALTHY, "Xid119", 119, id="GSP timeout"),
        pytest.param(151, HealthState.UNHEALTHY, "Xid151", 151, id="restart of the VM"),
        pytest.param(94, HealthState.DEGRADED, "Xid94", 94, id="contained degrades"),
        pytest.param(63, HealthState.DEGRADED, "Xid63", 63, id="row remap recorded degrades"),
        pytest.param(109, HealthState.DEGRADED, "Xid109", 109, id="109 alone degrades"),
        pytest.param(
            60_000, HealthState.DEGRADED, "Xid60000", 60_000, id="never seen: recorded, not disruptive"
        ),
        pytest.param(43, HealthState.HEALTHY, "None", 0, id="43 never counts"),
        pytest.param(45, HealthState.HEALTHY, "None", 0, id="45 never counts"),
        pytest.param(13, HealthState.HEALTHY, "None", 0, id="an application's, once"),
        pytest.param(92, HealthState.HEALTHY, "None", 0, id="ignored by the catalogue"),
    ],
)
def test_one_xid_on_a_healthy_gpu(code: int, state: HealthState, reason: str, last_xid: int) -> None:
    verdict = judge(fold(good(1000), xid(code, 1001)), 1002)

    assert (verdict.state, verdict.reason, verdict.last_xid) == (state, reason, last_xid)


def test_a_fatal_xid_scores_zero_and_says_what_clears_it() -> None:
    verdict = judge(fold(good(1000), xid(79, 1001)), 1001)

    assert (verdict.score, verdict.health_class, verdict.definitive) == (0, HealthClass.FAILED, True)
    assert verdict.message.startswith("XID 79: ")
    assert "reset" in verdict.message


def test_a_degraded_gpu_is_out_of_reach_of_score_above_90() -> None:
    verdict = judge(fold(good(1000), xid(94, 1001)), 1001)

    assert 0 < verdict.score <= 90


def test_a_lesser_xid_never_replaces_a_fatal_one() -> None:
    verdict = judge(fold(good(1000), xid(79, 1001), xid(45, 1002), xid(94, 1003)), 1004)

    assert (verdict.state, verdict.reason) == (HealthState.UNHEALTHY, "Xid79")
    assert verdict.xid_errors == 2


def test_a_burst_is_one_episode() -> None:
    state = fold(good(1000), *(xid(94, 1001 + second) for second in range(100)))

    fault = state.fault(xid_rule(xid(94, 0)).reason)
    assert fault is not None
    assert fault.episodes == (1001,)
    assert judge(state, 1101).xid_errors == 1


def test_an_nvml_event_is_no_second_witness_of_the_kernels_line() -> None:
    state = fold(good(1000), xid(79, 1001), xid(79, 1002, source=Source.NVML_EVENT))

    fault = state.faults[0]
    assert fault.sources == {Source.KMSG}


def test_an_application_xid_counts_when_a_second_claim_meets_it() -> None:
    once = fold(good(1000), xid(13, 1001, claim="a"), xid(13, 1400, claim="a"))
    twice = fold(xid(13, 1800, claim="b"), good(1801), state=once)

    assert judge(once, 1050).state is HealthState.HEALTHY
    assert judge(twice, 1801).state is HealthState.DEGRADED


def test_an_event_fault_that_needs_no_reset_ends_after_a_day() -> None:
    state = fold(good(1000), xid(94, 1001))
    state = fold(good(1001 + 86_400), state=state)

    assert judge(state, 1002 + 86_400).state is HealthState.HEALTHY


@pytest.mark.parametrize(
    ("unit", "intr_info", "error_status", "wanted"),
    [
        ("RLW_REMAP", 0x04, 0x40, FaultClass.A),
        ("RLW_REMAP", 0x04, 0x1, FaultClass.C),
        ("RLW_CTRL", 0x03, 0x1, FaultClass.NONE),
        ("RLW_REMAP", None, None, FaultClass.B0),
    ],
)
def test_an_nvlink5_xid_goes_by_its_decode(
    unit: str, intr_info: int | None, error_status: int | None, wanted: FaultClass
) -> None:
    detail = Nvlink5Detail(unit=unit, intr_info=intr_info, error_status=error_status)
    report = XidReport(
        source=Source.KMSG, seen=moment(0), bus_id=PciBusId("0000:3b:00.0"), code=145, nvlink5=detail
    )

    assert xid_rule(report).fault_class is wanted


def test_every_code_of_the_catalogue_has_a_decided_class() -> None:
    decided = {code: xid_rule(xid(code, 0)) for code in CATALOG}

    assert all(rule.reason == f"Xid{code}" for code, rule in decided.items())
    unused = [code for code, entry in CATALOG.items() if entry.unused]
    assert not [code for code in unused if decided[code].fault_class is FaultClass.A]


def test_an_xid_from_before_our_start_is_dropped_once_a_reading_disagrees() -> None:
    unread = fold(xid(79, 500))
    read = fold(good(1001), state=unread)

    assert judge(unread, 1000).state is HealthState.UNHEALTHY
    assert (judge(read, 1001).state, judge(read, 1001).phase) == (HealthState.HEALTHY, Phase.STEADY)


def test_an_xid_from_before_our_start_stands_where_a_reading_agrees() -> None:
    state = fold(xid(79, 500), good(1001, recovery_action=1))

    assert judge(state, 1001).state is HealthState.UNHEALTHY


def test_identity_lines_just_before_the_first_xid_are_no_reset() -> None:
    state = fold(good(1000), identity(1001), xid(79, 1001), good(1002))

    assert judge(state, 1003).state is HealthState.UNHEALTHY
