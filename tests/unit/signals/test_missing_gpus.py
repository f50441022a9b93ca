"""GPUs on the bus that the driver does not enumerate, and the kernel's count of PCIe errors."""

import os
from pathlib import Path

import pytest

from gpuvitals.model.ids import PciBusId
from gpuvitals.model.signal import InventoryReport, PresenceReport
from gpuvitals.signals.clock import SystemClock
from gpuvitals.signals.sysfs import SysfsSource, SysfsTree
from gpuvitals_sim.hardware.nvml_backend import BACKEND
from gpuvitals_sim.hardware.scripted_node import ScriptedNode
from support.worlds.nvml_world import Recorder, running


@pytest.fixture
def node(tmp_path: Path) -> ScriptedNode:
    return ScriptedNode.create(tmp_path / "node", name="n", gpus=4)


def unbind(node: ScriptedNode, gpu: int, driver: str = "") -> None:
    """Takes a GPU from NVIDIA's driver, perhaps to another one."""
    link = node.sysfs_root / "bus" / "pci" / "devices" / node.gpus[gpu].bus_id / "driver"
    link.unlink()
    if driver:
        link.symlink_to(Path("../../../../bus/pci/drivers") / driver)


def test_a_gpu_that_never_came_up_is_named_with_the_inventory(node: ScriptedNode) -> None:
    node.hide(2)
    with running(backend=BACKEND, environment=node.environment(), sysfs=node.sysfs_root) as world:
        report = world.sink.wait(InventoryReport)

    assert len(report.gpus) == 3
    assert report.not_up == (node.gpus[2].bus_id,)


def test_a_gpu_whose_probe_failed_is_bound_to_nothing_and_missed(node: ScriptedNode) -> None:
    node.hide(2)
    unbind(node, 2)

    assert SysfsTree(node.sysfs_root).expected_gpus() == {gpu.bus_id for gpu in node.gpus}
    assert SysfsTree(node.sysfs_root).driver_gpus() == {
        gpu.bus_id for gpu in node.gpus if gpu != node.gpus[2]
    }


def test_a_gpu_that_is_another_drivers_is_not_missed(node: ScriptedNode) -> None:
    node.hide(2)
    unbind(node, 2, "vfio-pci")
    with running(backend=BACKEND, environment=node.environment(), sysfs=node.sysfs_root) as world:
        report = world.sink.wait(InventoryReport)

    assert report.not_up == ()


def test_a_gpu_that_comes_up_late_is_missed_no_more(node: ScriptedNode) -> None:
    node.hide(2)
    with running(backend=BACKEND, environment=node.environment(), sysfs=node.sysfs_root) as world:
        world.sink.wait(InventoryReport, lambda report: report.not_up != ())
        node.reset(2)
        found = world.sink.wait(InventoryReport, lambda report: len(report.gpus) == 4)

    assert found.not_up == ()


def test_a_bus_that_cannot_be_listed_misses_nobody(node: ScriptedNode) -> None:
    away = node.sysfs_root.with_name("elsewhere")
    with running(backend=BACKEND, environment=node.environment(), sysfs=away) as world:
        report = world.sink.wait(InventoryReport)

    assert report.not_up == ()


def test_the_kernels_count_of_fatal_errors_is_reported_when_it_grows(node: ScriptedNode) -> None:
    bus_id = PciBusId(node.gpus[1].bus_id)
    sink = Recorder()
    source = SysfsSource(SysfsTree(node.sysfs_root), SystemClock(), sink, period_seconds=0.02)
    source.watch([bus_id])
    source.start()
    try:
        first = sink.wait(PresenceReport)
        node.pcie_errors(1, 3)
        grown = sink.wait(PresenceReport, lambda report: report.fatal_errors == 3)
    finally:
        source.stop(5)

    assert (first.fatal_errors, grown.present) == (None, True)


@pytest.mark.parametrize("text", ["", "TOTAL_ERR_FATAL", "TOTAL_ERR_FATAL -1\n", "TOTAL_ERR_FATAL \u0663\n"])
def test_a_count_that_is_none_is_not_believed(node: ScriptedNode, text: str) -> None:
    bus_id = PciBusId(node.gpus[1].bus_id)
    path = node.sysfs_root / "bus" / "pci" / "devices" / bus_id / "aer_dev_fatal"
    path.write_bytes(os.fsencode(text))

    assert SysfsTree(node.sysfs_root).fatal_errors(bus_id) is None
