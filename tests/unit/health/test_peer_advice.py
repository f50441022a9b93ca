"""The advice for an XID 149 that points at the other end of its link."""

from dataclasses import replace

import pytest

from gpuvitals.health.reasons import operator_advice
from gpuvitals.health.xid_nvlink5 import points_at_peer
from gpuvitals.model.ids import Reason
from gpuvitals.model.signal import Nvlink5Detail, XidReport
from support.signals import fold, good, judge, xid

V1_LINK_EVENT, V2_LINK_EVENT, BIT_ERRORS = 0x1C6, 0x11, 0x226


def line(reason: int, unit: str = "NETIR_LINK_EVT", code: int = V1_LINK_EVENT) -> XidReport:
    detail = Nvlink5Detail(unit=unit, intr_info=reason << 20 | code, error_status=0)
    return replace(xid(149, 1001), fatal=True, nvlink5=detail)


@pytest.mark.parametrize("reason", range(64))
@pytest.mark.parametrize("code", [V1_LINK_EVENT, V2_LINK_EVENT])
def test_reasons_32_to_37_point_at_the_peer_and_no_others(reason: int, code: int) -> None:
    """Finding L12."""
    assert points_at_peer(149, "NETIR_LINK_EVT", reason << 20 | code) is (32 <= reason <= 37)
    assert not points_at_peer(148, "NETIR_LINK_EVT", reason << 20 | code)
    assert not points_at_peer(149, "NETIR_BER_EVENT", reason << 20 | BIT_ERRORS)
    assert not points_at_peer(149, "NETIR_LINK_EVT", None)


@pytest.mark.parametrize("reason", [32, 35, 37])
def test_verdict_and_advice_name_the_other_end(reason: int) -> None:
    """Finding L12."""
    state = fold(good(1000), line(reason))
    judged = judge(state, 1001)
    cause = state.fault(judged.reason)

    assert "the other end of the link went down first" in judged.message
    assert operator_advice(judged.reason, cause.rule if cause else None).startswith(
        "look at the other end of the link first"
    )


def test_other_reasons_name_no_other_end() -> None:
    """Finding L12."""
    state = fold(good(1000), line(4))
    judged = judge(state, 1001)
    cause = state.fault(judged.reason)

    assert "other end" not in judged.message
    assert "other end" not in operator_advice(judged.reason, cause.rule if cause else None)


@pytest.mark.parametrize("reason", ["Xid79", "GpuLost"])
def test_the_advice_for_a_lost_gpu_names_the_sign_of_a_broken_slot(reason: str) -> None:
    """Finding L12."""
    assert "Surprise Down (AER)" in operator_advice(Reason(reason), None)
