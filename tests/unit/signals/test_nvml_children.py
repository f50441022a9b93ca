"""Workers hung in calls that even SIGKILL does not end: there are never more than two child processes."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpuvitals.model.signal import MonitorReport, MonitorState, ReadStatus
from gpuvitals_sim.hardware.scripted_node import ScriptedNode
from support.fakes.hung_worker import BACKEND, LET_GO
from support.worlds.nvml_world import NvmlWorld, running

SUPPORT = Path(__file__).resolve().parents[2]


@pytest.fixture
def node(tmp_path: Path) -> ScriptedNode:
    return ScriptedNode.create(tmp_path / "node", name="n", gpus=8)


@contextmanager
def stubborn(node: ScriptedNode) -> Iterator[NvmlWorld]:
    """A monitor whose workers do not die before the file is there."""
    let_go = node.directory / "let-go"
    environment = {
        **node.environment(),
        LET_GO: str(let_go),
        "PYTHONPATH": os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")]),
    }
    try:
        with running(backend=BACKEND, environment=environment, sysfs=node.sysfs_root) as world:
            try:
                yield world
            finally:
                let_go.touch()
    finally:
        let_go.touch()


def watched(world: NvmlWorld, seconds: float) -> set[int]:
    """How many children there were at any time."""
    found, ends = set(), time.monotonic() + seconds
    while time.monotonic() < ends:
        found.add(world.monitor.children)
        time.sleep(0.01)
    return found


def test_one_stuck_worker_has_one_replacement_which_reads_the_siblings(node: ScriptedNode) -> None:
    with stubborn(node) as world:
        gpus = world.gpus()
        world.sink.reading(gpus[7], ReadStatus.OK)
        node.hang(1, 60)
        world.sink.reading(gpus[1], ReadStatus.HUNG)
        mark = world.sink.mark()
        world.sink.reading(gpus[0], ReadStatus.OK, since=mark)
        world.sink.reading(gpus[7], ReadStatus.OK, since=mark)
        world.monitor.request_poll(gpus[1].uuid)

        assert watched(world, 2.0) == {2}
        assert world.sink.statuses(gpus[0], since=mark) == {ReadStatus.OK}


def test_a_second_stuck_worker_is_not_replaced_until_one_of_them_is_gone(node: ScriptedNode) -> None:
    """The agent is blind then, and says so; it is back by itself."""
    with stubborn(node) as world:
        gpus = world.gpus()
        world.sink.reading(gpus[7], ReadStatus.OK)
        node.hang(1, 60)
        world.sink.reading(gpus[1], ReadStatus.HUNG)
        world.sink.reading(gpus[7], ReadStatus.OK, since=world.sink.mark())
        mark = world.sink.mark()
        node.hang(4, 60)
        world.sink.reading(gpus[4], ReadStatus.HUNG)
        blind = world.sink.wait(
            MonitorReport, lambda report: report.state is MonitorState.UNRESPONSIVE, since=mark
        )
        assert watched(world, 3.0) == {2}
        assert "have not exited" in blind.detail

        mark = world.sink.mark()
        (node.directory / "let-go").touch()
        world.sink.wait(MonitorReport, lambda report: report.state is MonitorState.WATCHING, since=mark)
        for gpu in (gpus[0], gpus[7]):
            world.sink.reading(gpu, ReadStatus.OK, since=mark)
