"""The real worker with the real pynvml, on a libnvidia-ml.so.1 compiled here: what each answer of NVML comes to."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpuvitals.model.signal import (
    FabricState,
    LinkState,
    MonitorReport,
    MonitorState,
    Reading,
    ReadStatus,
    XidReport,
)
from gpuvitals.signals.nvml.monitor import worker_command
from gpuvitals.signals.nvml.polling import NvmlPeriods
from gpuvitals.signals.nvml_worker.wire import Request, Values, line_from, message_from
from support.fakes.nvml_mock import MockState, library
from support.worlds.nvml_world import QUICK, NvmlWorld, running

pytestmark = pytest.mark.needs_cc

XID, RECOVERY_ACTION = 0x8, 0x8000


@pytest.fixture(scope="module")
def current(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library(tmp_path_factory.mktemp("nvml-old"), "-DMOCK_OLD")


@pytest.fixture
def state(tmp_path: Path) -> MockState:
    return MockState(tmp_path / "nvml.state")


@contextmanager
def monitored(state: MockState, folder: Path, periods: NvmlPeriods = QUICK) -> Iterator[NvmlWorld]:
    environment = {"LD_LIBRARY_PATH": str(folder), "NVML_MOCK_STATE": str(state.path)}
    with running(environment=environment, sysfs=state.path.parent / "sys", periods=periods) as world:
        yield world


def one_reading(state: MockState, folder: Path, index: int = 0) -> Reading:
    """The first reading of one GPU, by the real library alone."""
    with monitored(state, folder) as world:
        gpu = next(gpu for gpu in world.gpus() if gpu.uuid == MockState.uuid(index))
        return world.sink.wait(Reading, lambda entry: entry.uuid == gpu.uuid)


def test_identity_and_facts_are_read(state: MockState, current: Path) -> None:
    with monitored(state, current) as world:
        gpus = world.gpus()

    first = gpus[0]
    assert [gpu.uuid for gpu in gpus] == [MockState.uuid(index) for index in range(8)]
    assert (first.bus_id, first.architecture, first.expected_links) == ("0000:1b:00.0", "Hopper", 18)
    assert (first.driver_version, first.cuda_driver_version) == ("595.45.04", "13.2")
    assert (first.cuda_compute_capability, first.memory_bytes, first.minor) == ("9.0", 1 << 36, 0)


def test_a_healthy_gpu_reads_complete(state: MockState, current: Path) -> None:
    reading = one_reading(state, current)

    assert (reading.status, reading.detail, reading.unsupported) == (ReadStatus.OK, "", frozenset())
    assert reading.links == (LinkState.ACTIVE,) * 18
    assert (reading.recovery_action, reading.fabric) == (0, FabricState.COMPLETED)
    assert (reading.thermal_margin_celsius, reading.hardware_slowdown) == (50, False)
    assert (reading.remap_pending, reading.remap_failed, reading.sram_threshold_exceeded) == (
        False,
        False,
        False,
    )


def test_every_value_comes_from_its_own_call(state: MockState, current: Path) -> None:
    state.set(
        0,
        {
            "field.230": 4,
            "ecc.1.0": 7,
            "ecc.1.1": 9,
            "ecc.0.0": 5,
            "sram": 1,
            "pending": 1,
            "failed": 1,
            "remapped": 3,
            "nospare": 2,
            "linkstate.0": 0,
            "linkstate.1": 2,
            "linkstate.2": 3,
            "margin": -4,
            "reasons": 0x40,
            "fabrichealth": 1 << 4,
        },
    )
    reading = one_reading(state, current)

    assert reading.recovery_action == 4
    assert (reading.ecc_uncorrected_volatile, reading.ecc_uncorrected_aggregate) == (7, 9)
    assert (reading.ecc_corrected_volatile, reading.sram_threshold_exceeded) == (5, True)
    assert (reading.remap_pending, reading.remap_failed) == (True, True)
    assert (reading.remapped_uncorrectable, reading.banks_without_spare) == (3, 2)
    assert reading.links is not None
    assert reading.links[:3] == (LinkState.INACTIVE, LinkState.SLEEP, LinkState.INACTIVE)
    assert (reading.thermal_margin_celsius, reading.hardware_slowdown) == (-4, True)
    assert reading.fabric is FabricState.FAILED


def test_what_the_model_lacks_is_named_and_what_fails_is_explained(state: MockState, current: Path) -> None:
    state.set(
        0,
        {
            "return.nvmlDeviceGetRemappedRows": 3,
            "fieldret.230": 3,
            "return.nvmlDeviceGetMarginTemperature": 4,
        },
    )
    reading = one_reading(state, current)

    assert reading.status is ReadStatus.OK
    assert reading.unsupported == frozenset(
        {"remap_pending", "remap_failed", "remapped_uncorrectable", "recovery_action"}
    )
    assert (reading.recovery_action, reading.thermal_margin_celsius) == (None, None)
    assert reading.detail.startswith("thermal_margin_celsius: ")


def test_an_old_driver_without_the_newer_symbols_still_gives_a_reading(state: MockState, old: Path) -> None:
    """The margin is computed from older calls, the throttle reasons have an older name, links are asked one by one."""
    for link in range(18):
        state.drop(0, f"linkstate.{link}")
    state.set(0, {"temperature": 70, "slowdown": 87, "reasons": 0x8, "link.4": 0})
    reading = one_reading(state, old)

    assert reading.status is ReadStatus.OK
    assert (reading.thermal_margin_celsius, reading.hardware_slowdown) == (17, True)
    assert reading.links is not None
    assert (len(reading.links), reading.links[4]) == (18, LinkState.INACTIVE)
    assert (reading.fabric, reading.sram_threshold_exceeded) == (None, None)
    assert "fabric: Function Not Found" in reading.detail
    assert reading.unsupported == frozenset()


def test_a_counter_out_of_range_is_not_believed(state: MockState, current: Path) -> None:
    state.set(0, {"ecc.1.0": -1, "fabric": 9})
    reading = one_reading(state, current)

    assert (reading.status, reading.ecc_uncorrected_volatile, reading.fabric) == (ReadStatus.OK, None, None)
    assert "out of range" in reading.detail


def test_a_name_that_is_no_text_is_left_out(state: MockState, current: Path) -> None:
    state.path.write_bytes(state.path.read_bytes().replace(b"gpu 3 name NVIDIA", b"gpu 3 name \xff\xfe"))
    with monitored(state, current) as world:
        names = [gpu.product_name for gpu in world.gpus()]

    assert names[3] == ""
    assert names[2] == "NVIDIA H100 80GB HBM3"


def test_a_lost_gpu_of_eight_is_the_only_one_lost(state: MockState, current: Path) -> None:
    with monitored(state, current) as world:
        gpus = world.gpus()
        state.set(3, {"return": 15})
        world.sink.reading(gpus[3], ReadStatus.LOST)
        mark = world.sink.mark()
        for gpu in (gpus[2], gpus[4], gpus[7]):
            world.sink.reading(gpu, ReadStatus.OK, since=mark)
            assert world.sink.statuses(gpu) == {ReadStatus.OK}


def test_a_gpu_that_requires_a_reset_says_so(state: MockState, current: Path) -> None:
    with monitored(state, current) as world:
        gpus = world.gpus()
        state.set(3, {"return": 16})
        reading = world.sink.reading(gpus[3], ReadStatus.RESET_REQUIRED)

    assert reading.recovery_action is None


def test_a_call_that_never_returns_blames_its_gpu(state: MockState, current: Path) -> None:
    with monitored(state, current) as world:
        gpus = world.gpus()
        world.sink.reading(gpus[7], ReadStatus.OK)
        state.set(3, {"hang": 1})
        world.sink.reading(gpus[3], ReadStatus.HUNG)
        mark = world.sink.mark()
        world.sink.reading(gpus[2], ReadStatus.OK, since=mark)
        world.sink.reading(gpus[7], ReadStatus.OK, since=mark)
        assert world.monitor.children <= 2
        state.event(5, XID, 31)
        event = world.sink.wait(XidReport)

    assert event.uuid == gpus[5].uuid


def test_an_xid_event_names_its_gpu(state: MockState, current: Path) -> None:
    with monitored(state, current) as world:
        gpus = world.gpus()
        world.sink.reading(gpus[7], ReadStatus.OK)
        state.event(2, XID, 94)
        report = world.sink.wait(XidReport)

    assert (report.uuid, report.bus_id, report.code) == (gpus[2].uuid, gpus[2].bus_id, 94)
    assert report.gpu_instance is None


def test_a_changed_recovery_action_is_read_at_its_event(state: MockState, current: Path) -> None:
    with monitored(state, current, NvmlPeriods(poll=3600, probe=3600, look=3600)) as world:
        gpus = world.gpus()
        world.sink.reading(gpus[7], ReadStatus.OK)
        state.set(2, {"field.230": 1})
        state.event(2, RECOVERY_ACTION)
        reading = world.sink.wait(Reading, lambda entry: entry.recovery_action == 1)

    assert reading.uuid == gpus[2].uuid


def test_a_loss_in_the_event_wait_makes_every_gpu_be_looked_at(state: MockState, current: Path) -> None:
    """The error does not say which GPU, so none is blamed by it alone."""
    with monitored(state, current, NvmlPeriods(poll=3600, probe=3600, look=3600)) as world:
        gpus = world.gpus()
        world.sink.reading(gpus[7], ReadStatus.OK)
        mark = world.sink.mark()
        state.set(6, {"return": 15})
        state.fail_wait(15)
        world.sink.reading(gpus[6], ReadStatus.LOST)
        world.sink.reading(gpus[0], ReadStatus.OK, since=mark)


def test_a_driver_that_is_not_loaded_is_absent_until_it_is(state: MockState, current: Path) -> None:
    state.node({"return.nvmlInitWithFlags": 9})
    with monitored(state, current) as world:
        report = world.sink.wait(MonitorReport)
        state.node({"return.nvmlInitWithFlags": 0})
        assert len(world.gpus()) == 8

    assert report.state is MonitorState.DRIVER_ABSENT


def test_a_machine_without_the_library_has_no_driver(tmp_path: Path) -> None:
    with running(environment={"LD_LIBRARY_PATH": str(tmp_path)}, sysfs=tmp_path) as world:
        report = world.sink.wait(MonitorReport)

    assert report.state is MonitorState.DRIVER_ABSENT


def test_the_worker_stays_small_and_ends_with_its_stdin(state: MockState, current: Path) -> None:
    """At most 40 MiB resident, and gone as soon as the agent is."""
    environment = os.environ | {"LD_LIBRARY_PATH": str(current), "NVML_MOCK_STATE": str(state.path)}
    requests = [
        Request(id=1, call="open"),
        Request(id=2, call="identify"),
        Request(id=3, call="read", uuid=MockState.uuid(0), bus_id="0000:1b:00.0"),
    ]
    with subprocess.Popen(
        worker_command(""), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(b"".join(line_from(request) for request in requests))
        worker.stdin.flush()
        answers = [message_from(worker.stdout.readline()) for _ in requests]
        status = Path(f"/proc/{worker.pid}/status").read_text(encoding="ascii")
        worker.stdin.close()
        code = worker.wait(5)

    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
    assert isinstance(answers[-1], Values)
    assert resident <= 40 * 1024, f"{resident} KiB"
    assert code == 0
