"""The texts of events about a verdict."""

import pytest

from gpuvitals.health.state import GpuState
from gpuvitals.model.signal import GpuSignal, ReadStatus
from gpuvitals.node.announcements import verdict_announcement
from support.signals import GPU, START, broken, fold, fresh, good, judge, xid


@pytest.mark.parametrize(
    "fault", [xid(79, START), xid(95, START), broken(START, ReadStatus.LOST)], ids=["79", "95", "lost"]
)
def test_an_event_names_the_reason_once(fault: GpuSignal) -> None:
    """Finding U4: 'GpuLost: GpuLost: the GPU is gone from the PCI bus'."""
    state: GpuState = fold(good(START - 1), fault, state=fresh())
    verdict = judge(state, START + 1)
    announced = verdict_announcement(GPU, None, verdict)

    assert announced is not None
    message = announced.message.replace("XID ", "Xid")
    assert message.startswith(f"gpu {GPU.uuid} ({GPU.bus_id}): {verdict.reason}: ")
    assert message.count(verdict.reason) == 1
