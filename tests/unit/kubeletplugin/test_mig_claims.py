"""Claims on MIG instances at the plugin's socket: two of one GPU at once, one instance twice, and a GPU renumbered."""

import json
from dataclasses import replace

import pytest

from gpuvitals.inventory.device import device_name
from gpuvitals.kubeletplugin.allocated_claim import AllocatedClaim, AllocatedDevice
from gpuvitals.model.gpu import DeviceKind, MigInstance
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.snapshot import GpuHealth
from gpuvitals.proto import dra_v1_pb2 as dra
from gpuvitals_sim.hardware.mig import CapabilityFiles, capability_minors, with_instance
from gpuvitals_sim.hardware.profiles import PROFILES, gpu_script
from support.waiting import eventually
from support.worlds.plugin_world import DRIVER, NODE, World, kubelet, uid_of

GPU = 2


@pytest.fixture
def divided(node: World) -> World:
    """The third GPU in MIG mode, with instances 7 and 8 and their capability files."""
    _show_files(node, GPU)
    whole = node.snapshot.gpus[GPU]
    parts = [_part(whole, number) for number in (7, 8)]
    gpus = list(node.snapshot.gpus)
    gpus[GPU] = replace(whole, gpu=replace(whole.gpu, mig_enabled=True))
    node.snapshot = replace(node.snapshot, gpus=(*gpus, *parts))
    node.agent.snapshot = node.snapshot
    return node


def test_two_claims_hold_instances_of_one_gpu_at_once(divided: World) -> None:
    with divided.running() as plugin, kubelet(plugin) as calls:
        answers = calls.prepare(_allocate(divided, 1, 7), _allocate(divided, 2, 8))
        assert [answers[uid_of(number)].error for number in (1, 2)] == ["", ""]
        for number, instance in ((1, 7), (2, 8)):
            assert _paths(divided, number) == ["/dev/nvidia2", *_caps(GPU, instance)]


def test_one_instance_is_held_once(divided: World) -> None:
    with divided.running() as plugin, kubelet(plugin) as calls:
        calls.prepare(_allocate(divided, 1, 7))
        refused = calls.prepare(_allocate(divided, 2, 7), timeout=0.6)[uid_of(2)].error
        assert refused.startswith("DeviceInUse: ")
        calls.unprepare(_allocate(divided, 1, 7))
        assert calls.prepare(_allocate(divided, 2, 7))[uid_of(2)].error == ""


def test_a_gpu_that_is_renumbered_takes_its_instances_along(divided: World) -> None:
    with divided.running() as plugin, kubelet(plugin) as calls:
        calls.prepare(_allocate(divided, 1, 7))
        _show_files(divided, 3)
        gpus = list(divided.snapshot.gpus)
        gpus[GPU] = replace(gpus[GPU], gpu=replace(gpus[GPU].gpu, minor=3))
        divided.agent.snapshot = replace(divided.snapshot, revision=2, gpus=tuple(gpus))
        eventually(lambda: _paths(divided, 1) == ["/dev/nvidia3", *_caps(3, 7)])


def test_a_destroyed_instance_keeps_the_file_of_its_claim(divided: World) -> None:
    """The pod's containers may start again: access is the kernel's to refuse, so the file stays."""
    claim = _allocate(divided, 1, 7)
    with divided.running() as plugin, kubelet(plugin) as calls:
        calls.prepare(claim)
        before = _paths(divided, 1)
        for path in sorted((divided.root / "proc").rglob("access")):
            path.unlink()
        assert calls.prepare(claim)[uid_of(1)].error == ""
        assert _paths(divided, 1) == before


def _show_files(node: World, minor: int) -> None:
    script = with_instance(with_instance(gpu_script(PROFILES["a100"], "n", minor), "1g.10gb"), "1g.10gb")
    CapabilityFiles(node.root).show(script)


def _part(whole: GpuHealth, number: int) -> GpuHealth:
    mig = MigInstance(parent=whole.gpu.uuid, profile="1g.10gb", gpu_instance=number, compute_instance=0)
    uuid = GpuUuid(f"MIG-{number}")
    gpu = replace(whole.gpu, uuid=uuid, kind=DeviceKind.MIG, minor=None, mig=mig)
    return replace(whole, gpu=gpu, verdict=replace(whole.verdict, uuid=uuid))


def _allocate(node: World, number: int, instance: int) -> dra.Claim:
    device = device_name(_part(node.snapshot.gpus[GPU], instance).gpu)
    result = AllocatedDevice(request="r", driver=DRIVER, pool=NODE, device=device)
    name = f"claim-{number}"
    node.claims.put(AllocatedClaim(namespace="ml", name=name, uid=uid_of(number), results=(result,)))
    return dra.Claim(namespace="ml", name=name, uid=uid_of(number))


def _paths(node: World, number: int) -> list[str]:
    (path,) = (node.directory / "cdi").glob(f"*{uid_of(number)}.json")
    (device,) = json.loads(path.read_text())["devices"]
    return [each["path"] for each in device["containerEdits"]["deviceNodes"]]


def _caps(minor: int, instance: int) -> list[str]:
    return [f"/dev/nvidia-caps/nvidia-cap{number}" for number in capability_minors(minor, instance)]
