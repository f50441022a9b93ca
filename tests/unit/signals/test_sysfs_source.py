"""The PCI bus in sysfs: presence and config space, reported when they change."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpuvitals.model.ids import PciBusId
from gpuvitals.model.signal import ConfigSpace, MonitorReport, MonitorState, PresenceReport
from gpuvitals.signals.clock import SystemClock
from gpuvitals.signals.sysfs import SysfsSource, SysfsTree
from gpuvitals_sim.hardware.scripted_node import ScriptedNode
from gpuvitals_sim.hardware.sysfs import SysfsFolder
from support.worlds.nvml_world import Recorder


@pytest.fixture
def node(tmp_path: Path) -> ScriptedNode:
    return ScriptedNode.create(tmp_path / "node", name="n", gpus=4)


@contextmanager
def looking(node: ScriptedNode) -> Iterator[Recorder]:
    sink = Recorder()
    source = SysfsSource(SysfsTree(node.sysfs_root), SystemClock(), sink, period_seconds=0.02)
    source.watch(PciBusId(gpu.bus_id) for gpu in node.gpus)
    source.start()
    try:
        yield sink
    finally:
        source.stop(5)


def presence(sink: Recorder, bus_id: str, *, since: int = 0) -> PresenceReport:
    return sink.wait(PresenceReport, lambda report: report.bus_id == bus_id, since=since)


def test_each_gpu_is_reported_once_while_nothing_changes(node: ScriptedNode) -> None:
    with looking(node) as sink:
        for gpu in node.gpus:
            report = presence(sink, gpu.bus_id)
            assert (report.present, report.config_space) == (True, ConfigSpace.ANSWERS)
        time.sleep(0.1)
        reports = [signal for signal in sink.signals if isinstance(signal, PresenceReport)]

    assert len(reports) == 4


def test_config_space_of_all_ones_is_a_gpu_off_the_bus(node: ScriptedNode) -> None:
    gpu = node.gpus[2]
    with looking(node) as sink:
        presence(sink, gpu.bus_id)
        mark = sink.mark()
        node.off_bus(2)
        off = presence(sink, gpu.bus_id, since=mark)
        mark = sink.mark()
        node.reset(2)
        back = sink.wait(
            PresenceReport, lambda report: report.config_space is ConfigSpace.ANSWERS, since=mark
        )

    assert (off.present, off.config_space) == (True, ConfigSpace.ALL_ONES)
    assert back.bus_id == gpu.bus_id


def test_a_device_without_a_directory_is_gone(node: ScriptedNode) -> None:
    with looking(node) as sink:
        presence(sink, node.gpus[1].bus_id)
        mark = sink.mark()
        node.vanish(1)
        report = sink.wait(PresenceReport, lambda entry: not entry.present, since=mark)

    assert report.bus_id == node.gpus[1].bus_id


def test_a_bus_that_cannot_be_seen_says_nothing_about_any_gpu(node: ScriptedNode) -> None:
    with looking(node) as sink:
        presence(sink, node.gpus[3].bus_id)
        mark = sink.mark()
        shutil.move(node.sysfs_root, node.directory / "away")
        blind = sink.wait(MonitorReport, since=mark)
        time.sleep(0.06)
        reports = [signal for signal in sink.signals[mark:] if isinstance(signal, PresenceReport)]

    assert blind.state is MonitorState.UNREADABLE
    assert [report for report in reports if report.present is False] == []


def test_a_device_that_was_never_shown_is_not_reported_gone(node: ScriptedNode) -> None:
    """Finding N3: the bus shows three of four GPUs; nothing is said of the fourth until it was seen there."""
    node.vanish(1)
    with looking(node) as sink:
        for gpu in (node.gpus[0], node.gpus[2], node.gpus[3]):
            presence(sink, gpu.bus_id)
        mark = sink.mark()
        node.vanish(3)
        gone = sink.wait(PresenceReport, lambda entry: not entry.present, since=mark)
        blind = [entry.state for entry in sink.signals if isinstance(entry, MonitorReport)]
        named = {entry.bus_id for entry in sink.signals if isinstance(entry, PresenceReport)}

    assert gone.bus_id == node.gpus[3].bus_id
    assert blind == [MonitorState.WATCHING]
    assert node.gpus[1].bus_id not in named


def test_a_bus_that_shows_no_gpu_at_all_is_blindness(node: ScriptedNode) -> None:
    """Finding N3: the monitor says so once, and sees as soon as the bus shows a GPU."""
    for index in range(4):
        node.vanish(index)
    with looking(node) as sink:
        blind = sink.wait(MonitorReport)
        SysfsFolder(node.sysfs_root).add(node.gpus[2])
        presence(sink, node.gpus[2].bus_id)
        sees = sink.wait(MonitorReport, lambda entry: entry.state is MonitorState.WATCHING)
        absent = [entry for entry in sink.signals if isinstance(entry, PresenceReport) and not entry.present]

    assert (blind.state, "shows none" in blind.detail) == (MonitorState.UNREADABLE, True)
    assert (sees.state, absent) == (MonitorState.WATCHING, [])


def test_a_device_whose_folder_can_not_be_followed_is_not_gone(node: ScriptedNode) -> None:
    """Finding N3: where only a part of sysfs is mounted a link leads nowhere."""
    bus_id = PciBusId(node.gpus[0].bus_id)
    shutil.rmtree(node.sysfs_root / "devices")

    assert SysfsTree(node.sysfs_root).config_space(bus_id) is ConfigSpace.UNREADABLE
    assert SysfsTree(node.sysfs_root).config_space(PciBusId("0000:fe:00.0")) is None


def test_placement_is_numa_node_and_root(node: ScriptedNode) -> None:
    placement = SysfsTree(node.sysfs_root).placement(PciBusId(node.gpus[0].bus_id))

    assert (placement.numa_node, placement.pcie_root) == (0, "pci0000:1a")


def test_no_numa_node_is_none(node: ScriptedNode) -> None:
    bus_id = PciBusId(node.gpus[0].bus_id)
    (node.sysfs_root / "bus" / "pci" / "devices" / bus_id / "numa_node").write_text("-1\n")

    assert SysfsTree(node.sysfs_root).placement(bus_id).numa_node is None


def test_the_drivers_gpus_are_those_bound_to_it(node: ScriptedNode) -> None:
    devices = node.sysfs_root / "bus" / "pci" / "devices"
    (devices / node.gpus[0].bus_id / "driver").unlink()
    (devices / node.gpus[1].bus_id / "class").write_text("0x020000\n")

    assert SysfsTree(node.sysfs_root).driver_gpus() == {gpu.bus_id for gpu in node.gpus[2:]}


def test_a_driver_loaded_anew_has_another_name(node: ScriptedNode) -> None:
    tree = SysfsTree(node.sysfs_root)
    first = tree.driver_load("595.1")
    node.load_driver()

    assert tree.driver_load("595.1") != first
    assert SysfsTree(node.directory).driver_load("595.1") == "595.1"


def test_an_unreadable_config_space_is_neither_gone_nor_off(node: ScriptedNode) -> None:
    bus_id = PciBusId(node.gpus[0].bus_id)
    (node.sysfs_root / "bus" / "pci" / "devices" / bus_id / "config").write_bytes(b"\xff")

    assert SysfsTree(node.sysfs_root).config_space(bus_id) is ConfigSpace.UNREADABLE


def test_the_module_is_named_with_its_version_or_said_to_be_missing(
    node: ScriptedNode, tmp_path: Path
) -> None:
    tree = SysfsTree(node.sysfs_root)
    assert tree.module_text() == "the kernel has nvidia 595.45.04 loaded"
    (node.sysfs_root / "module" / "nvidia" / "version").unlink()
    assert tree.module_text() == "the kernel has nvidia loaded"
    assert SysfsTree(tmp_path).module_text() == "the kernel has no module nvidia loaded"
