"""Checks of the driver's files: when the agent publishes a device, and in which state."""

from pathlib import Path

import pytest

from gpuvitals.health.restored_faults import PublishedVerdict
from gpuvitals.health.unusable import FILE_REASONS
from gpuvitals.model.files import FilesCheck, Lack
from gpuvitals.model.health import HealthState
from gpuvitals.model.ids import GpuUuid
from gpuvitals.node.events import lack_events
from support.worlds.agent_world import AgentWorld, gpu, inventory, reading

UVM = Lack(FILE_REASONS[1], "no nvidia-uvm; `nvidia-modprobe -u -c0` makes it")
CUDA = Lack(FILE_REASONS[0], "no libcuda.so.1")


def uuids(*indexes: int) -> frozenset[GpuUuid]:
    return frozenset(gpu(index).uuid for index in indexes)


def seen(checked: frozenset[GpuUuid], **lacks: Lack) -> FilesCheck:
    """`lacks` by `g` and index."""
    found = {gpu(int(name[1:])).uuid: lack for name, lack in lacks.items()}
    return FilesCheck(checked=checked, lacks=found)


def first_turn(world: AgentWorld, at: float) -> None:
    world.turn(at, inventory(at, 2), *(reading(index, at) for index in range(2)))


@pytest.fixture
def world(tmp_path: Path) -> AgentWorld:
    return AgentWorld(tmp_path, gpus=2)


def shown(world: AgentWorld) -> dict[str, str]:
    """The reason that each published device carries."""
    return {entry.gpu.uuid: entry.shown.reason for entry in world.published[-1].gpus}


def test_nothing_is_published_before_each_device_was_looked_at(world: AgentWorld) -> None:
    """Finding P2: no pod is attracted by a device of which nobody knows whether it can be prepared."""
    world.files.seen = seen(uuids(0))
    first_turn(world, 1000)
    world.turn(1002)
    assert world.published == []
    world.files.seen = seen(uuids(0, 1))
    world.turn(1003)
    assert set(shown(world).values()) == {"None"}


def test_a_look_that_never_comes_is_waited_for_a_few_seconds_only(world: AgentWorld) -> None:
    world.files.seen = seen(frozenset())
    first_turn(world, 1000)
    world.turn(1004.9)
    assert world.published == []
    world.turn(1005)
    assert len(world.published[-1].gpus) == 2


def test_files_that_are_coming_up_are_waited_for_before_the_first_snapshot(world: AgentWorld) -> None:
    """Finding P2: then a device that still lacks something is published, and out of service from the start."""
    world.files.seen = seen(uuids(0, 1), g0=UVM)
    first_turn(world, 1000)
    world.turn(1004)
    assert world.published == []
    world.turn(1005)
    assert shown(world) == {gpu(0).uuid: "DeviceNodesMissing", gpu(1).uuid: "None"}
    first, second = world.published[-1].gpus
    assert (first.isolated, second.isolated) == (True, False)
    assert (first.verdict.state, first.shown.state) == (HealthState.HEALTHY, HealthState.UNHEALTHY)
    assert [each.reason for each in world.events] == ["DeviceNodesMissing"]


def test_a_lack_and_its_end_are_one_snapshot_each(world: AgentWorld) -> None:
    world.files.seen = seen(uuids(0, 1))
    first_turn(world, 1000)
    count = len(world.published)
    world.files.seen = seen(uuids(0, 1), g0=UVM, g1=UVM)
    for at in range(1010, 1020, 2):
        world.turn(at, *(reading(index, at) for index in range(2)))
    assert len(world.published) == count + 1
    world.files.seen = seen(uuids(0, 1))
    for at in range(1020, 1030, 2):
        world.turn(at, *(reading(index, at) for index in range(2)))
    assert len(world.published) == count + 2
    assert not any(entry.isolated for entry in world.published[-1].gpus)
    assert [each.reason for each in world.events] == ["DeviceNodesMissing", "DriverFilesFound"]


def test_a_restarted_agent_publishes_no_device_as_prepared_before_its_first_check(
    world: AgentWorld, tmp_path: Path
) -> None:
    """Finding P2: nor does it take the lack for a fault of the GPU that it remembers."""
    world.files.seen = seen(uuids(0, 1))
    first_turn(world, 1000)
    world.files.seen = seen(uuids(0, 1), g0=UVM)
    world.turn(1010)
    heir = AgentWorld(tmp_path, gpus=2)
    heir.files.seen = seen(frozenset())
    first_turn(heir, 1020)
    assert heir.published == []
    heir.files.seen = seen(uuids(0, 1), g0=UVM)
    heir.turn(1022)
    assert shown(heir)[gpu(0).uuid] == "DeviceNodesMissing"
    heir.files.seen = seen(uuids(0, 1))
    heir.turn(1024)
    assert set(shown(heir).values()) == {"None"}
    assert not any(entry.isolated for entry in heir.published[-1].gpus)


@pytest.mark.parametrize("reason", FILE_REASONS)
def test_a_published_lack_is_no_fault_where_the_memory_could_not_be_read(tmp_path: Path, reason: str) -> None:
    heir = AgentWorld(tmp_path, gpus=2)
    heir.stored_verdicts.verdicts = (
        PublishedVerdict(
            uuid=gpu(0).uuid,
            state="Unhealthy",
            reason=reason,
            isolated=True,
            origin="the slice",
            boot_id="boot-1",
        ),
    )
    first_turn(heir, 1000)
    assert {entry.verdict.state for entry in heir.published[-1].gpus} == {HealthState.HEALTHY}


def test_announcements_are_one_a_cause() -> None:
    one, two, three = uuids(0), uuids(1), uuids(2)
    both = dict.fromkeys(one | two, UVM)
    assert [each.reason for each in lack_events({}, both)] == ["DeviceNodesMissing"]
    assert lack_events({}, both)[0].message.startswith("2 devices")
    assert lack_events(both, dict.fromkeys(one | three, UVM)) == ()
    assert [each.reason for each in lack_events(both, dict.fromkeys(one, CUDA))] == ["DriverLibrariesMissing"]
    assert [each.warning for each in lack_events(both, {})] == [False]
