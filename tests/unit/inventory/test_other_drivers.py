"""Who is a rival: another driver that gives out a GPU of this node, by its UUID, its place on the bus or a resource."""

import json

import pytest

from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.other_drivers import NeighbourDevice, Neighbours, other_driver
from gpuvitals.inventory.pool import pool
from gpuvitals.inventory.taints import ServiceMode
from support.worlds.snapshots import gpu, snapshot

GPUS = tuple(gpu(index) for index in range(4))


def device(*, uuid: str = "", bus_id: str = "") -> Neighbours:
    """Somebody's device of that identity."""
    theirs = NeighbourDevice(
        driver="gpu.nvidia.com",
        device="gpu-1",
        uuids=frozenset({uuid} - {""}),
        bus_ids=frozenset({bus_id} - {""}),
    )
    return Neighbours(devices=(theirs,))


@pytest.mark.parametrize(
    ("neighbours", "says"),
    [
        pytest.param(device(uuid=gpu(1).uuid), f"gpu.nvidia.com publishes {gpu(1).uuid} as gpu-1", id="uuid"),
        pytest.param(device(bus_id="0000:02:00.0"), "publishes 0000:02:00.0 as gpu-1", id="bus id"),
        pytest.param(device(bus_id="00000000:02:00.0"), "publishes 00000000:02:00.0", id="as NVML writes it"),
        pytest.param(Neighbours(resources=(("nvidia.com/gpu", "8"),)), "8 nvidia.com/gpu", id="plugin"),
        pytest.param(
            Neighbours(resources=(("nvidia.com/mig-1g.10gb", "7"),)),
            "nvidia.com/mig-1g.10gb",
            id="MIG plugin",
        ),
    ],
)
def test_who_gives_out_the_same_gpu_is_named(neighbours: Neighbours, says: str) -> None:
    assert says in other_driver(GPUS, neighbours)


@pytest.mark.parametrize(
    "neighbours",
    [
        pytest.param(Neighbours(), id="nobody"),
        pytest.param(device(uuid="GPU-of-another-node", bus_id="0000:7f:00.0"), id="another GPU"),
        pytest.param(Neighbours(resources=(("nvidia.com/gpu", "0"), ("cpu", "64"))), id="plugin gone"),
        pytest.param(Neighbours(resources=(("nvidia.com/hostdev", "2"),)), id="network cards"),
    ],
)
def test_others_are_no_rivals(neighbours: Neighbours) -> None:
    assert other_driver(GPUS, neighbours) == ""


def test_beside_a_rival_slices_have_no_devices_and_the_report_says_why() -> None:
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
