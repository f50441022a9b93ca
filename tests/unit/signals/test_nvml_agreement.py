"""The scripted backend and the real binding read the same values of the same scripted GPUs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gpuvitals.model.signal import Checkup, Reading, ReadStatus, XidReport
from gpuvitals_sim.hardware.nvml_backend import BACKEND
from gpuvitals_sim.hardware.profiles import PROFILES
from gpuvitals_sim.hardware.scripted_node import ScriptedNode
from support.fakes.nvml_mock import library
from support.signals import moment
from support.worlds.nvml_world import NvmlWorld, running

pytestmark = pytest.mark.needs_cc

NEVER = moment(0.0)

Story = Callable[[ScriptedNode], None]

STORIES: dict[str, Story] = {
    "healthy": lambda node: None,
    "memory": lambda node: node.set(
        1,
        {
            "ecc_uncorrected_volatile": 7,
            "ecc_uncorrected_aggregate": 9,
            "ecc_corrected_volatile": 5,
            "sram_threshold_exceeded": True,
            "remap_pending": True,
            "remap_failed": True,
            "remapped_uncorrectable": 3,
            "banks_without_spare": 2,
        },
    ),
    "links": lambda node: node.set(1, {"links_down": 3, "fabric": "failed"}),
    "heat": lambda node: node.set(1, {"thermal_margin_celsius": -4, "hardware_slowdown": True}),
    "asks for a reset": lambda node: node.set(1, {"recovery_action": 1}),
    "fabric with less bandwidth": lambda node: node.set(1, {"fabric": "degraded"}),
    "lost": lambda node: node.lose(1),
    "requires a reset": lambda node: node.fail(1, 16),
    "lacks a fabric": lambda node: node.set(1, {"fabric": None, "unsupported": ["fabric"]}),
}


CHECKED: dict[str, dict[str, object]] = {
    "links": {"link_replays": 5, "link_recoveries": 2, "link_crc_errors": 7000},
    "links that stay down": {"link_recoveries_failed": 1, "link_errors_per_petabit": 6000},
    "lanes": {"pcie_lanes": 8, "pcie_generation": 1, "idle": True},
    "packets": {"pcie_replays": 900, "pcie_fatal_errors": 1},
    "pages": {"retired_pages": 63, "page_retirement_pending": True},
    "repair": {"repair_pending": True, "memory_unrepairable": True},
    "work": {"power_milliwatts": 700_000, "processes": 3},
    "what fails": {"pcie_replays": None, "pcie_lanes": None, "power_milliwatts": None},
}


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library(tmp_path_factory.mktemp("nvml"))


def seen_by_both(
    node: ScriptedNode, nvml: Path, look: Callable[[NvmlWorld], object]
) -> tuple[object, object]:
    with running(backend=BACKEND, environment=node.environment(), sysfs=node.sysfs_root) as world:
        scripted = look(world)
    with running(environment=node.library_environment(nvml), sysfs=node.sysfs_root) as world:
        return scripted, look(world)


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_both_name_the_same_gpus(profile: str, tmp_path: Path, nvml: Path) -> None:
    node = ScriptedNode.create(tmp_path, name="n", profile=profile, gpus=2)
    scripted, real = seen_by_both(node, nvml, NvmlWorld.gpus)

    assert real == scripted


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_a_healthy_gpu_reads_the_same(profile: str, tmp_path: Path, nvml: Path) -> None:
    node = ScriptedNode.create(tmp_path, name="n", profile=profile, gpus=1)
    scripted, real = seen_by_both(node, nvml, lambda world: of(world, 0, node))

    assert real == scripted


@pytest.mark.parametrize("story", STORIES)
def test_a_fault_reads_the_same(story: str, tmp_path: Path, nvml: Path) -> None:
    node = ScriptedNode.create(tmp_path, name="n", gpus=2)
    uuid = node.gpus[1].uuid

    def look(world: NvmlWorld) -> Reading:
        world.sink.wait(Reading, lambda entry: entry.uuid == uuid)
        STORIES[story](node)
        answers = not node.gpus[1].error
        # What was asked before the change is answered by the second reading at the latest.
        for _ in range(2):
            mark = world.sink.mark()
            found = world.sink.wait(
                Reading,
                lambda entry: entry.uuid == uuid and (entry.status is ReadStatus.OK) is answers,
                since=mark,
            )
        node.reset(1)
        return timeless(found)

    scripted, real = seen_by_both(node, nvml, look)

    assert real == scripted


@pytest.mark.parametrize("profile", ["b200", "h100", "l40s", "t4"])
@pytest.mark.parametrize("story", CHECKED)
def test_a_checkup_reads_the_same(story: str, profile: str, tmp_path: Path, nvml: Path) -> None:
    node = ScriptedNode.create(tmp_path, name="n", profile=profile, gpus=1)
    lacking = node.gpus[0].checkup.unsupported
    node.set(0, {name: value for name, value in CHECKED[story].items() if name not in lacking})

    def look(world: NvmlWorld) -> Checkup:
        found = world.sink.wait(Checkup)
        return replace(found, seen=NEVER, detail="")

    scripted, real = seen_by_both(node, nvml, look)

    assert real == scripted
    assert isinstance(real, Checkup)
    assert real.unsupported == lacking


def test_an_xid_of_an_instance_is_heard_the_same(tmp_path: Path, nvml: Path) -> None:
    node = ScriptedNode.create(tmp_path, name="n", profile="a100-mig", gpus=2)

    def look(world: NvmlWorld) -> tuple[object, ...]:
        world.sink.wait(Reading, lambda entry: entry.uuid == node.gpus[1].uuid)
        node.event(1, xid=94, gpu_instance=7)
        heard = world.sink.wait(XidReport)
        return heard.uuid, heard.code, heard.gpu_instance, heard.compute_instance

    scripted, real = seen_by_both(node, nvml, look)

    assert real == scripted


def of(world: NvmlWorld, index: int, node: ScriptedNode) -> Reading:
    return timeless(world.sink.wait(Reading, lambda entry: entry.uuid == node.gpus[index].uuid))


def timeless(reading: Reading) -> Reading:
    """The reading without when it was made, and without the words of the library."""
    return replace(reading, seen=NEVER, detail="")
