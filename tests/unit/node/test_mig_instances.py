"""MIG instances are created and destroyed under a running agent: published devices, attribution of faults, memory."""

from dataclasses import replace
from pathlib import Path

import pytest

from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.pool import pool
from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.model.health import HealthState, NvlinkStatus
from gpuvitals.model.signal import InventoryReport, Source, XidReport
from gpuvitals.model.snapshot import GpuHealth
from support.mig_instances import divided, instance, instance_uuid
from support.signals import links, moment
from support.worlds.agent_world import AgentWorld, fault, gpu, reading

GONE = "MigInstanceGone"


@pytest.fixture
def world(tmp_path: Path) -> AgentWorld:
    """Four GPUs, of which the second is divided into instances 7 and 8."""
    made = AgentWorld(tmp_path, gpus=4)
    made.turn(1000, divided(1000, {1: (7, 8)}), *(reading(index, 1000) for index in range(4)))
    return made


def shown(world: AgentWorld) -> dict[str, GpuHealth]:
    return {entry.gpu.uuid: entry for entry in world.published[-1].gpus}


def names(world: AgentWorld, mode: ServiceMode = ServiceMode.TAINT) -> list[str]:
    """The devices of the node's slice."""
    (only,) = pool(world.published[-1], Naming(), mode).slices
    return [device.name for device in only.devices]


def contained(index: int, number: int, at: float, code: int = 94) -> XidReport:
    return replace(fault(index, code, at), gpu_instance=number)


def states(world: AgentWorld) -> dict[str, HealthState]:
    return {uuid: entry.verdict.state for uuid, entry in shown(world).items()}


def test_instances_are_published_in_place_of_their_gpu(world: AgentWorld) -> None:
    assert names(world) == [
        "gpu-0000-00-00-0",
        "gpu-0000-01-00-0-mig-1g-10gb-0",
        "gpu-0000-01-00-0-mig-1g-10gb-1",
        "gpu-0000-02-00-0",
        "gpu-0000-03-00-0",
    ]
    assert set(states(world).values()) == {HealthState.HEALTHY}
    assert "GPU-1" in states(world), "the GPU itself is judged on, for its instances and its metrics"


def test_a_fault_of_the_gpu_is_every_instances_and_a_contained_one_is_one_instances(
    world: AgentWorld,
) -> None:
    world.turn(1001, contained(1, 8, 1001))
    assert [uuid for uuid, state in states(world).items() if state is not HealthState.HEALTHY] == ["MIG-1-8"]
    assert world.monitor.polled[-1] == "GPU-1", "an instance is polled through its GPU"

    world.turn(1002, fault(1, 79, 1002))
    out = {uuid for uuid, entry in shown(world).items() if entry.isolated}
    assert out == {"GPU-1", "MIG-1-7", "MIG-1-8"}
    assert set(world.monitor.avoided) == {"GPU-1"}


def test_an_instance_that_no_claim_holds_leaves_the_slice_and_a_new_one_appears(world: AgentWorld) -> None:
    before = len(world.published)
    world.turn(1003, divided(1003, {1: (7, 9)}))
    assert len(world.published) == before + 1, "both in one snapshot"
    assert names(world)[1:3] == ["gpu-0000-01-00-0-mig-1g-10gb-0", "gpu-0000-01-00-0-mig-1g-10gb-2"]
    assert states(world)["MIG-1-9"] is HealthState.HEALTHY, "known at once: its GPU was read"
    world.turn(1004, divided(1004, {1: (7, 9)}))
    assert len(world.published) == before + 1


def test_a_destroyed_instance_is_shown_for_as_long_as_a_claim_holds_it(world: AgentWorld) -> None:
    held = instance_uuid(1, 8)
    world.devices.by_device[held] = ("claim-1",)
    world.turn(1003, divided(1003, {1: (7,)}))
    entry = shown(world)[held]
    assert (entry.verdict.state, entry.verdict.reason, entry.isolated) == (HealthState.UNHEALTHY, GONE, True)
    assert "destroyed while a claim holds it" in entry.verdict.message
    assert [each.reason for each in world.events if each.gpu == held] == ["GpuUnhealthy"]
    assert "gpu-0000-01-00-0-mig-1g-10gb-1" in names(world)
    assert "gpu-0000-01-00-0-mig-1g-10gb-1" not in names(world, ServiceMode.WITHDRAW)
    assert states(world)["MIG-1-7"] is HealthState.HEALTHY

    world.turn(1004, reading(1, 1004))
    assert shown(world)[held].verdict.reason == GONE, "a good reading of the GPU does not bring it back"
    del world.devices.by_device[held]
    world.turn(1005)
    assert held not in shown(world)


def test_an_instance_made_again_serves_on(world: AgentWorld) -> None:
    held = instance_uuid(1, 8)
    world.devices.by_device[held] = ("claim-1",)
    world.turn(1003, divided(1003, {1: (7,)}))
    world.turn(1004, divided(1004, {1: (7, 8)}))
    assert (shown(world)[held].verdict.state, shown(world)[held].isolated) == (HealthState.HEALTHY, False)


def test_a_name_does_not_move_to_another_instance_under_a_claim(world: AgentWorld) -> None:
    """Another instance in the same place has the same name, so it waits until the claim is released."""
    held = instance_uuid(1, 8)
    world.devices.by_device[held] = ("claim-1",)
    other = InventoryReport(
        source=Source.NVML_POLL,
        seen=moment(1003),
        gpus=(*divided(1003, {1: (7,)}).gpus, instance(1, 8, uuid="MIG-other")),
        driver_load="570.1",
    )
    world.turn(1003, other)
    assert "MIG-other" not in shown(world)
    assert len(set(names(world))) == len(names(world)) == 5
    del world.devices.by_device[held]
    world.turn(1004)
    assert "MIG-other" in shown(world)
    assert held not in shown(world)


def test_a_fault_is_not_forgotten_by_destroying_its_instance(world: AgentWorld) -> None:
    world.turn(1001, contained(1, 8, 1001))
    world.turn(1003, divided(1003, {1: (7,)}))
    assert instance_uuid(1, 8) not in shown(world)
    world.turn(1010, divided(1010, {1: (7, 8)}), reading(1, 1010))
    assert states(world)["MIG-1-8"] is HealthState.DEGRADED


def test_a_new_instance_has_the_faults_of_its_gpu_and_not_those_of_another(world: AgentWorld) -> None:
    world.turn(1001, contained(1, 11, 1001))
    world.turn(1002, divided(1002, {1: (7, 8, 9)}))
    assert states(world)["MIG-1-9"] is HealthState.HEALTHY
    world.turn(1003, divided(1003, {1: (7, 8, 9, 11)}))
    assert states(world)["MIG-1-11"] is HealthState.DEGRADED, (
        "the line was heard before the instance was seen"
    )
    world.turn(1004, fault(1, 79, 1004), divided(1004, {1: (7, 8, 9, 10, 11)}))
    assert states(world)["MIG-1-10"] is HealthState.UNHEALTHY


def test_instances_of_a_lost_gpu_are_lost_and_not_gone(world: AgentWorld) -> None:
    listed = divided(1003, {1: (7, 8)})
    without = replace(listed, gpus=tuple(gpu for gpu in listed.gpus if gpu.gpu_uuid != "GPU-1"))
    world.turn(1003, without)
    assert states(world)["MIG-1-7"] is HealthState.HEALTHY
    assert world.published[-1].facts.missing_gpus == ("0000:01:00.0",)


def test_links_that_are_down_in_mig_mode_are_not_missed(world: AgentWorld) -> None:
    for at in range(1003, 1603, 30):
        world.turn(at, *(reading(index, at, links=links(0 if index == 1 else 18)) for index in range(4)))
    assert set(states(world).values()) == {HealthState.HEALTHY}
    assert {shown(world)[uuid].verdict.nvlink_status for uuid in ("MIG-1-7", "MIG-1-8")} == {
        NvlinkStatus.NONE
    }


def test_mig_switched_on_and_off_changes_what_is_offered(world: AgentWorld) -> None:
    world.turn(1003, divided(1003, {1: (7, 8), 2: ()}))
    assert "gpu-0000-02-00-0" not in names(world), "a GPU in MIG mode without instances offers nothing"
    world.turn(1004, divided(1004, {}))
    assert names(world) == [f"gpu-0000-0{index}-00-0" for index in range(4)]


def test_a_restart_keeps_what_was_known_of_instances(world: AgentWorld) -> None:
    held = instance_uuid(1, 8)
    world.devices.by_device[held] = ("claim-1",)
    world.turn(1003, divided(1003, {1: (7,)}))
    after = AgentWorld(world.folder, gpus=4)
    after.devices.by_device[held] = ("claim-1",)
    after.turn(1004)
    assert shown(after)[held].verdict.reason == GONE
    after.turn(1005, divided(1005, {1: (7,)}))
    assert {uuid: str(entry.verdict.reason) for uuid, entry in shown(after).items()}[held] == GONE


def offered(world: AgentWorld) -> set[str]:
    return set(names(world))


def test_instances_of_a_gpu_that_is_held_whole_are_not_offered(world: AgentWorld) -> None:
    """Finding P6: MIG is enabled on a GPU that a claim holds."""
    world.devices.by_device[gpu(2).uuid] = ("claim-1",)
    world.turn(1003, divided(1003, {1: (7, 8), 2: (7, 8)}))
    assert not {name for name in offered(world) if name.startswith("gpu-0000-02")}
    assert {entry.gpu.uuid: entry.withheld for entry in world.published[-1].gpus if entry.withheld} == {
        instance_uuid(2, 7): "a claim holds the whole GPU",
        instance_uuid(2, 8): "a claim holds the whole GPU",
    }
    assert shown(world)[instance_uuid(2, 7)].verdict.state is HealthState.HEALTHY, "nothing is wrong with it"
    del world.devices.by_device[gpu(2).uuid]
    world.turn(1004)
    assert "gpu-0000-02-00-0-mig-1g-10gb-0" in offered(world)


def test_a_gpu_is_not_offered_whole_while_an_instance_of_it_is_held(world: AgentWorld) -> None:
    """Finding P6: MIG is disabled under a claim that holds an instance."""
    held = instance_uuid(1, 8)
    world.devices.by_device[held] = ("claim-1",)
    world.turn(1003, divided(1003, {}), reading(1, 1003))
    assert "gpu-0000-01-00-0" not in offered(world)
    assert "gpu-0000-01-00-0-mig-1g-10gb-1" in offered(world), "its holder sees it, out of service"
    del world.devices.by_device[held]
    world.turn(1004)
    assert "gpu-0000-01-00-0" in offered(world)
