"""CDI: the content of a spec, the required driver files, and files that follow the checkpoint."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from gpuvitals.kubeletplugin.allocated_claim import ConfigSource, OpaqueConfig
from gpuvitals.kubeletplugin.cdi.driver_root import DriverRoot
from gpuvitals.kubeletplugin.held_claim import HeldDevice, MigIds
from gpuvitals.kubeletplugin.outcome import RefusalCode, RefusedError
from gpuvitals.kubeletplugin.settings import DriverRootSettings
from gpuvitals.model.ids import DeviceName, GpuUuid
from gpuvitals_sim.hardware.driver_files import make_driver_root
from support.fakes.driver_roots import elf, put
from support.waiting import eventually
from support.worlds.plugin_world import DRIVER, FAST, World, kubelet, uid_of, world

DEVICE = HeldDevice(uuid=GpuUuid("GPU-0"), device=DeviceName("gpu-0"), minor=0, requests=("r",))


def spec_of(node: World) -> dict[str, object]:
    (name,) = (name for name in node.cdi_files() if name.endswith(".json"))
    return json.loads((node.directory / "cdi" / name).read_text())


def test_spec_has_nodes_libraries_at_soname_and_dev_name_and_no_hook(node: World) -> None:
    claim = node.allocate(1, 2)
    with node.running() as plugin, kubelet(plugin) as calls:
        calls.prepare(claim)
        spec = spec_of(node)
    assert (spec["cdiVersion"], spec["kind"]) == ("0.6.0", "k8s.gpu.vitals.internal/claim")
    (device,) = spec["devices"]
    assert device["name"] == f"{uid_of(1)}-{node.device(2)}"
    nodes = device["containerEdits"]["deviceNodes"]
    assert nodes == [{"path": "/dev/nvidia2", "hostPath": f"{node.root}/dev/nvidia2", "permissions": "rw"}]
    common = spec["containerEdits"]
    assert common["env"] == ["NVIDIA_VISIBLE_DEVICES=void"]
    assert [each["path"] for each in common["deviceNodes"]] == [
        "/dev/nvidiactl",
        "/dev/nvidia-uvm",
        "/dev/nvidia-uvm-tools",
    ]
    mounts = {mount["containerPath"]: mount["hostPath"] for mount in common["mounts"]}
    library = f"{node.root}/usr/lib/x86_64-linux-gnu/libcuda.so.570.86.15"
    assert mounts["/usr/lib64/libcuda.so.1"] == mounts["/usr/lib64/libcuda.so"] == library
    assert "/usr/lib64/libnvidia-gpucomp.so.570.86.15" in mounts
    assert mounts["/usr/bin/nvidia-smi"] == f"{node.root}/usr/bin/nvidia-smi"
    assert "hooks" not in json.dumps(spec)


def test_configs_reach_their_own_device_only(node: World) -> None:
    claim = node.allocate(1, 0, 1)
    parameters = json.dumps(
        {"apiVersion": "vitals.internal/v1alpha1", "kind": "GpuConfig", "env": {"NCCL_DEBUG": "INFO"}}
    )
    config = OpaqueConfig(
        source=ConfigSource.CLAIM, requests=("r1",), driver=DRIVER, parameters=parameters.encode()
    )
    node.claims.put(replace(node.claims.claims["ml", "claim-1"], configs=(config,)))
    with node.running() as plugin, kubelet(plugin) as calls:
        assert calls.prepare(claim)[uid_of(1)].error == ""
        first, second = spec_of(node)["devices"]
    assert "env" not in first["containerEdits"]
    assert second["containerEdits"]["env"] == ["NCCL_DEBUG=INFO"]


@pytest.mark.parametrize(
    ("missing", "code"),
    [
        ("usr/lib/x86_64-linux-gnu/libcuda.so", "DriverLibrariesMissing"),
        ("usr/lib/x86_64-linux-gnu/libnvidia-ml.so", "DriverLibrariesMissing"),
        ("dev/nvidia0", "DeviceNodesMissing"),
        ("dev/nvidiactl", "DeviceNodesMissing"),
    ],
)
def test_missing_driver_parts_refuse_the_claim_and_leave_no_file(
    node: World, missing: str, code: str
) -> None:
    target = node.root / missing
    for path in target.parent.glob(target.name + "*"):
        path.unlink()
    with node.running() as plugin, kubelet(plugin) as calls:
        assert calls.prepare(node.allocate(1, 0))[uid_of(1)].error.startswith(f"{code}: ")
        assert (node.cdi_files(), plugin.prepared()) == ([], ())
        eventually(lambda: code in node.events.reasons())


def test_regular_file_is_a_device_node_only_if_the_settings_allow_it(tmp_path: Path) -> None:
    make_driver_root(tmp_path, gpus=1, version="570.86.15")
    for name in ("libcuda.so.1", "libnvidia-ml.so.1"):
        put(tmp_path / "usr/lib64" / name, elf())
    strict = DriverRootSettings(driver_root=tmp_path, dev_root=tmp_path)
    with pytest.raises(RefusedError) as caught:
        DriverRoot(strict).parts((DEVICE,))
    assert caught.value.refusal.code is RefusalCode.NODES_MISSING


def test_links_are_resolved_inside_the_driver_root(tmp_path: Path) -> None:
    """An absolute link means a path of the driver's container, and `..` never leaves the root."""
    make_driver_root(tmp_path, gpus=1, version="570.86.15")
    libraries = tmp_path / "usr/lib/x86_64-linux-gnu"
    (libraries / "libcuda.so.1").unlink()
    (libraries / "libcuda.so.1").symlink_to("/../../opt/nv/libcuda.so.1")
    (tmp_path / "opt/nv").mkdir(parents=True)
    (tmp_path / "opt/nv/libcuda.so.1").write_text("elf")
    settings = DriverRootSettings(
        driver_root=tmp_path,
        driver_root_on_host=Path("/run/nvidia/driver"),
        dev_root=tmp_path,
        dev_root_on_host=Path("/"),
        require_character_devices=False,
        container_library_directories=("/lib64",),
    )
    parts = DriverRoot(settings).parts((DEVICE,))
    found = {mount.container_path: mount.host_path for mount in parts.common.mounts}
    assert found["/lib64/libcuda.so.1"] == "/run/nvidia/driver/opt/nv/libcuda.so.1"
    assert parts.device_nodes[0][0].host_path == "/dev/nvidia0"


def test_driver_upgrade_under_a_running_agent_is_seen(tmp_path: Path) -> None:
    """The look-up is remembered only for as long as no directory of it changes."""
    make_driver_root(tmp_path, gpus=1, version="570.86.15")
    libraries = tmp_path / "usr/lib/x86_64-linux-gnu"
    for directory in (libraries, tmp_path / "usr/bin", tmp_path / "usr/lib"):
        os.utime(directory, (1_700_000_000, 1_700_000_000))
    settings = DriverRootSettings(driver_root=tmp_path, dev_root=tmp_path, require_character_devices=False)
    root = DriverRoot(settings)
    assert root.parts((DEVICE,)) == root.parts((DEVICE,))
    (libraries / "libcuda.so.1").unlink()
    (libraries / "libcuda.so.580.1.2").write_text("elf")
    (libraries / "libcuda.so.1").symlink_to("libcuda.so.580.1.2")
    hosts = {mount.host_path for mount in root.parts((DEVICE,)).common.mounts}
    assert str(libraries / "libcuda.so.580.1.2") in hosts
    (tmp_path / "dev/nvidia0").unlink()
    with pytest.raises(RefusedError):
        root.parts((DEVICE,))


def test_link_loop_is_a_missing_library(tmp_path: Path) -> None:
    make_driver_root(tmp_path, gpus=1, version="570.86.15")
    libraries = tmp_path / "usr/lib/x86_64-linux-gnu"
    for name in ("libcuda.so.1", "libcuda.so.570.86.15"):
        (libraries / name).unlink()
    (libraries / "libcuda.so.1").symlink_to("libcuda.so.1")
    settings = DriverRootSettings(driver_root=tmp_path, dev_root=tmp_path, require_character_devices=False)
    with pytest.raises(RefusedError) as caught:
        DriverRoot(settings).parts(())
    assert caught.value.refusal.code is RefusalCode.LIBRARIES_MISSING


def test_mig_device_gets_its_capability_nodes(tmp_path: Path) -> None:
    make_driver_root(tmp_path, gpus=1, version="570.86.15")
    instance = tmp_path / "proc/driver/nvidia/capabilities/gpu0/mig/gi7"
    (instance / "ci0").mkdir(parents=True)
    for path, minor in ((instance / "access", 66), (instance / "ci0/access", 67)):
        path.write_text(f"DeviceFileMinor: {minor}\nDeviceFileMode: 292\nDeviceFileModify: 1\n")
        caps = tmp_path / "dev/nvidia-caps"
        caps.mkdir(exist_ok=True)
        (caps / f"nvidia-cap{minor}").write_text("")
    settings = DriverRootSettings(
        driver_root=tmp_path,
        dev_root=tmp_path,
        proc_root=tmp_path / "proc",
        require_character_devices=False,
    )
    slice_of = replace(DEVICE, mig=MigIds(gpu_instance=7, compute_instance=0))
    nodes = DriverRoot(settings).parts((slice_of,)).device_nodes[0]
    assert [node.path for node in nodes] == [
        "/dev/nvidia0",
        "/dev/nvidia-caps/nvidia-cap66",
        "/dev/nvidia-caps/nvidia-cap67",
    ]


def test_lost_file_comes_back_without_a_call(node: World) -> None:
    with node.running() as plugin, kubelet(plugin) as calls:
        calls.prepare(node.allocate(1, 0))
        (name,) = node.cdi_files()
        path = node.directory / "cdi" / name
        content = path.read_bytes()
        path.unlink()
        eventually(path.exists)
        assert path.read_bytes() == content
        path.write_text("{}")
        eventually(lambda: path.read_bytes() == content)


def test_wiped_directory_is_restored_with_every_file(node: World) -> None:
    with node.running() as plugin, kubelet(plugin) as calls:
        calls.prepare(node.allocate(1, 0), node.allocate(2, 1))
        before = node.cdi_files()
        (node.directory / "cdi").rename(node.directory / "wiped")
        eventually(lambda: node.cdi_files() == before)


def test_lost_file_is_rebuilt_at_start_and_on_replay(node: World) -> None:
    claim = node.allocate(1, 0)
    with node.running() as plugin, kubelet(plugin) as calls:
        calls.prepare(claim)
    (name,) = node.cdi_files()
    path = node.directory / "cdi" / name
    path.unlink()
    slow = replace(FAST, watch_seconds=30.0, reconcile_seconds=30.0)
    with node.running(limits=slow) as plugin, kubelet(plugin) as calls:
        eventually(path.exists)
        path.unlink()
        calls.prepare(claim)
        assert path.exists()


def test_intact_file_stays_when_the_driver_is_gone_and_a_lost_one_is_an_error(node: World) -> None:
    claim = node.allocate(1, 0)
    with node.running() as plugin, kubelet(plugin) as calls:
        first = calls.prepare(claim)
        (node.root / "dev/nvidia0").unlink()
        assert calls.prepare(claim) == first
        (node.directory / "cdi" / node.cdi_files()[0]).unlink()
        assert calls.prepare(claim)[uid_of(1)].error.startswith("DeviceNodesMissing: ")
        eventually(lambda: "CdiFileMissing" in node.events.reasons())


def test_orphans_of_ours_are_removed_and_files_of_others_are_not(node: World) -> None:
    cdi = node.directory / "cdi"
    cdi.mkdir()
    orphan = cdi / f"k8s.gpu.vitals.internal-claim_{uid_of(9)}.json"
    orphan.write_text(json.dumps({"kind": "k8s.gpu.vitals.internal/claim"}))
    torn = cdi / f"k8s.gpu.vitals.internal-claim_{uid_of(8)}.json"
    torn.write_text('{"kind')
    half = cdi / ".gpuvitals-abcdef"
    half.write_text("")
    foreign_kind = cdi / f"k8s.gpu.vitals.internal-claim_{uid_of(7)}.json"
    foreign_kind.write_text(json.dumps({"kind": "nvidia.com/gpu"}))
    foreign = cdi / "nvidia.yaml"
    foreign.write_text("kind: nvidia.com/gpu\n")
    with node.running():
        eventually(lambda: not orphan.exists() and not torn.exists() and not half.exists())
    assert node.cdi_files() == sorted([foreign.name, foreign_kind.name])


def test_young_orphans_are_left_to_the_call_that_may_be_writing_them(node: World) -> None:
    cdi = node.directory / "cdi"
    cdi.mkdir()
    young = cdi / f"k8s.gpu.vitals.internal-claim_{uid_of(9)}.json"
    young.write_text("{}")
    old = cdi / f"k8s.gpu.vitals.internal-claim_{uid_of(8)}.json"
    old.write_text("{}")
    os.utime(old, (1, 1))
    with node.running(limits=replace(FAST, orphan_grace_seconds=60.0)):
        eventually(lambda: not old.exists())
        assert young.exists()


def test_planted_symlink_is_replaced_and_never_written_through(node: World) -> None:
    cdi = node.directory / "cdi"
    cdi.mkdir()
    victim = node.directory / "victim"
    victim.write_text("precious")
    (cdi / f"k8s.gpu.vitals.internal-claim_{uid_of(1)}.json").symlink_to(victim)
    with node.running() as plugin, kubelet(plugin) as calls:
        assert calls.prepare(node.allocate(1, 0))[uid_of(1)].error == ""
        assert spec_of(node)["kind"] == "k8s.gpu.vitals.internal/claim"
    assert victim.read_text() == "precious"


def test_renumbered_device_minor_reaches_the_file(node: World) -> None:
    """A driver reload can renumber minors: the file follows the snapshot."""
    with node.running() as plugin, kubelet(plugin) as calls:
        calls.prepare(node.allocate(1, 0))
        entries = list(node.snapshot.gpus)
        entries[0] = replace(entries[0], gpu=replace(entries[0].gpu, minor=3))
        node.agent.snapshot = replace(node.snapshot, revision=2, gpus=tuple(entries))
        eventually(
            lambda: spec_of(node)["devices"][0]["containerEdits"]["deviceNodes"][0]["path"] == "/dev/nvidia3"
        )


def test_a_minor_number_that_another_gpu_has_now_opens_nothing(node: World) -> None:
    """Finding N1: GPU 0 is lost and the driver was reloaded, which renumbers the GPUs after it."""
    with node.running() as plugin, kubelet(plugin) as calls:
        calls.prepare(node.allocate(1, 0))
        gpus = [
            replace(entry, gpu=replace(entry.gpu, minor=index - 1 if index else None))
            for index, entry in enumerate(node.snapshot.gpus)
        ]
        node.agent.snapshot = replace(node.snapshot, revision=2, gpus=tuple(gpus))
        eventually(lambda: spec_of(node)["devices"][0]["containerEdits"]["deviceNodes"] == [])


def test_a_minor_number_that_was_not_read_costs_no_node(node: World) -> None:
    with node.running() as plugin, kubelet(plugin) as calls:
        calls.prepare(node.allocate(1, 0))
        gpus = list(node.snapshot.gpus)
        gpus[0] = replace(gpus[0], gpu=replace(gpus[0].gpu, minor=None))
        node.agent.snapshot = replace(node.snapshot, revision=2, gpus=tuple(gpus))
        calls.prepare(node.allocate(1, 0))
        assert spec_of(node)["devices"][0]["containerEdits"]["deviceNodes"][0]["path"] == "/dev/nvidia0"


def test_unwritable_cdi_directory_refuses_and_records_nothing() -> None:
    with world() as node:
        (node.directory / "cdi").write_text("a file where the directory should be")
        with node.running() as plugin, kubelet(plugin) as calls:
            assert calls.prepare(node.allocate(1, 0))[uid_of(1)].error.startswith("StorageFailed: ")
            assert plugin.prepared() == ()
        (node.directory / "cdi").unlink()


def test_a_replaced_board_gets_no_node_of_another_gpu(node: World) -> None:
    """Finding R1: the new board in the slot has the old one's minor number, and is not the claim's."""
    claim = node.allocate(1, 0, 2)
    with node.running() as plugin, kubelet(plugin) as calls:
        calls.prepare(claim)
        old, gpus = node.snapshot.gpus[2], list(node.snapshot.gpus)
        gpus[2] = replace(old, gpu=replace(old.gpu, uuid=GpuUuid("GPU-new")))
        node.agent.snapshot = replace(node.snapshot, revision=2, gpus=tuple(gpus), replaced=(old,))

        def edits() -> list[dict[str, object]]:
            return [device["containerEdits"] for device in spec_of(node)["devices"]]

        eventually(lambda: edits()[1]["deviceNodes"] == [])
        assert edits()[0]["deviceNodes"], "the sibling keeps its node"
        assert edits()[1]["env"] == ["GPUVITALS_DEVICE_REPLACED=true"]
        assert calls.prepare(claim)[uid_of(1)].error == "", "what is prepared is answered for"
