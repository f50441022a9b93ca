"""An operator removes a GPU from the agent's memory: removals, refusals and their reasons."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from gpuvitals.model.ids import GpuUuid
from gpuvitals.node.forgetting import Forgetting
from gpuvitals.node.queue import SignalQueue
from support.mig_instances import divided
from support.worlds.agent_world import AgentWorld, gpu, inventory, reading


class Caller:
    """A thread that sends a request, as the debug socket's does, and keeps the answer."""

    def __init__(self, forgetting: Forgetting, uuid: str) -> None:
        self.woken = threading.Event()
        self.refused = ""
        self._thread = threading.Thread(target=self._ask, args=(forgetting, GpuUuid(uuid)), name="caller")
        self._thread.start()

    def _ask(self, forgetting: Forgetting, uuid: GpuUuid) -> None:
        try:
            forgetting.request(uuid, 10)
        except ValueError as error:
            self.refused = str(error)

    def joined(self) -> str:
        self._thread.join(10)
        assert not self._thread.is_alive()
        return self.refused


def forget(world: AgentWorld, uuid: str, at: float) -> str:
    """The reason for a refusal; empty if the GPU was forgotten."""
    caller = Caller(world.agent.forgetting, uuid)
    while not world.agent.forgetting._waiting:
        caller.woken.wait(0.001)
    world.turn(at)
    return caller.joined()


@pytest.fixture
def world(tmp_path: Path) -> AgentWorld:
    """Three GPUs, of which the last is not enumerated any more, and a fourth that was replaced by GPU-new."""
    made = AgentWorld(tmp_path, gpus=4)
    made.begin()
    new = replace(gpu(3), uuid=GpuUuid("GPU-new"))
    listed = replace(inventory(1010), gpus=(gpu(0), gpu(1), new))
    made.turn(1010, listed, replace(reading(3, 1010), uuid=new.uuid))
    return made


def uuids(world: AgentWorld) -> set[str]:
    return {entry.gpu.uuid for entry in world.published[-1].gpus}


def test_a_gpu_that_is_gone_is_forgotten_for_good(world: AgentWorld) -> None:
    """Finding R1: a dead board whose slot is empty, and one whose slot holds another."""
    assert uuids(world) == {"GPU-0", "GPU-1", "GPU-2", "GPU-new"}
    assert forget(world, "GPU-2", 1020) == ""
    assert uuids(world) == {"GPU-0", "GPU-1", "GPU-new"}
    assert world.published[-1].facts.missing_gpus == ()
    assert world.published[-1].facts.retired == ("GPU-3",)
    assert forget(world, "GPU-3", 1030) == ""
    assert world.published[-1].facts.retired == ()

    after = AgentWorld(world.folder, gpus=4)
    after.turn(1040)
    assert uuids(after) == {"GPU-0", "GPU-1", "GPU-new"}


@pytest.mark.parametrize(
    ("uuid", "said"),
    [
        ("GPU-0", "the driver enumerates it at 0000:00:00.0"),
        ("GPU-none", "GPUs that can be forgotten: GPU-2, GPU-3"),
        ("", "GPUs that can be forgotten: GPU-2, GPU-3"),
    ],
)
def test_what_is_here_or_was_never_known_is_refused_with_the_reason(
    world: AgentWorld, uuid: str, said: str
) -> None:
    """Finding R1."""
    assert said in forget(world, uuid, 1020)
    assert uuids(world) == {"GPU-0", "GPU-1", "GPU-2", "GPU-new"}


def test_what_a_claim_holds_stays(world: AgentWorld) -> None:
    """Finding R1."""
    world.devices.by_device[GpuUuid("GPU-3")] = ("claim-1",)
    assert "is held by the claims with uid claim-1" in forget(world, "GPU-3", 1020)
    del world.devices.by_device[GpuUuid("GPU-3")]
    assert forget(world, "GPU-3", 1030) == ""


def test_instances_are_forgotten_with_their_gpu_and_not_alone(tmp_path: Path) -> None:
    """Finding R1."""
    world = AgentWorld(tmp_path, gpus=4)
    world.turn(1000, divided(1000, {1: (7, 8)}), *(reading(index, 1000) for index in range(4)))
    whole = divided(1010, {1: (7, 8)})
    world.turn(1010, replace(whole, gpus=tuple(each for each in whole.gpus if each.gpu_uuid != "GPU-1")))
    assert "is a MIG instance of GPU-1" in forget(world, "MIG-1-7", 1020)
    assert forget(world, "GPU-1", 1030) == ""
    assert uuids(world) == {"GPU-0", "GPU-2", "GPU-3"}


def test_a_loop_that_does_not_turn_is_told_and_forgets_nothing() -> None:
    """Finding R1: the caller's time is bounded, and a request that was given up is not served later."""
    forgetting = Forgetting(SignalQueue())
    with pytest.raises(ValueError, match="is not forgotten"):
        forgetting.request(GpuUuid("GPU-0"), 0.01)
    assert forgetting.take() == []
