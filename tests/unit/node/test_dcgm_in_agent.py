"""DCGM's signals in the agent: they corroborate, they blame no claim, and they do not stand for the first look."""

from dataclasses import replace
from pathlib import Path

import pytest

from gpuvitals.model.health import Confidence, HealthState
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.signal import Reading, ReadStatus, Source, XidReport
from support.signals import moment
from support.worlds.agent_world import AgentWorld, fault, gpu, inventory, reading


def dcgm(index: int, at: float, **values: object) -> Reading:
    reading = Reading(
        source=Source.DCGM,
        seen=moment(at),
        uuid=gpu(index).uuid,
        status=ReadStatus.OK,
        ecc_uncorrected_volatile=0,
    )
    return replace(reading, **values)  # type: ignore[arg-type]  # names checked by replace()


def test_a_fault_that_dcgm_shows_too_is_corroborated(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    world.turn(1010, dcgm(3, 1010, ecc_uncorrected_volatile=1))
    world.turn(1011, fault(3, 48, 1011), fault(4, 48, 1011))
    confidence = [world.published[-1].gpus[index].verdict.confidence for index in (3, 4)]

    assert confidence == [Confidence.CORROBORATED, Confidence.SINGLE]


def test_an_xid_of_dcgm_is_nobodys_claims(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.devices.by_device = {gpu(3).uuid: ("claim-1",), gpu(4).uuid: ("claim-2",)}
    world.begin()
    late = XidReport(source=Source.DCGM, seen=moment(1010), bus_id=None, uuid=GpuUuid("GPU-3"), code=13)
    world.turn(1010, late, fault(4, 13, 1010))
    met = {entry.gpu.uuid: [record.meetings for record in entry.state.xids] for entry in world.agent.gpus}

    assert met[GpuUuid("GPU-3")] == [()]
    assert len(met[GpuUuid("GPU-4")][0]) == 1


def test_dcgm_does_not_stand_for_the_first_look_at_a_gpu(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.turn(1000, inventory(1000), *(dcgm(index, 1000) for index in range(8)))

    assert world.published == []


@pytest.mark.parametrize("code", [48, 79, 95, 119, 151])
@pytest.mark.parametrize(
    ("accused", "reasons"), [(4, ()), (5, ("DcgmUnconfirmed",)), (8, ("DcgmUnconfirmed",))]
)
def test_dcgm_isolates_no_gpu_and_beyond_the_cap_the_fault_is_the_nodes(
    tmp_path: Path, code: int, accused: int, reasons: tuple[str, ...]
) -> None:
    """Finding R7: whoever answers on the exporter's port can accuse every GPU."""
    world = AgentWorld(tmp_path)
    world.begin()
    reports = (
        XidReport(source=Source.DCGM, seen=moment(1010), bus_id=None, uuid=gpu(index).uuid, code=code)
        for index in range(accused)
    )
    world.turn(1010, *reports)
    for at in range(1015, 1400, 5):
        world.turn(at, *(reading(index, at) for index in range(8)))

    assert world.states() == [HealthState.DEGRADED] * accused + [HealthState.HEALTHY] * (8 - accused)
    assert not any(entry.isolated for entry in world.published[-1].gpus)
    assert world.published[-1].facts.reasons == reasons
