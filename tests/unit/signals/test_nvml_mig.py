"""MIG through the real worker and the real pynvml: instances are listed, come and go, and are never lost to an error."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gpuvitals.inventory.device import device_name
from gpuvitals.model.gpu import DeviceKind, Gpu, MigInstance
from gpuvitals.model.ids import GpuUuid, PciBusId
from gpuvitals.model.signal import InventoryReport, Reading, ReadStatus, XidReport
from gpuvitals.signals.nvml.decode_mig import divided, refreshed
from gpuvitals.signals.nvml.polling import NvmlPeriods
from gpuvitals.signals.nvml_worker.protocol import InstanceFacts, MigFacts
from support.fakes.nvml_mock import MockState, library
from support.worlds.nvml_world import QUICK, NvmlWorld, running

NEVER = NvmlPeriods(poll=3600, probe=3600, look=3600)
GPU = Gpu(
    uuid=GpuUuid("GPU-0"),
    bus_id=PciBusId("0000:1b:00.0"),
    product_name="NVIDIA A100-SXM4-80GB",
    minor=3,
    memory_bytes=80 << 30,
    expected_links=12,
)


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def state(tmp_path: Path) -> MockState:
    return MockState(tmp_path / "nvml.state", gpus=3)


@contextmanager
def monitored(
    state: MockState, folder: Path, periods: NvmlPeriods = QUICK, remembered: tuple[Gpu, ...] = ()
) -> Iterator[NvmlWorld]:
    environment = {"LD_LIBRARY_PATH": str(folder), "NVML_MOCK_STATE": str(state.path)}
    sysfs = state.path.parent / "sys"
    with running(environment=environment, sysfs=sysfs, periods=periods, remembered=remembered) as world:
        yield world


def uuids(gpus: tuple[Gpu, ...]) -> list[str]:
    return [gpu.uuid for gpu in gpus]


def wait_for(world: NvmlWorld, *wanted: str) -> tuple[Gpu, ...]:
    """The first inventory that has just these devices."""
    return world.sink.wait(InventoryReport, lambda report: uuids(report.gpus) == list(wanted)).gpus


def of(*indexes: int) -> list[str]:
    return [MockState.uuid(index) for index in indexes]


@pytest.mark.needs_cc
def test_instances_stand_behind_their_gpu_with_what_they_have(state: MockState, nvml: Path) -> None:
    state.divide(1, 9, 7)
    state.set(1, {"mig.1.sms": 28, "mig.1.copy": 2, "mig.1.decoders": 1, "mig.1.memory": 19968})
    with monitored(state, nvml) as world:
        gpus = world.gpus()

    seven, nine = MockState.instance(1, 7), MockState.instance(1, 9)
    assert uuids(gpus) == [*of(0, 1), seven, nine, *of(2)]
    whole, first = gpus[1], gpus[2]
    assert [gpu.mig_enabled for gpu in gpus] == [False, True, False, False, False]
    assert (first.kind, first.minor, first.memory_bytes) == (DeviceKind.MIG, None, 19968 << 20)
    assert (first.bus_id, first.serial, first.product_name) == (
        whole.bus_id,
        whole.serial,
        whole.product_name,
    )
    assert [gpu.expected_links for gpu in gpus] == [18, 0, 0, 0, 18], "NVLink is of no use in MIG mode"
    assert first.mig == MigInstance(
        parent=whole.uuid,
        profile="1g.10gb",
        gpu_instance=7,
        compute_instance=0,
        multiprocessors=28,
        copy_engines=2,
        decoders=1,
        placement=0,
    )


@pytest.mark.needs_cc
def test_instances_come_and_go_within_one_survey(state: MockState, nvml: Path) -> None:
    state.divide(1, 7, 8)
    with monitored(state, nvml) as world:
        wait_for(world, *of(0, 1), MockState.instance(1, 7), MockState.instance(1, 8), *of(2))
        state.divide(1, 7, 9)
        wait_for(world, *of(0, 1), MockState.instance(1, 7), MockState.instance(1, 9), *of(2))
        state.divide(1)
        wait_for(world, *of(0, 1, 2))
        state.set(1, {"migmode": 0})
        whole = world.sink.wait(InventoryReport, lambda each: not any(gpu.mig_enabled for gpu in each.gpus))
        assert [gpu.expected_links for gpu in whole.gpus] == [18, 18, 18], "links are missed again"


@pytest.mark.needs_cc
def test_an_event_of_the_gpu_is_reason_to_look_at_once(state: MockState, nvml: Path) -> None:
    with monitored(state, nvml, NEVER) as world:
        world.sink.reading(world.gpus()[2], ReadStatus.OK)
        state.divide(2, 7)
        state.event(2, 0x8000)
        wait_for(world, *of(0, 1, 2), MockState.instance(2, 7))


@pytest.mark.needs_cc
def test_an_xid_event_names_the_instance_that_it_blames(state: MockState, nvml: Path) -> None:
    state.divide(1, 7)
    with monitored(state, nvml) as world:
        world.sink.reading(world.gpus()[-1], ReadStatus.OK)
        state.event(1, 0x8, 94, 7)
        report = world.sink.wait(XidReport)
    assert (report.uuid, report.gpu_instance, report.compute_instance) == (of(1)[0], 7, None)


@pytest.mark.needs_cc
@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("nvmlDeviceGetMigMode", 999),
        ("nvmlDeviceGetMaxMigDeviceCount", 999),
        ("nvmlDeviceGetGpuInstanceId", 999),
        ("nvmlDeviceGetMigDeviceHandleByIndex", 999),
    ],
)
def test_no_answer_is_no_sign_that_an_instance_is_gone(
    state: MockState, nvml: Path, call: str, code: int
) -> None:
    state.divide(1, 7)
    with monitored(state, nvml) as world:
        everyone = uuids(world.gpus())
        state.set(1, {f"return.{call}": code})
        reading = world.sink.wait(Reading, lambda each: each.uuid == of(1)[0] and "mig: " in each.detail)
        assert reading.status is ReadStatus.OK, "the GPU itself reads well"
        state.divide(2, 8)
        found = wait_for(world, *everyone, MockState.instance(2, 8))
        assert found[2].mig is not None


@pytest.mark.needs_cc
def test_facts_that_make_no_sense_are_no_answer_and_are_logged_once(
    state: MockState, nvml: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state.divide(1, 7, 8)
    with monitored(state, nvml) as world:
        everyone = uuids(world.gpus())
        state.set(1, {"mig.1.gi": 7})
        mark = world.sink.mark()
        for _ in range(3):
            world.sink.reading(world.gpus()[1], ReadStatus.OK, since=mark)
            mark = world.sink.mark()
        reports = [each for each in world.sink.signals if isinstance(each, InventoryReport)]
        assert [uuids(each.gpus) for each in reports] == [everyone]
    odd = [record for record in caplog.records if record.message == "mig instances not understood"]
    assert len(odd) == 1


@pytest.mark.needs_cc
def test_a_model_or_a_driver_without_mig_is_whole(state: MockState, nvml: Path) -> None:
    """Not supported and function not found: both say that there is nothing to divide."""
    state.set(0, {"return.nvmlDeviceGetMigMode": 13})
    with monitored(state, nvml) as world:
        gpus = world.gpus()
        reading = world.sink.wait(Reading)
    assert [(gpu.mig_enabled, gpu.mig) for gpu in gpus] == [(False, None)] * 3
    assert (reading.detail, reading.unsupported) == ("", frozenset())


@pytest.mark.needs_cc
def test_a_profile_without_a_name_is_worked_out(state: MockState, nvml: Path) -> None:
    state.divide(0, 1, 7)
    state.set(0, {"memory": 80 << 30, "return.nvmlDeviceGetName": 3})
    state.set(0, {"mig.0.gislices": 3, "mig.0.cislices": 1, "mig.0.memory": 40192})
    with monitored(state, nvml) as world:
        found = world.gpus()
    assert [gpu.mig.profile for gpu in found if gpu.mig is not None] == ["1c.3g.40gb", "1g.10gb"]


@pytest.mark.needs_cc
def test_a_profile_that_nothing_tells_is_left_out(state: MockState, nvml: Path) -> None:
    state.divide(0, 7)
    state.set(0, {"return.nvmlDeviceGetName": 3, "return.nvmlDeviceGetMemoryInfo": 3})
    with monitored(state, nvml) as world:
        found = world.gpus()[1]
    assert found.mig is not None
    assert (found.mig.profile, found.memory_bytes) == ("", 9728 << 20)


@pytest.mark.needs_cc
def test_instances_without_attributes_are_instances_still(state: MockState, nvml: Path) -> None:
    state.divide(0, 7)
    state.set(0, {"return.nvmlDeviceGetAttributes_v2": 3})
    with monitored(state, nvml) as world:
        found = world.gpus()[1]
    assert found.mig == MigInstance(
        parent=found.gpu_uuid, profile="1g.10gb", gpu_instance=7, compute_instance=0, placement=0
    )
    assert found.memory_bytes == 0


@pytest.mark.needs_cc
def test_instances_of_a_gpu_that_is_lost_at_the_start_are_remembered(state: MockState, nvml: Path) -> None:
    state.divide(1, 7)
    with monitored(state, nvml) as world:
        known = world.gpus()
    state.set(1, {"return": 15})
    with monitored(state, nvml, remembered=known) as world:
        found = world.gpus()
        lost = next(gpu for gpu in known if gpu.uuid == MockState.uuid(1))
        world.sink.reading(lost, ReadStatus.LOST)
        assert uuids(found) == of(0, 2), "the driver lists it no more; the agent knows it on"
        state.drop(1, "return")
        wait_for(world, *uuids(known))


@pytest.mark.needs_cc
def test_a_hang_while_instances_are_listed_is_that_gpus_alone(state: MockState, nvml: Path) -> None:
    state.divide(1, 7)
    with monitored(state, nvml) as world:
        gpus = world.gpus()
        state.set(1, {"hang": 1})
        world.sink.reading(gpus[1], ReadStatus.HUNG)
        mark = world.sink.mark()
        world.sink.reading(gpus[-1], ReadStatus.OK, since=mark)
        reports = [each for each in world.sink.signals if isinstance(each, InventoryReport)]
        assert uuids(reports[-1].gpus) == uuids(gpus)
        state.set(1, {"hang": 0})


@pytest.mark.parametrize(
    ("bad", "names"),
    [
        ({"uuid": "GPU-1"}, "uuid"),
        ({"uuid": "MIG-\u0661"}, "uuid"),
        ({"uuid": "MIG-" + "0" * 64}, "uuid"),
        ({"gpu_instance": -1}, "gpu instance id"),
        ({"compute_instance": 0xFFFFFFFF}, "compute instance id"),
        ({"gpu_instance": 8}, "same ids"),
        ({"uuid": "MIG-8"}, "same uuid"),
    ],
)
def test_facts_that_make_no_sense_name_their_field(bad: dict[str, object], names: str) -> None:
    first = {"uuid": "MIG-7", "gpu_instance": 7, "compute_instance": 0} | bad
    second = InstanceFacts(uuid="MIG-8", gpu_instance=8, compute_instance=0)
    facts = MigFacts(enabled=True, instances=(InstanceFacts(**first), second))  # type: ignore[arg-type]  # bad on purpose
    with pytest.raises(ValueError, match=names):
        divided(GPU, facts)


def test_an_instance_follows_what_is_learned_of_its_gpu() -> None:
    facts = InstanceFacts(
        uuid="MIG-7", gpu_instance=7, compute_instance=0, profile="1g.10gb\n", memory_bytes=5
    )
    whole, (part,) = divided(GPU, MigFacts(enabled=True, instances=(facts,)))
    assert part.mig is not None
    assert (whole.mig_enabled, part.mig_enabled, part.mig.profile) == (True, False, "1g.10gb")
    (newer,) = refreshed(replace(whole, driver_version="600.1"), (part,))
    assert newer == replace(part, driver_version="600.1")


def test_instances_that_are_listed_while_mig_is_off_are_none() -> None:
    stray = InstanceFacts(uuid="MIG-7", gpu_instance=7, compute_instance=0)
    assert divided(GPU, MigFacts(enabled=False, instances=(stray,))) == (GPU, ())


def test_two_instances_in_one_place_are_no_answer() -> None:
    """Finding P3: a name is a piece of silicon, so the driver's list contradicts itself."""
    first = InstanceFacts(uuid="MIG-7", gpu_instance=7, compute_instance=0, profile="1g.10gb", gpu_start=2)
    second = InstanceFacts(uuid="MIG-8", gpu_instance=8, compute_instance=0, profile="1g.10gb", gpu_start=2)
    with pytest.raises(ValueError, match="the same profile and placement"):
        divided(GPU, MigFacts(enabled=True, instances=(first, second)))


def test_a_placement_that_was_read_once_is_kept() -> None:
    """Finding P3: the name of a device does not change by a failed call."""
    read = InstanceFacts(uuid="MIG-7", gpu_instance=7, compute_instance=0, profile="1g.10gb", gpu_start=2)
    unread = InstanceFacts(uuid="MIG-7", gpu_instance=7, compute_instance=0, profile="1g.10gb")
    _, known = divided(GPU, MigFacts(enabled=True, instances=(read,)))
    _, again = divided(GPU, MigFacts(enabled=True, instances=(unread,)), known)
    assert again == known
    _, anew = divided(GPU, MigFacts(enabled=True, instances=(unread,)))
    assert [part.mig.placement for part in anew if part.mig is not None] == [None]


@pytest.mark.needs_cc
def test_the_placement_is_read_from_the_driver(state: MockState, nvml: Path) -> None:
    """Finding P3: a compute instance that is smaller than its GPU instance has a place in it."""
    state.divide(1, 7, 8)
    names = {f"mig.{place}.name": "NVIDIA H100 MIG 1c.3g.40gb" for place in range(2)}
    state.set(
        1,
        names
        | {"mig.0.gi": 1, "mig.1.gi": 1, "mig.0.start": 4, "mig.1.start": 4, "mig.0.ci": 0, "mig.1.ci": 2},
    )
    with monitored(state, nvml) as world:
        found = [gpu.mig for gpu in world.gpus() if gpu.mig is not None]
    assert [(mig.placement, mig.compute_placement) for mig in found] == [(4, 0), (4, 2)]


@pytest.mark.needs_cc
@pytest.mark.parametrize("call", ["nvmlDeviceGetGpuInstanceById", "nvmlGpuInstanceGetInfo"])
@pytest.mark.parametrize("code", [3, 4, 13, 999])
def test_instances_without_a_placement_are_named_by_their_ids(
    state: MockState, nvml: Path, call: str, code: int
) -> None:
    """Finding P3: a driver that does not tell, or refuses to."""
    state.divide(1, 7)
    state.set(1, {f"return.{call}": code})
    with monitored(state, nvml) as world:
        (found,) = [gpu for gpu in world.gpus() if gpu.mig is not None]
    assert device_name(found).endswith("-mig-1g-10gb-gi7-ci0")
