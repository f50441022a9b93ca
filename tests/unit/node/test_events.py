"""The texts of events about a verdict."""

from dataclasses import replace

import pytest

from gpuvitals.health.state import GpuState
from gpuvitals.health.unusable import NODES_MISSING
from gpuvitals.model.files import Lack
from gpuvitals.model.ids import GpuUuid, PciBusId
from gpuvitals.model.signal import GpuSignal, ReadStatus
from gpuvitals.node.events import lack_events, unattributed_event, verdict_event
from support.signals import GPU, START, broken, fold, fresh, good, judge, xid


@pytest.mark.parametrize(
    "fault", [xid(79, START), xid(95, START), broken(START, ReadStatus.LOST)], ids=["79", "95", "lost"]
)
def test_an_event_names_the_reason_once(fault: GpuSignal) -> None:
    """Finding U4: 'GpuLost: GpuLost: the GPU is gone from the PCI bus'."""
    state: GpuState = fold(good(START - 1), fault, state=fresh())
    verdict = judge(state, START + 1)
    event = verdict_event(GPU, None, verdict)

    assert event is not None
    message = event.message.replace("XID ", "Xid")
    assert message.startswith(f"gpu {GPU.uuid} ({GPU.bus_id}): {verdict.reason}: ")
    assert message.count(verdict.reason) == 1


@pytest.mark.parametrize(
    ("bus_id", "message"),
    [
        (
            "0000:ff:00.0",
            "kmsg reports XID 79 for 0000:ff:00.0, which matches no GPU of this node; no device is touched",
        ),
        (None, "kmsg reports XID 79 without the name of a GPU; no device is touched"),
    ],
)
def test_a_fault_without_a_gpu_is_not_said_to_name_one(bus_id: str | None, message: str) -> None:
    """Finding U4: 'names no GPU at all, which is none of this node's GPUs'."""
    fault = replace(xid(79, START), uuid=None, bus_id=None if bus_id is None else PciBusId(bus_id))
    event = unattributed_event(fault)

    assert event is not None
    assert event.message == message


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (1, "1 device can't be prepared and is out of service: m"),
        (2, "2 devices can't be prepared and are out of service: m"),
    ],
)
def test_one_device_is_not_counted_as_several(count: int, said: str) -> None:
    """Finding U4."""
    lack = Lack(reason=NODES_MISSING, message="m")
    (event,) = lack_events({}, {GpuUuid(f"GPU-{number}"): lack for number in range(count)})

    assert event.message == said
