"""GPUs that the bus shows and the driver does not: a fault of the node, told with the node's facts, that blames no device."""

from dataclasses import replace
from pathlib import Path

from gpuvitals.health.reasons import GPU_NOT_UP
from gpuvitals.model.health import HealthState
from gpuvitals.model.ids import PciBusId
from support.worlds.agent_world import AgentWorld, inventory, reading

ABSENT = PciBusId("0000:7f:00.0")


def test_a_gpu_that_never_came_up_is_missing_and_blames_none_that_did(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    world.turn(1010.0, replace(inventory(1010.0), not_up=(ABSENT,)))

    facts = world.published[-1].facts
    assert (facts.expected_gpus, facts.missing_gpus, facts.reasons) == (9, (ABSENT,), (GPU_NOT_UP,))
    assert set(world.states()) == {HealthState.HEALTHY}


def test_it_is_forgotten_when_it_is_up(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    world.turn(1010.0, replace(inventory(1010.0), not_up=(ABSENT,)))
    world.turn(1020.0, inventory(1020.0))

    facts = world.published[-1].facts
    assert (facts.expected_gpus, facts.missing_gpus, facts.reasons) == (8, (), ())


def test_a_restarted_agent_still_misses_it_before_the_driver_has_answered(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    world.turn(1010.0, replace(inventory(1010.0), not_up=(ABSENT,)))
    heir = AgentWorld(tmp_path)
    heir.turn(1011.0, reading(0, 1011.0, recovery_action=1))

    assert heir.published[-1].facts.missing_gpus == (ABSENT,)
    assert heir.published[-1].facts.reasons == (GPU_NOT_UP,)


def test_a_known_gpu_that_is_gone_has_its_own_verdict_instead(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    report = inventory(1010.0)
    gone = report.gpus[3]
    rest = tuple(gpu for gpu in report.gpus if gpu != gone)
    world.turn(1010.0, replace(report, gpus=rest, not_up=(gone.bus_id,)))
    world.turn(1011.0, reading(0, 1011.0, recovery_action=1))

    facts = world.published[-1].facts
    assert (facts.missing_gpus, facts.reasons) == ((gone.bus_id,), ())
