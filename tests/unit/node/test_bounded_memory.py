"""The agent's memory stays bounded, however often GPUs are divided and boards replaced."""

from dataclasses import replace
from pathlib import Path

from gpuvitals.inventory.identity import MAX_RETIRED
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.signal import InventoryReport, Source
from gpuvitals.node.mig_instances import MAX_REMEMBERED
from support.mig_instances import in_mig_mode, instance
from support.signals import moment
from support.worlds.agent_world import AgentWorld, fault, gpu, reading

GPUS = 2
CHURN = 100


def listing(at: float, *gpus: Gpu) -> InventoryReport:
    return InventoryReport(source=Source.NVML_POLL, seen=moment(at), gpus=gpus, driver_load="570.1")


def kept(world: AgentWorld) -> dict[str, int]:
    """How many entries each memory has that is keyed by device."""
    agent, known = world.agent, world.agent._health
    return {
        "gpus": len(known.gpus),
        "policies": len(known.policies),
        "choices": len(world.resolver._known.choices),
        "verdicts": len(known._verdicts._cached),
        "suppressed": len(agent._suppressed),
        "read": len(known._gate.read),
    }


def test_instances_that_are_gone_leave_nothing_behind(tmp_path: Path) -> None:
    """Finding R15: MIG is divided anew a hundred times, each time with new UUIDs."""
    world = AgentWorld(tmp_path, gpus=GPUS)
    for turn in range(CHURN):
        at = 1000.0 + turn
        parts = [instance(1, number, uuid=f"MIG-{turn}-{number}") for number in (7, 8, 9)]
        world.turn(at, listing(at, gpu(0), in_mig_mode(1), *parts), *(reading(i, at) for i in range(GPUS)))

    world.turn(2000)
    assert max(kept(world).values()) == GPUS + 3
    assert b"MIG-0-7" not in (tmp_path / "policies.json").read_bytes().rstrip(b"\0")


def test_faulty_instances_that_are_gone_are_bounded(tmp_path: Path) -> None:
    """Finding R15."""
    world = AgentWorld(tmp_path, gpus=GPUS)
    for turn in range(MAX_REMEMBERED + 20):
        at = 1000.0 + turn
        part = instance(1, 7, uuid=f"MIG-{turn}")
        world.turn(at, listing(at, gpu(0), in_mig_mode(1), part), *(reading(i, at) for i in range(GPUS)))
        world.turn(at + 0.5, replace(fault(1, 94, at + 0.5), gpu_instance=7))

    assert max(kept(world).values()) <= GPUS + 1 + MAX_REMEMBERED


def test_boards_that_are_gone_are_bounded(tmp_path: Path) -> None:
    """Findings R1 and R15: a slot sees more boards than any memory should hold, in several lives of the agent."""
    world = AgentWorld(tmp_path, gpus=GPUS)
    for turn in range(MAX_RETIRED + 20):
        at = 1000.0 + turn
        board = replace(gpu(1), uuid=GpuUuid(f"GPU-board-{turn}"))
        world.turn(at, listing(at, gpu(0), board), reading(0, at), replace(reading(1, at), uuid=board.uuid))
        if turn % 20 == 0:
            world = AgentWorld(tmp_path, gpus=GPUS)

    assert max(kept(world).values()) <= GPUS + MAX_RETIRED
    assert len(world.published[-1].gpus) == GPUS


def test_what_governs_a_gpu_that_is_away_is_kept_for_its_return(tmp_path: Path) -> None:
    """Finding R15: an agent that has lost its memory of GPUs starts with the policies that governed them."""
    before = AgentWorld(tmp_path, gpus=GPUS)
    before.begin()
    choices = before.resolver._known.choices
    assert len(choices) == GPUS
    (tmp_path / "state.json").unlink()
    world = AgentWorld(tmp_path, gpus=GPUS)
    world.turn(1001)

    assert world.resolver._known.choices == choices
