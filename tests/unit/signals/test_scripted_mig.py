"""Scripted GPUs in MIG mode: instances as the agent's real sources find them, and the driver's capability files."""

from pathlib import Path

import pytest

from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.signal import InventoryReport, XidReport
from gpuvitals.signals.kmsg.record import kmsg_record
from gpuvitals.signals.kmsg.xid_line import XidClassifier
from gpuvitals_sim.hardware.mig import capability_minors
from gpuvitals_sim.hardware.nvml_backend import BACKEND
from gpuvitals_sim.hardware.scripted_node import ScriptedNode
from gpuvitals_sim.hardware.state_file import StateError
from support.worlds.nvml_world import running


@pytest.fixture
def node(tmp_path: Path) -> ScriptedNode:
    return ScriptedNode.create(tmp_path / "node", name="n", profile="a100", gpus=2)


def access_files(node: ScriptedNode) -> dict[str, str]:
    """First line of each capability file, by its path."""
    root = node.proc_root / "driver" / "nvidia" / "capabilities"
    return {
        str(path.parent.relative_to(root)): path.read_text(encoding="ascii").splitlines()[0]
        for path in sorted(root.rglob("access"))
    }


def profiles(report: InventoryReport) -> list[str]:
    return [gpu.mig.profile for gpu in report.gpus if gpu.mig is not None]


def test_instances_are_made_and_destroyed_under_a_running_monitor(node: ScriptedNode) -> None:
    with running(backend=BACKEND, environment=node.environment(), sysfs=node.sysfs_root) as world:
        assert [gpu.mig_enabled for gpu in world.gpus()] == [False, False]
        node.divide(1, "3g.40gb", "1g.10gb")
        report = world.sink.wait(InventoryReport, lambda each: profiles(each) == ["3g.40gb", "1g.10gb"])
        assert [gpu.mig_enabled for gpu in report.gpus] == [False, True, False, False]
        node.create_instance(1, "1g.10gb")
        world.sink.wait(InventoryReport, lambda each: profiles(each) == ["3g.40gb", "1g.10gb", "1g.10gb"])
        node.destroy_instance(1, 1)
        world.sink.wait(InventoryReport, lambda each: profiles(each) == ["1g.10gb", "1g.10gb"])
        node.contained(1, 8, 94, "Contained: SM (0x1).")
        event = world.sink.wait(XidReport)
    assert (event.uuid, event.code, event.gpu_instance) == (GpuUuid(node.gpus[1].uuid), 94, 8)


def test_a_contained_line_is_as_the_driver_prints_it(node: ScriptedNode) -> None:
    node.contained(1, 8, 94)
    record = kmsg_record(node.kernel_log.read_bytes().splitlines()[-1])
    assert record is not None
    line = XidClassifier().classify(record)
    assert (line.code, line.gpu_instance, line.bus_id) == (94, 8, node.gpus[1].bus_id)


def test_capability_files_follow_the_instances_and_their_nodes_stay(node: ScriptedNode) -> None:
    node.divide(1, "2g.20gb", "1g.10gb")
    whole, part = capability_minors(1, 7)
    assert access_files(node) == {
        "gpu1/mig/gi3": f"DeviceFileMinor: {capability_minors(1, 3)[0]}",
        "gpu1/mig/gi3/ci0": f"DeviceFileMinor: {capability_minors(1, 3)[1]}",
        "gpu1/mig/gi7": f"DeviceFileMinor: {whole}",
        "gpu1/mig/gi7/ci0": f"DeviceFileMinor: {part}",
    }
    node.destroy_instance(1, 7)
    assert "gpu1/mig/gi7" not in access_files(node)
    nodes = {path.name for path in (node.driver_root / "dev" / "nvidia-caps").iterdir()}
    assert {f"nvidia-cap{whole}", f"nvidia-cap{part}"} <= nodes


def test_no_two_instances_share_a_node() -> None:
    places = [(gpu, number) for gpu in range(16) for number in range(15)]
    minors = [minor for gpu, number in places for minor in capability_minors(gpu, number)]
    assert len(set(minors)) == len(minors)


def test_the_profile_a100_mig_is_divided_from_the_start(tmp_path: Path) -> None:
    node = ScriptedNode.create(tmp_path / "m", name="n", profile="a100-mig", gpus=1)
    assert [each.profile for each in node.gpus[0].mig.instances] == [
        "3g.40gb",
        "2g.20gb",
        "1g.10gb",
        "1g.10gb",
    ]
    assert len(access_files(node)) == 8


@pytest.mark.parametrize(
    ("profiles", "said"),
    [
        (("1g.5gb",), "profile '1g.5gb' does not exist; there are 1g.10gb, 2g.20gb, 3g.40gb, 7g.80gb"),
        (("7g.80gb", "1g.10gb"), "no room for 1g.10gb; 7 of 7 slices are used"),
        (("3g.40gb", "3g.40gb", "2g.20gb"), "no room for 2g.20gb; 6 of 7"),
    ],
)
def test_what_a_gpu_has_no_room_for_is_refused(
    node: ScriptedNode, profiles: tuple[str, ...], said: str
) -> None:
    with pytest.raises(StateError, match=said):
        node.divide(0, *profiles)
    assert not node.gpus[0].mig.enabled


def test_an_instance_that_does_not_exist_is_not_destroyed(node: ScriptedNode) -> None:
    node.divide(0, "1g.10gb")
    with pytest.raises(StateError, match=r"instance 9 .* does not exist; there are 7"):
        node.destroy_instance(0, 9)
