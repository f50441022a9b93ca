"""Conflicts with another driver of a GPU of this node: by UUID, by PCI bus id, or by an extended resource."""

import json

import pytest

from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.other_drivers import OtherDriverDevice, OtherDrivers, driver_conflict
from gpuvitals.inventory.pool import pool
from gpuvitals.inventory.taints import ServiceMode
from support.worlds.snapshots import gpu, snapshot

GPUS = tuple(gpu(index) for index in range(4))


def device(*, uuid: str = "", bus_id: str = "") -> OtherDrivers:
    """A device of that identity, published by another driver."""
    theirs = OtherDriverDevice(
        driver="gpu.nvidia.com",
        device="gpu-1",
        uuids=frozenset({uuid} - {""}),
        bus_ids=frozenset({bus_id} - {""}),
    )
    return OtherDrivers(devices=(theirs,))


@pytest.mark.parametrize(
    ("others", "says"),
    [
        pytest.param(device(uuid=gpu(1).uuid), f"gpu.nvidia.com publishes {gpu(1).uuid} as gpu-1", id="uuid"),
        pytest.param(device(bus_id="0000:02:00.0"), "publishes 0000:02:00.0 as gpu-1", id="bus id"),
        pytest.param(device(bus_id="00000000:02:00.0"), "publishes 00000000:02:00.0", id="as NVML writes it"),
        pytest.param(OtherDrivers(resources=(("nvidia.com/gpu", "8"),)), "8 nvidia.com/gpu", id="plugin"),
        pytest.param(
            OtherDrivers(resources=(("nvidia.com/mig-1g.10gb", "7"),)),
            "nvidia.com/mig-1g.10gb",
            id="MIG plugin",
        ),
    ],
)
def test_a_driver_of_the_same_gpu_is_named(others: OtherDrivers, says: str) -> None:
    assert says in driver_conflict(GPUS, others)


@pytest.mark.parametrize(
    "others",
    [
        pytest.param(OtherDrivers(), id="nobody"),
        pytest.param(device(uuid="GPU-of-another-node", bus_id="0000:7f:00.0"), id="another GPU"),
        pytest.param(OtherDrivers(resources=(("nvidia.com/gpu", "0"), ("cpu", "64"))), id="plugin gone"),
        pytest.param(OtherDrivers(resources=(("nvidia.com/hostdev", "2"),)), id="network cards"),
    ],
)
def test_drivers_of_other_devices_are_no_conflict(others: OtherDrivers) -> None:
    assert driver_conflict(GPUS, others) == ""


def test_a_conflict_empties_the_slices_and_the_report_has_the_reason() -> None:
    node = snapshot(130)
    planned = pool(node, Naming(), ServiceMode.TAINT, "driver gpu.nvidia.com publishes GPU-1")
    assert [part.devices for part in planned.slices] == [(), (), ()]
    report = json.loads(planned.slices[0].annotations[0][1])
    assert report["reasons"] == ["OtherDriver"]
    assert report["otherDriver"] == "driver gpu.nvidia.com publishes GPU-1"
    assert report["gpus"] == 130
    assert "otherDriver" not in json.loads(
        pool(node, Naming(), ServiceMode.TAINT).slices[0].annotations[0][1]
    )
