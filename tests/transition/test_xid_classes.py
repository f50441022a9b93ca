"""The class of every XID, against NVIDIA's buckets written out once more by hand."""

from dataclasses import replace

import pytest

from gpuvitals.health.fault_classes import Clearing, FaultClass
from gpuvitals.health.xid_catalog import CATALOG
from gpuvitals.health.xid_rules import xid_rule
from gpuvitals.model.health import HealthState
from gpuvitals.model.signal import Nvlink5Detail, Source, XidReport
from support.signals import BUS, fold, good, identity, judge, moment, xid

RESET_GPU = {46, 62, 64, 95, 110, 119, 120, 136, 140, 143, 155, 156, 158}
RESTART = {79, 151}
RESTART_APP = {
    *{8, 11, 13, 25, 31, 32, 39, 40, 41, 60, 68, 69, 70, 71, 72, 75, 76, 77, 80, 82, 83, 84, 85, 86, 88, 89},
    *range(96, 106),
    *range(126, 136),
    139,
}
IGNORE = {14, 37, 38, 44, 66, 67, 92, 93, 106, 107, 108, 121, 137, 141, 157, 160, 161}
NEVER_COUNT = {43, 45, 154}
DEGRADE = {63, 94, 109}
BY_DECODE = {74, *range(144, 151)}


def test_the_buckets_decide_and_the_exceptions_are_these() -> None:
    """Source: docs.nvidia.com, "Analyzing Xid Errors with the Xid Catalog", buckets of the codes in use."""
    decided = {code: xid_rule(xid(code, 0)).fault_class for code in range(1, 300)}

    for code, found in decided.items():
        if code in RESET_GPU | RESTART | {48}:
            assert found is FaultClass.A, code
        elif code in RESTART_APP:
            assert found is FaultClass.C, code
        elif code in IGNORE | NEVER_COUNT:
            assert found is FaultClass.NONE, code
        else:
            assert found is FaultClass.B0, code
    assert {code for code in DEGRADE if decided[code] is FaultClass.B0} == DEGRADE


def test_every_code_that_nvidia_has_in_use_is_in_a_bucket_here() -> None:
    used = {code for code, entry in CATALOG.items() if not entry.unused and entry.bucket}

    people = {54, 78, 142, 159}
    listed = RESET_GPU | RESTART | RESTART_APP | IGNORE | NEVER_COUNT | DEGRADE | BY_DECODE | people | {48}
    assert used == listed


@pytest.mark.parametrize("code", sorted(RESET_GPU | RESTART | {48}))
def test_class_a_isolates_at_once_and_only_a_repair_ends_it(code: int) -> None:
    state = fold(good(1000), xid(code, 1001))

    assert (judge(state, 1001).state, judge(state, 1001).definitive) == (HealthState.UNHEALTHY, True)
    assert judge(fold(good(500_000), state=state), 500_000).state is HealthState.UNHEALTHY


@pytest.mark.parametrize("code", sorted(RESTART_APP))
def test_an_application_xid_is_never_enough_alone(code: int) -> None:
    state = fold(good(1000), *(xid(code, 1001 + 200 * step, claim="one") for step in range(20)), good(5000))
    verdict = judge(state, 5000)

    assert (verdict.state, verdict.score, verdict.xid_errors) == (HealthState.HEALTHY, 100, 0)


@pytest.mark.parametrize("code", sorted(IGNORE | NEVER_COUNT))
def test_what_never_counts_leaves_no_trace_however_often_and_for_whomever(code: int) -> None:
    history = [xid(code, 1001 + 200 * step, claim=f"claim-{step}") for step in range(20)]
    verdict = judge(fold(good(1000), *history, good(5000)), 5000)

    assert verdict == judge(fold(good(1000), good(5000)), 5000)


@pytest.mark.parametrize("cause", [79, 48, 145, 13])
def test_a_cleanup_does_not_count_whatever_it_names_as_its_cause(cause: int) -> None:
    """The cause has its own line; if that was lost, the recovery action tells."""
    report = XidReport(source=Source.KMSG, seen=moment(1001), bus_id=BUS, code=45, caused_by=cause)

    assert judge(fold(good(1000), report), 1002) == judge(fold(good(1000)), 1002)


def nvlink5(code: int, *, fatal: bool | None, words: tuple[int, int] | None, unit: str) -> XidReport:
    intr_info, error_status = words or (None, None)
    detail = Nvlink5Detail(unit=unit, intr_info=intr_info, error_status=error_status)
    return XidReport(
        source=Source.KMSG, seen=moment(1001), bus_id=BUS, code=code, fatal=fatal, nvlink5=detail
    )


PEER_DOWN = 0b100110 << 20


@pytest.mark.parametrize(
    ("report", "wanted"),
    [
        pytest.param(
            nvlink5(145, fatal=True, words=(0x04, 0x40), unit="RLW_REMAP"), FaultClass.A, id="reset, fatal"
        ),
        pytest.param(
            nvlink5(145, fatal=False, words=(0x04, 0x40), unit="RLW_REMAP"),
            FaultClass.B0,
            id="reset, but the line says non-fatal",
        ),
        pytest.param(
            nvlink5(145, fatal=False, words=(0x04, 0x1), unit="RLW_REMAP"),
            FaultClass.C,
            id="follow 154, else restart the application",
        ),
        pytest.param(
            nvlink5(145, fatal=False, words=(0x03, 0x1), unit="RLW_CTRL"), FaultClass.NONE, id="ignore"
        ),
        pytest.param(
            nvlink5(145, fatal=True, words=(0xC2 | 1 << 10, 0x1), unit="RLW_RXPIPE"),
            FaultClass.A,
            id="promoted, old encoding",
        ),
        pytest.param(
            nvlink5(145, fatal=False, words=(0xC2, 0x1), unit="RLW_RXPIPE"),
            FaultClass.NONE,
            id="not promoted",
        ),
        pytest.param(
            nvlink5(147, fatal=False, words=(0x0E, 0x1), unit="TREX"), FaultClass.NONE, id="147 never resets"
        ),
        pytest.param(
            nvlink5(149, fatal=True, words=(0x1C6, 0), unit="NETIR_LINK_EVT"), FaultClass.A, id="link down"
        ),
        pytest.param(
            nvlink5(149, fatal=True, words=(0x1C6 | PEER_DOWN, 0), unit="NETIR_LINK_EVT"),
            FaultClass.NONE,
            id="the peer went down",
        ),
        pytest.param(
            nvlink5(150, fatal=True, words=(0x00, 0), unit="MSE_WATCHDOG"), FaultClass.A, id="150 resets"
        ),
        pytest.param(
            nvlink5(149, fatal=True, words=None, unit="NETIR_LINK_EVT"), FaultClass.B0, id="no words printed"
        ),
    ],
)
def test_144_to_150_go_by_the_word_on_the_line_and_its_decode(report: XidReport, wanted: FaultClass) -> None:
    assert xid_rule(report).fault_class is wanted


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ((1 << 8, 0, 0, 0, 0, 0, 0), FaultClass.B),
        ((0, 0, 1 << 13, 0, 0, 0, 0), FaultClass.B),
        ((0, 0, 0, 0, 1 << 18, 0, 0), FaultClass.B),
        ((1 << 21, 0, 0, 0, 0, 0, 0), FaultClass.B0),
        ((0, 0, 0, 0, 1 << 20, 0, 0), FaultClass.B0),
        ((1 << 1, 0, 0, 0, 0, 0, 0), FaultClass.NONE),
        ((0, 0, 0, 1 << 16, 0, 0, 0), FaultClass.NONE),
        ((1 << 23, 0, 0, 0, 0, 0, 0), FaultClass.NONE),
        ((), FaultClass.B0),
    ],
    ids=[
        "mechanical",
        "never expected",
        "parity",
        "signal",
        "threshold",
        "secondary",
        "echo",
        "ignorable",
        "bare",
    ],
)
def test_74_goes_by_its_seven_words(words: tuple[int, ...], wanted: FaultClass) -> None:
    report = XidReport(source=Source.KMSG, seen=moment(1001), bus_id=BUS, code=74, words=words)

    assert xid_rule(report).fault_class is wanted
    assert (xid_rule(report).clearing is Clearing.RESET) is (wanted is FaultClass.B)


def test_the_undecoded_echo_of_an_ignorable_line_degrades_nothing() -> None:
    """NVML tells the number alone; the kernel's line, which came first, tells that it means nothing."""
    line = nvlink5(145, fatal=False, words=(0x03, 0x1), unit="RLW_CTRL")
    state = fold(good(1000), line, xid(145, 1002, source=Source.NVML_EVENT))

    assert judge(state, 1003).state is HealthState.HEALTHY


def test_a_milder_line_of_the_same_code_does_not_lower_what_the_first_one_was() -> None:
    fatal = nvlink5(145, fatal=True, words=(0x04, 0x40), unit="RLW_REMAP")
    state = fold(good(1000), fatal, xid(145, 1400))
    verdict = judge(state, 1401)

    assert (verdict.state, verdict.reason, verdict.xid_errors) == (HealthState.UNHEALTHY, "Xid145", 1)
    assert judge(fold(identity(1500), good(1501), state=state), 1501).reason == "Probation"


@pytest.mark.parametrize("code", [74, 144, 145, 149, 150])
def test_the_event_of_a_decoded_xid_decides_nothing_whichever_comes_first(code: int) -> None:
    """NVML's event has the number only; it opens no fault for a line to be ignored, even if it arrives first."""
    line = replace(
        xid(code, 1001),
        words=(1,),
        nvlink5=Nvlink5Detail(unit="NETIR_BER_EVENT", intr_info=0x226, error_status=0),
        fatal=False,
    )
    event = xid(code, 1001, source=Source.NVML_EVENT)

    assert judge(fold(good(1000), event), 1001).reason == "None"
    assert judge(fold(good(1000), event, line), 1001) == judge(fold(good(1000), line, event), 1001)
