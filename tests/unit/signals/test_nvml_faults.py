"""The real binding on the mock library with a faulty GPU: attribution of errors, and lookup of each GPU."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpuvitals.model.gpu import Gpu
from gpuvitals.model.signal import InventoryReport, Reading, ReadStatus
from gpuvitals.signals.nvml.polling import NvmlPeriods
from gpuvitals.signals.nvml.worker_client import Deadlines
from support.fakes.nvml_mock import MockState, library
from support.worlds.nvml_world import QUICK, NvmlWorld, running

pytestmark = pytest.mark.needs_cc

NEVER = NvmlPeriods(poll=3600, probe=3600, look=3600)


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def state(tmp_path: Path) -> MockState:
    return MockState(tmp_path / "nvml.state")


@contextmanager
def monitored(
    state: MockState, nvml: Path, periods: NvmlPeriods = QUICK, remembered: tuple[Gpu, ...] = ()
) -> Iterator[NvmlWorld]:
    with running(
        environment={"LD_LIBRARY_PATH": str(nvml), "NVML_MOCK_STATE": str(state.path)},
        sysfs=state.path.parent / "sys",
        periods=periods,
        remembered=remembered,
        deadlines=Deadlines(open_seconds=1.5, call_seconds=0.4),
    ) as world:
        yield world


def all_read(world: NvmlWorld, since: int = 0) -> tuple[Gpu, ...]:
    """The GPUs, once each was read."""
    gpus = world.gpus()
    for gpu in gpus:
        world.sink.reading(gpu, ReadStatus.OK, since=since)
    return gpus


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, id=name)
        for name, kind in {
            "double bit error": 0x2,
            "mig change": 0x100,
            "storm of single bit errors": 0x200,
            "retirement": 0x400,
            "failed retirement": 0x800,
            "poison": 0x1000,
            "fatal poison": 0x2000,
            "unavailable": 0x4000,
            "recovery action": 0x8000,
        }.items()
    ],
)
def test_every_event_of_a_fault_has_its_gpu_read_anew(state: MockState, nvml: Path, kind: int) -> None:
    with monitored(state, nvml, NEVER) as world:
        gpus = all_read(world)
        mark = world.sink.mark()
        state.event(2, kind)
        world.sink.reading(gpus[2], ReadStatus.OK, since=mark)
        others = {entry.uuid for entry in world.sink.signals[mark:] if isinstance(entry, Reading)}

    assert others == {gpus[2].uuid}


@pytest.mark.parametrize("kind", [0x1, 0x4, 0x80])
def test_what_a_healthy_gpu_sends_all_the_time_wakes_nobody(state: MockState, nvml: Path, kind: int) -> None:
    """Events come in order, so the one behind it shows that it was passed over."""
    with monitored(state, nvml, NEVER) as world:
        gpus = all_read(world)
        mark = world.sink.mark()
        state.event(2, kind)
        state.event(5, 0x8000)
        world.sink.reading(gpus[5], ReadStatus.OK, since=mark)

    assert world.sink.statuses(gpus[2], since=mark) == set()


def test_an_old_gpu_is_asked_for_no_event_that_it_does_not_have(state: MockState, nvml: Path) -> None:
    state.set(2, {"events": 0x8})
    with monitored(state, nvml, NEVER) as world:
        gpus = all_read(world)
        mark = world.sink.mark()
        state.event(2, 0x8, 31)
        world.sink.reading(gpus[2], ReadStatus.OK, since=mark)


def test_a_gpu_whose_worker_ends_is_not_lost_because_another_is(state: MockState, nvml: Path) -> None:
    """Finding N2: the lookup by UUID answers GPU_IS_LOST if any GPU is lost, and blames nobody by it."""
    with monitored(state, nvml) as world:
        gpus = all_read(world)
        state.set(3, {"return": 15})
        world.sink.reading(gpus[3], ReadStatus.LOST)
        state.set(5, {"abort.nvmlDeviceGetTotalEccErrors": 1})
        mark = world.sink.mark()
        world.sink.reading(gpus[5], ReadStatus.FAILED, since=mark)
        # Now it is left alone, and looked up anew for each probe.
        world.monitor.avoid(gpus[5].uuid)
        state.set(5, {"abort.nvmlDeviceGetTotalEccErrors": 0})
        mark = world.sink.mark()
        world.sink.reading(gpus[5], ReadStatus.OK, since=mark)
        world.sink.reading(gpus[6], ReadStatus.OK, since=mark)

    assert ReadStatus.LOST not in world.sink.statuses(gpus[5])
    assert world.sink.statuses(gpus[6]) == {ReadStatus.OK}


@pytest.mark.parametrize("lost", range(8))
def test_a_probe_blames_the_lost_gpu_alone(state: MockState, nvml: Path, lost: int) -> None:
    """Finding N2: with any one GPU lost, each of its siblings is probed and found well."""
    with monitored(state, nvml) as world:
        gpus = all_read(world)
        mark = world.sink.mark()
        state.set(lost, {"return": 15})
        for gpu in gpus:
            world.monitor.avoid(gpu.uuid)
        for gpu in gpus:
            world.sink.reading(gpu, ReadStatus.LOST if gpu is gpus[lost] else ReadStatus.OK, since=mark)

    assert [ReadStatus.LOST in world.sink.statuses(gpu) for gpu in gpus] == [
        gpu is gpus[lost] for gpu in gpus
    ]


@pytest.mark.parametrize("code", [8, 11, 15, 16])
def test_an_open_that_fails_for_one_gpu_leaves_the_others_readable(
    state: MockState, nvml: Path, code: int
) -> None:
    """Finding N2: an answer of nvmlInit about a GPU names none, so the driver is opened without attaching to any."""
    state.set(2, {"return": 15})
    state.node({"attachfails": code})
    with monitored(state, nvml) as world:
        gpus = world.gpus()
        statuses = [world.sink.reading(gpu, ReadStatus.OK).status for gpu in gpus]

    assert {gpu.uuid for gpu in gpus} == {MockState.uuid(index) for index in range(8) if index != 2}
    assert statuses == [ReadStatus.OK] * 7


def test_a_gpu_that_moved_while_another_is_lost_is_not_lost(state: MockState, nvml: Path) -> None:
    """Findings N2 and N1: its slot has another GPU, so that it is not asked about, while another GPU is lost."""
    with monitored(state, nvml) as world:
        known = all_read(world)
    state.set(3, {"uuid": "GPU-11111111-0000-0000-0000-000000000000"})
    state.set(6, {"return": 15})
    with monitored(state, nvml, remembered=known) as world:
        world.sink.reading(known[6], ReadStatus.LOST)
        world.sink.reading(known[7], ReadStatus.OK)

    assert world.sink.statuses(known[3]) == set()


@pytest.mark.parametrize("code", [6, 999])
def test_a_gpu_that_its_slot_does_not_have_is_found_by_its_uuid(
    state: MockState, nvml: Path, code: int
) -> None:
    with monitored(state, nvml) as world:
        gpus = all_read(world)
        state.set(3, {"return.nvmlDeviceGetHandleByPciBusId_v2": code})
        mark = world.sink.mark()
        world.monitor.avoid(gpus[3].uuid)
        world.sink.reading(gpus[3], ReadStatus.OK, since=mark)

    assert world.sink.statuses(gpus[3]) == {ReadStatus.OK}


@pytest.mark.parametrize("code", [6, 999])
def test_a_gpu_whose_uuid_is_not_found_is_found_in_its_slot(state: MockState, nvml: Path, code: int) -> None:
    with monitored(state, nvml) as world:
        gpus = all_read(world)
        state.set(3, {"return.nvmlDeviceGetHandleByUUID": code})
        world.monitor.avoid(gpus[3].uuid)
        time.sleep(QUICK.settle)
        world.sink.reading(gpus[3], ReadStatus.OK, since=world.sink.mark())

    assert world.sink.statuses(gpus[3]) == {ReadStatus.OK}


def test_another_gpu_in_the_slot_of_a_lost_one_is_not_taken_for_it(state: MockState, nvml: Path) -> None:
    """Finding N1: nor is the lost one looked for any more, since each look costs a worker."""
    with monitored(state, nvml) as world:
        known = all_read(world)
    state.set(3, {"uuid": "GPU-11111111-0000-0000-0000-000000000000"})
    with monitored(state, nvml, remembered=known) as world:
        report = world.sink.wait(InventoryReport)
        for gpu in (*known[:3], *known[4:]):
            world.sink.reading(gpu, ReadStatus.OK)

    assert {gpu.uuid for gpu in report.gpus} - {gpu.uuid for gpu in known} == {
        "GPU-11111111-0000-0000-0000-000000000000"
    }
    assert world.sink.statuses(known[3]) == set()


def test_a_gpu_that_leaves_and_comes_back_is_itself_although_the_indexes_shift(
    state: MockState, nvml: Path
) -> None:
    with monitored(state, nvml) as world:
        gpus = all_read(world)
        state.set(0, {"gone": 1})
        world.sink.reading(gpus[0], ReadStatus.LOST)
        shrunk = world.sink.wait(InventoryReport, lambda report: len(report.gpus) == 7)
        mark = world.sink.mark()
        state.set(0, {"gone": 0})
        world.monitor.request_poll(gpus[0].uuid)
        world.sink.reading(gpus[0], ReadStatus.OK, since=mark)
        grown = world.sink.wait(InventoryReport, since=mark)
        siblings = [world.sink.statuses(gpu) for gpu in gpus[1:]]

    assert (shrunk.gpus, grown.gpus) == (gpus[1:], gpus)
    assert all(found == {ReadStatus.OK} for found in siblings)


def test_a_fault_whose_event_was_lost_is_read_at_the_next_poll(state: MockState, nvml: Path) -> None:
    state.set(4, {"events": 0})
    with monitored(state, nvml) as world:
        gpus = all_read(world)
        state.set(4, {"field.230": 1, "ecc.1.0": 3})
        state.event(4, 0x8000)
        reading = world.sink.wait(Reading, lambda entry: entry.recovery_action == 1)

    assert (reading.uuid, reading.ecc_uncorrected_volatile) == (gpus[4].uuid, 3)


@pytest.mark.parametrize(
    "call", ["nvmlDeviceRegisterEvents", "nvmlDeviceGetTotalEccErrors", "nvmlDeviceGetHandleByPciBusId_v2"]
)
def test_a_hang_in_any_call_is_that_gpus_alone(state: MockState, nvml: Path, call: str) -> None:
    state.set(5, {f"hang.{call}": 1, "return.nvmlDeviceGetHandleByUUID": 999})
    with monitored(state, nvml, remembered=()) as world:
        gpus = world.gpus()
        if call != "nvmlDeviceGetHandleByPciBusId_v2":
            world.sink.reading(gpus[5], ReadStatus.HUNG)
        for gpu in (*gpus[:5], *gpus[6:]):
            world.sink.reading(gpu, ReadStatus.OK)
            assert world.sink.statuses(gpu) == {ReadStatus.OK}
        assert world.monitor.children <= 2


def test_a_gpu_that_hangs_whoever_attaches_hides_no_sibling(state: MockState, nvml: Path) -> None:
    """The agent starts while it hangs: the library is opened without attaching to any, and each is asked by itself."""
    with monitored(state, nvml) as world:
        known = all_read(world)
    state.set(5, {"hang": 1})
    with monitored(state, nvml, remembered=known) as world:
        world.sink.reading(known[5], ReadStatus.HUNG)
        for gpu in (*known[:5], *known[6:]):
            world.sink.reading(gpu, ReadStatus.OK)
        assert world.monitor.children <= 2
        state.set(5, {"hang": 0})
        mark = world.sink.mark()
        world.sink.reading(known[5], ReadStatus.OK, since=mark)
