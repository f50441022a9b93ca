"""Boards that are replaced, swapped, renumbered and lost: which device is published, and whose fault is whose."""

from dataclasses import replace
from pathlib import Path

import pytest

from gpuvitals.health.reasons import GPU_NOT_UP
from gpuvitals.inventory.claims import ClaimRef, PreparedDevice, claim_entries
from gpuvitals.inventory.device import device_name
from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.pool import pool
from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.health import HealthState
from gpuvitals.model.ids import ClaimUid, GpuUuid
from gpuvitals.model.signal import InventoryReport, Reading, Source
from support.mig_instances import divided, in_mig_mode, instance
from support.signals import moment
from support.worlds.agent_world import AgentWorld, fault, gpu, inventory, reading


def board(slot: int, uuid: str) -> Gpu:
    """A GPU with that UUID, in the slot of GPU number `slot`."""
    return replace(gpu(slot), uuid=GpuUuid(uuid))


def listing(at: float, *gpus: Gpu) -> InventoryReport:
    return InventoryReport(source=Source.NVML_POLL, seen=moment(at), gpus=gpus, driver_load="570.1")


def good(uuid: str, at: float) -> Reading:
    return replace(reading(0, at), uuid=GpuUuid(uuid))


def shown(world: AgentWorld, mode: ServiceMode = ServiceMode.TAINT) -> dict[str, tuple[str, str]]:
    """Each published device with its UUID and its reason."""
    planned = pool(world.published[-1], Naming(), mode)
    found: dict[str, tuple[str, str]] = {}
    for part in planned.slices:
        for device in part.devices:
            values = dict(device.attributes)
            assert device.name not in found
            found[device.name] = (str(values["uuid"]), str(values["health/reason"]))
    assert planned.left_out == ()
    return found


def name(slot: int) -> str:
    return device_name(gpu(slot))


def restarted(world: AgentWorld, boot: str, gpus: int) -> AgentWorld:
    return AgentWorld(world.folder, boot=boot, gpus=gpus)


def test_a_replaced_board_is_one_device_and_siblings_faults_are_published(tmp_path: Path) -> None:
    """Finding R1: a board failed, was replaced with the node off, and another GPU fails afterwards."""
    before = AgentWorld(tmp_path, gpus=4)
    before.begin()
    before.turn(1010, fault(3, 79, 1010))
    world = restarted(before, "boot-2", 4)
    new = board(3, "GPU-new")
    world.turn(
        50, listing(50, gpu(0), gpu(1), gpu(2), new), *(reading(i, 50) for i in range(3)), good("GPU-new", 50)
    )

    assert shown(world)[name(3)] == ("GPU-new", "None")
    assert len(shown(world)) == 4
    assert world.published[-1].facts.missing_gpus == ()
    assert world.published[-1].facts.retired == ("GPU-3",)
    assert [each.reason for each in world.events].count("GpuReplaced") == 1

    world.turn(60, fault(1, 79, 60))
    assert shown(world)[name(1)] == ("GPU-1", "Xid79")
    assert world.published[-1].gpus[1].isolated


def test_the_fault_of_a_board_goes_with_the_board(tmp_path: Path) -> None:
    """Finding N1: faults are looked up by UUID. Two boards swap their slots, one of them with a fault."""
    before = AgentWorld(tmp_path, gpus=3)
    before.begin()
    before.turn(1010, fault(2, 95, 1010))
    world = restarted(before, "boot-1", 3)
    world.turn(
        1020, listing(1020, gpu(0), board(1, "GPU-2"), board(2, "GPU-1")), reading(0, 1020), reading(1, 1020)
    )

    assert shown(world) == {
        name(0): ("GPU-0", "None"),
        name(1): ("GPU-2", "Xid95"),
        name(2): ("GPU-1", "None"),
    }
    assert world.published[-1].facts.retired == ()


def test_a_renumbered_bus_with_a_dead_gpu_publishes_the_living(tmp_path: Path) -> None:
    """Finding R1: GPU 1 is dead, and those behind it moved up by one slot."""
    before = AgentWorld(tmp_path, gpus=4)
    before.begin()
    world = restarted(before, "boot-2", 4)
    world.turn(
        50,
        listing(50, gpu(0), board(1, "GPU-2"), board(2, "GPU-3")),
        *(reading(index, 50) for index in (0, 2, 3)),
    )

    assert shown(world) == {
        name(0): ("GPU-0", "None"),
        name(1): ("GPU-2", "None"),
        name(2): ("GPU-3", "None"),
    }
    assert world.published[-1].facts.retired == ("GPU-1",)


def test_a_gpu_that_is_lost_loses_its_minor_number_to_the_gpu_that_has_it_now(tmp_path: Path) -> None:
    """Finding N1: a driver that is loaded without GPU 1 deals its number to GPU 2, and so opens GPU 2 for a claim of GPU 1."""

    def numbered(slot: int, minor: int) -> Gpu:
        return replace(gpu(slot), minor=minor)

    world = AgentWorld(tmp_path, gpus=3)
    first = listing(1000, *(numbered(index, index) for index in range(3)))
    world.turn(1000, first, *(reading(index, 1000) for index in range(3)))
    assert [entry.gpu.minor for entry in world.published[-1].gpus] == [0, 1, 2]

    world.turn(1010, listing(1010, numbered(0, 0), numbered(2, 1)), fault(1, 79, 1010))
    assert [entry.gpu.minor for entry in world.published[-1].gpus] == [0, None, 1]

    world.turn(1020, listing(1020, *(numbered(index, 2 - index) for index in range(3))), fault(2, 94, 1020))
    assert [entry.gpu.minor for entry in world.published[-1].gpus] == [2, 1, 0]

    world.turn(1030, listing(1030, numbered(0, 0), numbered(1, 0), numbered(2, 2)), fault(0, 48, 1030))
    assert [entry.gpu.minor for entry in world.published[-1].gpus] == [None, None, 2]


@pytest.mark.parametrize("mode", list(ServiceMode))
def test_no_device_of_other_hardware_is_left(tmp_path: Path, mode: ServiceMode) -> None:
    """Finding N1: the memory is of other hardware, with half of its GPUs failed."""
    before = AgentWorld(tmp_path, gpus=4)
    before.begin()
    before.turn(1010, fault(2, 79, 1010), fault(3, 79, 1010))
    world = restarted(before, "boot-2", 4)
    uuids = [f"GPU-other-{index}" for index in range(4)]
    world.turn(
        50,
        listing(50, *(board(index, uuid) for index, uuid in enumerate(uuids))),
        *(good(uuid, 50) for uuid in uuids),
    )

    assert shown(world, mode) == {name(index): (uuid, "None") for index, uuid in enumerate(uuids)}
    assert not set(world.monitor.polled) & {gpu(index).uuid for index in range(4)}


def test_a_dead_gpu_keeps_its_slot_while_no_other_is_there(tmp_path: Path) -> None:
    """Finding R1: a GPU that the driver does not list is missing, not replaced."""
    world = AgentWorld(tmp_path, gpus=3)
    world.begin()
    world.turn(1010, fault(1, 79, 1010))
    world.turn(1020, listing(1020, gpu(0), gpu(2)))

    assert shown(world)[name(1)] == ("GPU-1", "Xid79")
    assert [entry.isolated for entry in world.published[-1].gpus] == [False, True, False]
    assert world.published[-1].facts.retired == ()


def test_what_the_kernel_said_of_the_slot_concerns_the_board_that_is_there(tmp_path: Path) -> None:
    """Finding R1: the log of this boot is read before the driver has listed its GPUs."""
    before = AgentWorld(tmp_path, gpus=3)
    before.begin()
    world = restarted(before, "boot-2", 3)
    world.turn(40, fault(1, 79, 40))
    world.turn(50, listing(50, gpu(0), board(1, "GPU-new"), gpu(2)), reading(0, 50), reading(2, 50))
    world.turn(56)

    assert shown(world)[name(1)] == ("GPU-new", "Xid79")


def test_a_hot_plugged_board_has_the_faults_since_the_old_one_read_well(tmp_path: Path) -> None:
    """Finding R1: the board is replaced while the agent runs, and fails before the driver's list is read again."""
    world = AgentWorld(tmp_path, gpus=2)
    world.begin()
    world.turn(1010, fault(1, 94, 1010))
    world.turn(1020, reading(1, 1020))
    world.turn(1030, fault(1, 79, 1030))
    world.turn(1040, listing(1040, gpu(0), board(1, "GPU-new")))

    assert shown(world)[name(1)] == ("GPU-new", "Xid79")
    assert world.published[-1].gpus[1].verdict.xid_errors == 1, "XID 94 was the old board's"


def test_a_board_that_is_put_back_has_its_faults_again(tmp_path: Path) -> None:
    """Finding R1: replacing a board and putting it back repairs nothing."""
    world = AgentWorld(tmp_path, gpus=2)
    world.begin()
    world.turn(1010, fault(1, 95, 1010))
    world.turn(1020, listing(1020, gpu(0), board(1, "GPU-new")), good("GPU-new", 1020))
    assert shown(world)[name(1)] == ("GPU-new", "None")
    world.turn(1030, listing(1030, gpu(0), gpu(1)), reading(1, 1030))

    assert shown(world)[name(1)] == ("GPU-1", "Xid95")
    assert world.published[-1].facts.retired == ("GPU-new",)


def test_a_claim_says_that_its_board_is_gone(tmp_path: Path) -> None:
    """Findings R1 and N1: a board is replaced while a claim holds it."""
    claim = ClaimRef(namespace="default", name="train", uid=ClaimUid("claim-1"))
    prepared = PreparedDevice(
        claim=claim, uuid=GpuUuid("GPU-1"), device=name(1), share_id=None, prepared_time=moment(1000).time
    )
    world = AgentWorld(tmp_path, gpus=2)
    world.devices.by_device[GpuUuid("GPU-1")] = ("claim-1",)
    world.begin()
    world.turn(1020, listing(1020, gpu(0), board(1, "GPU-new")), good("GPU-new", 1020))

    assert shown(world)[name(1)] == ("GPU-new", "None")
    (entry,) = claim_entries(world.published[-1], (prepared,), Naming())[claim]
    healthy, _ = entry.conditions
    assert (healthy.status.value, healthy.reason) == ("False", "GpuReplaced")
    assert (entry.device, dict(entry.data)["uuid"]) == (name(1), "GPU-1")
    assert [each.reason for each in world.events if each.gpu == "GPU-1"] == ["GpuUnhealthy"]

    del world.devices.by_device[GpuUuid("GPU-1")]
    world.turn(1030)
    assert world.published[-1].replaced == ()
    assert shown(world)[name(1)] == ("GPU-new", "None")


def test_mig_instances_follow_the_board(tmp_path: Path) -> None:
    """Finding R1: a divided board is replaced by one that is divided likewise."""
    world = AgentWorld(tmp_path, gpus=4)
    world.turn(1000, divided(1000, {1: (7, 8)}), *(reading(index, 1000) for index in range(4)))
    world.turn(1010, fault(1, 79, 1010))
    new = replace(in_mig_mode(1), uuid=GpuUuid("GPU-new"))
    parts = [
        replace(each, mig=replace(each.mig, parent=new.uuid))
        for number in (7, 8)
        if (each := instance(1, number, uuid=f"MIG-new-{number}")).mig is not None
    ]
    world.turn(1020, listing(1020, gpu(0), new, *parts, gpu(2), gpu(3)), good("GPU-new", 1020))

    assert {uuid for uuid, _ in shown(world).values()} == {
        "GPU-0",
        "MIG-new-7",
        "MIG-new-8",
        "GPU-2",
        "GPU-3",
    }
    assert {reason for _, reason in shown(world).values()} == {"None"}


def test_phantoms_of_an_older_agents_memory_are_settled(tmp_path: Path) -> None:
    """Finding R1: the memory on disk holds two GPUs of one slot, as an older agent wrote it, in several lives."""
    before = AgentWorld(tmp_path, gpus=2)
    before.begin()
    before.turn(1010, listing(1010, gpu(0), board(1, "GPU-new")), good("GPU-new", 1010))
    stored = before.agent._store.load().node
    assert stored is not None
    before.agent._store.save(
        replace(stored, gpus=tuple(replace(entry, retired=False) for entry in stored.gpus))
    )
    for life in range(3):
        world = restarted(before, f"boot-{life + 2}", 2)
        world.turn(50, listing(50, gpu(0), board(1, "GPU-new")), reading(0, 50), good("GPU-new", 50))
        assert shown(world) == {name(0): ("GPU-0", "None"), name(1): ("GPU-new", "None")}
        assert world.published[-1].facts.retired == ("GPU-1",)
        assert GPU_NOT_UP not in world.published[-1].facts.reasons


def test_two_gpus_that_claim_one_slot_are_one_device(tmp_path: Path) -> None:
    """Finding R1: however contradictory the driver's list is, the other GPUs are published."""
    world = AgentWorld(tmp_path, gpus=2)
    world.begin()
    world.turn(1010, listing(1010, gpu(0), gpu(1), board(1, "GPU-echo")))
    world.turn(1020, fault(0, 79, 1020))

    assert shown(world) == {name(0): ("GPU-0", "Xid79"), name(1): ("GPU-1", "None")}


def test_every_gpu_is_healthy_again_after_a_board_was_replaced(tmp_path: Path) -> None:
    """Finding R1: a retired board counts neither as missing nor among the suspects of the node."""
    world = AgentWorld(tmp_path, gpus=2)
    world.begin()
    world.turn(1010, fault(1, 79, 1010))
    world.turn(1020, listing(1020, gpu(0), board(1, "GPU-new")), good("GPU-new", 1020))

    assert world.states() == [HealthState.HEALTHY, HealthState.HEALTHY]
    facts = world.published[-1].facts
    assert (facts.expected_gpus, facts.missing_gpus, facts.reasons) == (2, (), ())
    assert inventory(0).gpus[1].uuid == "GPU-1"
