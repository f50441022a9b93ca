"""The NVML monitor with its real worker process, over scripted GPUs: a fault of one GPU affects no other."""

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpuvitals.model.signal import (
    InventoryReport,
    LinkState,
    MonitorReport,
    MonitorState,
    Reading,
    ReadStatus,
    Source,
    XidReport,
)
from gpuvitals.signals.nvml.polling import NvmlPeriods
from gpuvitals_sim.hardware.nvml_backend import BACKEND
from gpuvitals_sim.hardware.scripted_node import ScriptedNode
from support.worlds.nvml_world import QUICK, NvmlWorld, running


@pytest.fixture
def node(tmp_path: Path) -> ScriptedNode:
    return ScriptedNode.create(tmp_path / "node", name="n", gpus=8)


def children() -> set[int]:
    """The child processes of this one."""
    found = [Path(f"/proc/self/task/{task}/children").read_text() for task in os.listdir("/proc/self/task")]
    return {int(pid) for text in found for pid in text.split()}


@contextmanager
def monitored(node: ScriptedNode) -> Iterator[NvmlWorld]:
    with running(backend=BACKEND, environment=node.environment(), sysfs=node.sysfs_root) as world:
        yield world


def test_the_inventory_names_every_gpu_with_its_facts(node: ScriptedNode) -> None:
    with monitored(node) as world:
        gpus = world.gpus()

    first = gpus[0]
    assert [gpu.uuid for gpu in gpus] == [script.uuid for script in node.gpus]
    assert (first.bus_id, first.product_name, first.expected_links) == (
        "0000:1b:00.0",
        "NVIDIA H100 80GB HBM3",
        18,
    )
    assert (first.numa_node, first.pcie_root, first.driver_version) == (0, "pci0000:1a", "595.45.04")
    assert (first.cuda_driver_version, first.cuda_compute_capability) == ("13.2", "9.0")


def test_a_poll_carries_the_readings(node: ScriptedNode) -> None:
    node.set(2, {"links_down": 3, "thermal_margin_celsius": -1, "unsupported": ["fabric"], "fabric": None})
    with monitored(node) as world:
        reading = world.sink.reading(world.gpus()[2], ReadStatus.OK)

    assert reading.links is not None
    assert reading.links.count(LinkState.INACTIVE) == 3
    assert (reading.thermal_margin_celsius, reading.fabric) == (-1, None)
    assert reading.unsupported == frozenset({"fabric"})
    assert reading.source is Source.NVML_POLL


def test_links_that_were_down_at_the_start_are_still_expected(node: ScriptedNode) -> None:
    """The siblings of its model tell how many a GPU should have."""
    node.set(0, {"links_down": 18})
    with monitored(node) as world:
        assert {gpu.expected_links for gpu in world.gpus()} == {18}


def test_a_lost_gpu_is_one_gpu(node: ScriptedNode) -> None:
    with monitored(node) as world:
        gpus = world.gpus()
        node.lose(5)
        world.monitor.request_poll(None)
        lost = world.sink.reading(gpus[5], ReadStatus.LOST)
        mark = world.sink.mark()
        for gpu in gpus:
            if gpu != gpus[5]:
                world.sink.reading(gpu, ReadStatus.OK, since=mark)
                assert world.sink.statuses(gpu) == {ReadStatus.OK}

    assert "lost" in lost.detail


def test_a_lost_gpu_keeps_its_identity_and_is_found_again_after_a_reset(node: ScriptedNode) -> None:
    with monitored(node) as world:
        gpus = world.gpus()
        node.lose(5)
        world.sink.reading(gpus[5], ReadStatus.LOST)
        missing = world.sink.wait(InventoryReport, lambda report: len(report.gpus) == 7)
        mark = world.sink.mark()
        node.reset(5)
        world.monitor.request_poll(gpus[5].uuid)
        world.sink.reading(gpus[5], ReadStatus.OK, since=mark)
        back = world.sink.wait(InventoryReport, since=mark)

    assert gpus[5] not in missing.gpus
    assert back.gpus == gpus


def test_a_gpu_that_does_not_say_who_it_is_is_logged_once(
    node: ScriptedNode, caplog: pytest.LogCaptureFixture
) -> None:
    """Each question about a lost GPU is asked of a new worker, which asks all for their names again."""
    node.lose(5)
    with caplog.at_level(logging.INFO, "gpuvitals.signals"), monitored(node) as world:
        gpus = world.gpus()
        for _ in range(3):
            mark = world.sink.mark()
            time.sleep(QUICK.fresh)
            world.monitor.request_poll(None)
            world.sink.reading(gpus[0], ReadStatus.OK, since=mark)
        node.reset(5)
        world.sink.wait(InventoryReport, lambda report: len(report.gpus) == 8)

    said = [record.getMessage() for record in caplog.records if "identified" in record.getMessage()]
    assert said == ["gpu can't be identified", "gpu can be identified again"]


def test_an_index_that_shifts_blames_nobody(node: ScriptedNode) -> None:
    """Identity is the UUID: when the first GPU vanishes, each other is still read as itself."""
    with monitored(node) as world:
        gpus = world.gpus()
        node.vanish(0)
        world.sink.reading(gpus[0], ReadStatus.LOST)
        shrunk = world.sink.wait(InventoryReport, lambda report: len(report.gpus) == 7)
        statuses = [world.sink.statuses(gpu) for gpu in gpus[1:]]

    assert shrunk.gpus == gpus[1:]
    assert all(found <= {ReadStatus.OK} for found in statuses)


def test_a_hung_call_blames_its_gpu_and_the_siblings_are_read_on(node: ScriptedNode) -> None:
    with monitored(node) as world:
        gpus = world.gpus()
        world.sink.reading(gpus[7], ReadStatus.OK)
        node.hang(3, 60)
        hung = world.sink.reading(gpus[3], ReadStatus.HUNG)
        mark = world.sink.mark()
        children = set()
        for gpu in (gpus[0], gpus[7], gpus[0], gpus[7]):
            world.sink.reading(gpu, ReadStatus.OK, since=mark)
            mark = world.sink.mark()
            children.add(world.monitor.children)
        siblings = [world.sink.statuses(gpu) for gpu in gpus if gpu != gpus[3]]

    assert "did not return" in hung.detail
    assert max(children) <= 2
    assert all(found == {ReadStatus.OK} for found in siblings)


def test_a_gpu_that_no_longer_hangs_is_polled_again(node: ScriptedNode) -> None:
    with monitored(node) as world:
        gpus = world.gpus()
        node.hang(3, 60)
        world.sink.reading(gpus[3], ReadStatus.HUNG)
        mark = world.sink.mark()
        node.hang(3, 0)
        world.monitor.request_poll(gpus[3].uuid)
        world.sink.reading(gpus[3], ReadStatus.OK, since=mark)


def test_a_gpu_that_hangs_when_the_agent_starts_hides_no_sibling(node: ScriptedNode) -> None:
    with monitored(node) as world:
        known = world.gpus()
    node.hang(2, 60)
    with running(
        backend=BACKEND, environment=node.environment(), sysfs=node.sysfs_root, remembered=known
    ) as world:
        gpus = world.gpus()
        world.sink.reading(known[2], ReadStatus.HUNG)
        world.sink.reading(known[1], ReadStatus.OK)
        world.sink.reading(known[7], ReadStatus.OK)

    assert gpus == known


def test_a_slow_call_is_not_a_hung_one(node: ScriptedNode) -> None:
    """One missed deadline is a strike; the answer that comes before the second counts."""
    with monitored(node) as world:
        gpus = world.gpus()
        world.sink.reading(gpus[1], ReadStatus.OK)
        mark = world.sink.mark()
        node.hang(1, 0.6)
        world.sink.reading(gpus[7], ReadStatus.OK, since=mark)
        time.sleep(0.7)
        world.sink.reading(gpus[1], ReadStatus.OK, since=world.sink.mark())
        statuses = world.sink.statuses(gpus[1])

    assert statuses == {ReadStatus.OK}


def test_a_killed_worker_is_replaced(node: ScriptedNode) -> None:
    others = children()
    with monitored(node) as world:
        gpus = world.gpus()
        (worker,) = children() - others
        mark = world.sink.mark()
        os.kill(worker, 9)
        world.sink.wait(MonitorReport, lambda report: report.state is MonitorState.UNRESPONSIVE, since=mark)
        world.sink.wait(MonitorReport, lambda report: report.state is MonitorState.WATCHING, since=mark)
        world.sink.reading(gpus[0], ReadStatus.OK, since=world.sink.mark())


def test_an_xid_event_is_a_report_of_that_gpu(node: ScriptedNode) -> None:
    with monitored(node) as world:
        gpus = world.gpus()
        world.sink.reading(gpus[7], ReadStatus.OK)
        node.event(4, xid=94)
        report = world.sink.wait(XidReport)

    assert (report.uuid, report.code, report.source) == (gpus[4].uuid, 94, Source.NVML_EVENT)
    assert (report.gpu_instance, report.record_seq) == (None, None)


def test_a_change_of_the_recovery_action_is_read_at_once(node: ScriptedNode) -> None:
    slow = NvmlPeriods(poll=3600, probe=3600, look=3600)
    with running(
        backend=BACKEND, environment=node.environment(), sysfs=node.sysfs_root, periods=slow
    ) as world:
        gpus = world.gpus()
        world.sink.reading(gpus[6], ReadStatus.OK)
        mark = world.sink.mark()
        node.set(6, {"recovery_action": 1})
        node.event(6)
        reading = world.sink.wait(Reading, lambda entry: entry.recovery_action == 1, since=mark)

    assert reading.uuid == gpus[6].uuid


def test_after_xid_119_a_gpu_is_left_alone_until_it_settles(node: ScriptedNode) -> None:
    calm = NvmlPeriods(poll=0.1, settle=3600, probe=3600, look=3600)
    with running(
        backend=BACKEND, environment=node.environment(), sysfs=node.sysfs_root, periods=calm
    ) as world:
        gpus = world.gpus()
        world.sink.reading(gpus[1], ReadStatus.OK)
        world.monitor.avoid(gpus[0].uuid)
        time.sleep(0.2)
        mark = world.sink.mark()
        world.sink.reading(gpus[1], ReadStatus.OK, since=mark)
        world.sink.reading(gpus[1], ReadStatus.OK, since=world.sink.mark())
        polled = world.sink.statuses(gpus[0], since=mark)

    assert polled == set()


@pytest.mark.parametrize(("code", "said"), [(9, "Driver Not Loaded"), (18, "version mismatch")])
def test_an_absent_driver_is_said_and_a_late_one_is_found(node: ScriptedNode, code: int, said: str) -> None:
    node.unload_driver(code)
    with monitored(node) as world:
        absent = world.sink.wait(MonitorReport)
        assert world.monitor.discover(0.1) is None
        node.load_driver("600.1")
        found = world.monitor.discover(10)

    assert absent.state is MonitorState.DRIVER_ABSENT
    assert said in absent.detail
    assert absent.detail.endswith("the kernel has nvidia 595.45.04 loaded")
    assert found is not None
    assert {gpu.driver_version for gpu in found} == {"600.1"}


def test_a_driver_loaded_anew_gives_a_new_inventory(node: ScriptedNode) -> None:
    with monitored(node) as world:
        first = world.sink.wait(InventoryReport)
        mark = world.sink.mark()
        node.load_driver()
        second = world.sink.wait(InventoryReport, since=mark)

    assert second.gpus == first.gpus
    assert second.driver_load != first.driver_load


def test_quiesce_leaves_no_process_and_resume_reads_on(node: ScriptedNode) -> None:
    with monitored(node) as world:
        gpus = world.gpus()
        assert world.monitor.quiesce(5)
        assert world.monitor.children == 0
        mark = world.sink.mark()
        world.monitor.request_poll(None)
        time.sleep(0.3)
        assert {status for gpu in gpus for status in world.sink.statuses(gpu, since=mark)} == {
            ReadStatus.QUIESCED
        }
        world.monitor.resume()
        world.sink.reading(gpus[0], ReadStatus.OK, since=mark)


def test_a_gpu_that_appears_on_the_bus_is_found(node: ScriptedNode) -> None:
    node.vanish(7)
    with monitored(node) as world:
        assert len(world.gpus()) == 7
        node.reset(7)
        world.sink.wait(InventoryReport, lambda report: len(report.gpus) == 8)


def test_a_gpu_lost_before_the_agent_started_is_still_known(node: ScriptedNode) -> None:
    with monitored(node) as world:
        known = world.gpus()
    node.lose(1)
    with running(
        backend=BACKEND, environment=node.environment(), sysfs=node.sysfs_root, remembered=known
    ) as world:
        world.sink.reading(known[1], ReadStatus.LOST)
        world.sink.reading(known[0], ReadStatus.OK)


def test_a_backend_that_does_not_exist_is_blindness_not_a_crash(tmp_path: Path) -> None:
    with running(backend="gpuvitals.nothing:here", environment={}, sysfs=tmp_path) as world:
        report = world.sink.wait(MonitorReport)

    assert report.state is MonitorState.UNRESPONSIVE


def test_a_count_that_cannot_be_true_is_told_and_not_walked_through(tmp_path: Path) -> None:
    """Finding N5: the number is the library's, and a walk through 2^32 indexes would never end."""
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    with running(
        backend="support.fakes.countless_gpus:Countless", environment=environment, sysfs=tmp_path
    ) as world:
        told = world.sink.wait(MonitorReport, lambda report: report.state is MonitorState.UNRESPONSIVE)
        assert "counts 4294967295 GPUs" in told.detail
