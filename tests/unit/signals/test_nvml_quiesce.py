"""Quiesce: no process of the agent has the GPU open, the other GPUs are still polled, and its verdict stays."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpuvitals.model.gpu import Gpu
from gpuvitals.model.signal import InventoryReport, ReadStatus
from support.fakes.nvml_mock import MockState, library
from support.worlds.nvml_world import NvmlWorld, running

pytestmark = pytest.mark.needs_cc


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def state(tmp_path: Path) -> MockState:
    return MockState(tmp_path / "nvml.state")


@contextmanager
def monitored(state: MockState, nvml: Path) -> Iterator[NvmlWorld]:
    environment = {
        "LD_LIBRARY_PATH": str(nvml),
        "NVML_MOCK_STATE": str(state.path),
        "NVML_MOCK_TRACE": str(trace(state)),
    }
    with running(environment=environment, sysfs=state.path.parent / "sys") as world:
        yield world


def trace(state: MockState) -> Path:
    return state.path.with_name("trace")


def touched(state: MockState) -> set[int]:
    """The GPUs that any call was about since the trace was last cleared."""
    return {int(line.split()[2]) for line in trace(state).read_text().splitlines()}


def read_on(world: NvmlWorld, gpus: tuple[Gpu, ...]) -> None:
    """Each of them is read twice from now on."""
    for _ in range(2):
        mark = world.sink.mark()
        for gpu in gpus:
            world.sink.reading(gpu, ReadStatus.OK, since=mark)


def test_no_call_is_about_the_gpu_that_is_left_alone_and_the_others_are_read_on(
    state: MockState, nvml: Path
) -> None:
    """Not even the library's start: it would attach to every GPU."""
    with monitored(state, nvml) as world:
        gpus = world.gpus()
        read_on(world, gpus)
        assert world.monitor.quiesce(10, [gpus[3].uuid])
        trace(state).write_text("")
        mark = world.sink.mark()
        read_on(world, (*gpus[:3], *gpus[4:]))
        world.monitor.request_poll(gpus[3].uuid)
        world.monitor.avoid(gpus[3].uuid)
        read_on(world, (*gpus[:3], *gpus[4:]))

        assert touched(state) == {0, 1, 2, 4, 5, 6, 7}
        assert world.sink.statuses(gpus[3], since=mark) == {ReadStatus.QUIESCED}
        mark = world.sink.mark()
        world.monitor.resume([gpus[3].uuid])
        world.sink.reading(gpus[3], ReadStatus.OK, since=mark)
        read_on(world, gpus)

    assert all(len(report.gpus) == 8 for report in world.sink.signals if isinstance(report, InventoryReport))


def test_two_gpus_come_back_one_after_the_other(state: MockState, nvml: Path) -> None:
    with monitored(state, nvml) as world:
        gpus = world.gpus()
        assert world.monitor.quiesce(10, [gpus[0].uuid])
        assert world.monitor.quiesce(10, [gpus[1].uuid])
        world.monitor.resume([gpus[1].uuid])
        trace(state).write_text("")
        read_on(world, gpus[1:])
        assert 0 not in touched(state)
        world.monitor.resume()
        read_on(world, gpus)


def test_quiesce_of_all_leaves_no_process_and_says_so_of_each(state: MockState, nvml: Path) -> None:
    with monitored(state, nvml) as world:
        gpus = world.gpus()
        read_on(world, gpus)
        assert world.monitor.quiesce(10)
        assert world.monitor.children == 0
        trace(state).write_text("")
        mark = world.sink.mark()
        for gpu in gpus:
            world.sink.reading(gpu, ReadStatus.QUIESCED, since=mark)
        assert touched(state) == set()
        world.monitor.resume()
        read_on(world, gpus)


def test_a_gpu_that_hangs_is_let_go_of_too(state: MockState, nvml: Path) -> None:
    with monitored(state, nvml) as world:
        gpus = world.gpus()
        state.set(5, {"hang": 1})
        world.sink.reading(gpus[5], ReadStatus.HUNG)
        assert world.monitor.quiesce(10, [gpus[5].uuid])
        trace(state).write_text("")
        read_on(world, gpus[:5])
        assert 5 not in touched(state)
        state.set(5, {"hang": 0})
        world.monitor.resume([gpus[5].uuid])
        world.sink.reading(gpus[5], ReadStatus.OK, since=world.sink.mark())
