"""MIG instances in slices: attribute keys, capacities, and their shard."""

from dataclasses import replace

import pytest

from gpuvitals.inventory.device import MAX_KEYS, Device
from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.pool import MAX_INSTANCES, SHARD, pool
from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.model.gpu import DeviceKind, Gpu, MigInstance
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.snapshot import GpuHealth, Snapshot
from support.worlds.snapshots import entry, gpu, snapshot

NAMING = Naming()
ENGINES = ("multiprocessors", "copyEngines", "decoders", "encoders", "jpegEngines")


def instance(index: int, number: int, **engines: int) -> GpuHealth:
    """A healthy instance of that GPU, with every key that a GPU has."""
    parent = entry(index)
    mig = MigInstance(
        parent=parent.gpu.uuid, profile="1g.10gb", gpu_instance=number, compute_instance=0, **engines
    )
    uuid = GpuUuid(f"MIG-{index:04d}-{number}")
    part = replace(gpu(index), uuid=uuid, kind=DeviceKind.MIG, mig=mig, memory_bytes=9728 << 20, minor=None)
    return replace(parent, gpu=part, verdict=replace(parent.verdict, uuid=uuid))


def divided(index: int, *numbers: int) -> tuple[GpuHealth, ...]:
    """A GPU in MIG mode and its instances."""
    parent = entry(index)
    switched = replace(parent, gpu=replace(parent.gpu, mig_enabled=True))
    return switched, *(instance(index, number) for number in numbers)


def devices(*gpus: GpuHealth) -> list[list[Device]]:
    """The devices of each slice."""
    made = pool(replace(snapshot(0), gpus=gpus), NAMING, ServiceMode.TAINT)
    return [list(part.devices) for part in made.slices]


def test_every_key_of_a_full_instance_fits_and_one_is_spare() -> None:
    ((device,),) = devices(
        instance(0, 0, multiprocessors=98, copy_engines=7, decoders=5, encoders=1, jpeg_engines=1)
    )
    assert dict(device.capacity) == {
        "memory": "9728Mi",
        "multiprocessors": "98",
        "copyEngines": "7",
        "decoders": "5",
        "encoders": "1",
        "jpegEngines": "1",
    }
    keys = [key for key, _ in device.attributes]
    assert {"type", "uuid", "parentUUID", "profile", "health/score"} <= set(keys)
    assert "minor" not in keys, "an instance has no device node of its own"
    assert len(keys) + len(device.capacity) < MAX_KEYS


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_that_an_instance_lacks_has_no_key(engine: str) -> None:
    ((device,),) = devices(instance(0, 7))
    assert engine not in dict(device.capacity)


def test_a_gpu_in_mig_mode_is_no_device() -> None:
    ((first, second),) = devices(*divided(0, 7, 8))
    assert {dict(each.attributes)["parentUUID"] for each in (first, second)} == {gpu(0).uuid}
    assert devices(*divided(0)) == [[]]


def test_instances_that_come_and_go_move_no_device_to_another_slice() -> None:
    """Sixteen GPUs in MIG mode need more than one slice; each has room for all instances that its GPUs can get."""

    def placed(*divisions: tuple[GpuHealth, ...]) -> dict[str, int]:
        listed = devices(*(each for division in divisions for each in division))
        return {device.name: index for index, shard in enumerate(listed) for device in shard}

    some = tuple(divided(index, 9) for index in range(16))
    more = (divided(0, *range(7, 14)), *some[1:])
    assert len(placed(*more)) == 22
    assert placed(*some).items() <= placed(*more).items()
    full = placed(*(divided(index, *range(7, 14)) for index in range(16)))
    assert len(full) == 16 * MAX_INSTANCES
    assert placed(*more).items() <= full.items()
    assert max(list(full.values()).count(shard) for shard in set(full.values())) <= SHARD


def test_whole_gpus_stand_where_they_stood() -> None:
    listed = devices(*(entry(index) for index in range(SHARD + 1)))
    assert [len(shard) for shard in listed] == [SHARD, 1]


def test_the_report_counts_gpus_and_not_their_instances() -> None:
    shown: Snapshot = replace(snapshot(0), gpus=(*divided(0, 7, 8), entry(1)))
    ((_, text),) = pool(shown, NAMING, ServiceMode.TAINT).slices[0].annotations
    assert '"gpus":2' in text


def test_a_gpu_in_mig_mode_that_is_out_of_service_is_not_among_the_withdrawn() -> None:
    """The report records devices that the slice would otherwise have."""
    parent, *instances = (replace(each, isolated=True) for each in divided(0, 7))
    shown = replace(snapshot(0), gpus=(parent, *instances))
    ((_, text),) = pool(shown, NAMING, ServiceMode.WITHDRAW).slices[0].annotations
    assert text.count('"device":') == len(instances) == 1


def test_gpu_uuid_is_that_of_the_whole() -> None:
    whole: Gpu = gpu(3)
    assert whole.gpu_uuid == instance(3, 7).gpu.gpu_uuid == whole.uuid
