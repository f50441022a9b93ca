"""Our specs beside those of NVIDIA's toolkit: docs/reference/cdi.md, item by item, on a root that has everything."""

import json
import platform
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.inventory.naming import Naming
from gpuvitals.kubeletplugin.cdi.driver_root import DriverRoot
from gpuvitals.kubeletplugin.cdi.spec import spec_bytes
from gpuvitals.kubeletplugin.held_claim import HeldClaim, HeldDevice, MigIds
from gpuvitals.kubeletplugin.outcome import RefusalCode, RefusedError
from gpuvitals.kubeletplugin.settings import DriverRootSettings
from gpuvitals.model.ids import BootId, DeviceName, GpuUuid
from gpuvitals_sim.hardware.mig import capability_minors
from gpuvitals_sim.hardware.scripted_node import ScriptedNode
from gpuvitals_sim.kubelet.cdi import resolve
from support.named_tests import ROOT, missing_tests, named_tests, rows
from support.worlds.plugin_world import uid_of

PAGE = ROOT / "docs" / "reference" / "cdi.md"
VERSION = "595.45.04"
MULTIARCH = "aarch64-linux-gnu" if platform.machine() == "aarch64" else "x86_64-linux-gnu"
DIRECTORIES = (f"/usr/lib/{MULTIARCH}", "/usr/lib64")
SONAMES = {
    "libcuda": "libcuda.so.1",
    "libnvidia-ml": "libnvidia-ml.so.1",
    "libcudadebugger": "libcudadebugger.so.1",
    "libnvidia-ptxjitcompiler": "libnvidia-ptxjitcompiler.so.1",
    "libnvidia-nvvm": "libnvidia-nvvm.so.4",
    "libnvidia-gpucomp": f"libnvidia-gpucomp.so.{VERSION}",
    "libnvidia-opencl": "libnvidia-opencl.so.1",
    "libnvidia-allocator": "libnvidia-allocator.so.1",
    "libnvidia-cfg": "libnvidia-cfg.so.1",
    "libnvidia-encode": "libnvidia-encode.so.1",
    "libnvcuvid": "libnvcuvid.so.1",
    "libnvidia-opticalflow": "libnvidia-opticalflow.so.1",
    "libnvidia-sandboxutils": "libnvidia-sandboxutils.so.1",
    "libnvidia-pkcs11-openssl3": f"libnvidia-pkcs11-openssl3.so.{VERSION}",
}
"""Libraries of the driver's version that computing needs, and the name that programs load each by."""
GRAPHICS = ("libnvidia-glcore", "libnvidia-eglcore", "libnvidia-tls", "libnvidia-rtcore", "libGLX_nvidia")
DAEMONS = ("nvidia-persistenced", "nvidia-imex", "nvidia-imex-ctl")
TOOLS = ("nvidia-smi", "nvidia-debugdump", "nvidia-cuda-mps-control", "nvidia-cuda-mps-server")


@dataclass(frozen=True, slots=True)
class Driver:
    """An installed driver with all that the toolkit looks for, and a claim's spec over it."""

    node: ScriptedNode

    @property
    def root(self) -> Path:
        return self.node.driver_root

    @property
    def libraries(self) -> Path:
        return self.root / "usr" / "lib" / "x86_64-linux-gnu"

    def add(self, stem: str, *links: str, version: str = VERSION) -> None:
        """A library of the driver and the links that its installer makes."""
        (self.libraries / f"{stem}.so.{version}").write_text("elf", encoding="ascii")
        for link in links:
            (self.libraries / link).unlink(missing_ok=True)
            (self.libraries / link).symlink_to(f"{stem}.so.{version}")

    def spec(self, *devices: HeldDevice, **settings: Any) -> dict[str, Any]:
        """The parts for a claim on these devices, by default on the first GPU."""
        given = {
            "driver_root": self.root,
            "dev_root": self.root,
            "proc_root": self.node.proc_root,
            "require_character_devices": False,
        }
        root = DriverRoot(DriverRootSettings(**(given | settings)))
        claim = ClaimRef(namespace="ml", name="claim-1", uid=uid_of(1))
        held = HeldClaim(
            claim=claim, devices=devices or (WHOLE,), prepared_time=datetime(2026, 11, 24, tzinfo=UTC)
        )
        content = spec_bytes(held, root.parts(held.devices), Naming(), BootId("boot-1"))
        found: dict[str, Any] = json.loads(content)
        return found


WHOLE = HeldDevice(uuid=GpuUuid("GPU-0"), device=DeviceName("gpu-0"), minor=0, requests=("r",))
PART = replace(
    WHOLE,
    uuid=GpuUuid("MIG-1"),
    device=DeviceName("gpu-1-mig-7-0"),
    minor=1,
    mig=MigIds(gpu_instance=7, compute_instance=0),
)


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    found = Driver(ScriptedNode.create(tmp_path / "node", name="n", profile="a100", gpus=2))
    found.node.divide(1, "1g.10gb")
    for stem, soname in SONAMES.items():
        found.add(stem, *([] if soname.endswith(VERSION) else [soname]))
    for stem in GRAPHICS:
        found.add(stem, f"{stem}.so.0")
    for below in (
        "dev/nvidia-modeset",
        "dev/dri/card0",
        "dev/dri/renderD128",
        "dev/nvidia-caps/nvidia-cap1",
        f"lib/firmware/nvidia/{VERSION}/gsp_ga10x.bin",
        f"usr/lib/x86_64-linux-gnu/vdpau/libvdpau_nvidia.so.{VERSION}",
        "usr/share/vulkan/icd.d/nvidia_icd.json",
        "run/nvidia-persistenced/socket",
        "run/nvidia-fabricmanager/socket",
        "tmp/nvidia-mps/control",
        *(f"usr/bin/{name}" for name in (*TOOLS, *DAEMONS)),
    ):
        (found.root / below).parent.mkdir(parents=True, exist_ok=True)
        (found.root / below).touch()
    return found


def mounts(spec: dict[str, Any]) -> dict[str, str]:
    """Host path by path in the container."""
    return {each["containerPath"]: each["hostPath"] for each in spec["containerEdits"]["mounts"]}


def own_nodes(spec: dict[str, Any]) -> list[list[str]]:
    """The device nodes of each device."""
    return [[node["path"] for node in device["containerEdits"]["deviceNodes"]] for device in spec["devices"]]


def common_nodes(spec: dict[str, Any]) -> list[str]:
    return [node["path"] for node in spec["containerEdits"]["deviceNodes"]]


def test_a_spec_is_one_claims_and_names_its_devices_alone(driver: Driver) -> None:
    spec = driver.spec(WHOLE, PART)
    assert (spec["cdiVersion"], spec["kind"]) == ("0.6.0", "k8s.gpu.vitals.internal/claim")
    assert [each["name"] for each in spec["devices"]] == [f"{uid_of(1)}-gpu-0", f"{uid_of(1)}-gpu-1-mig-7-0"]


def test_a_runtime_takes_the_spec_as_it_is(driver: Driver, tmp_path: Path) -> None:
    (tmp_path / "cdi").mkdir()
    (tmp_path / "cdi" / "claim.json").write_text(json.dumps(driver.spec(PART)), encoding="ascii")
    edits = resolve([tmp_path / "cdi"], [f"k8s.gpu.vitals.internal/claim={uid_of(1)}-gpu-1-mig-7-0"])
    assert len(edits.device_nodes) == 3 + 3
    assert edits.hooks == []


def test_a_gpu_has_its_node_and_none_of_graphics(driver: Driver) -> None:
    assert own_nodes(driver.spec(WHOLE)) == [["/dev/nvidia0"]]


def test_an_instance_has_its_gpus_node_and_its_two_capabilities(driver: Driver) -> None:
    whole, part = capability_minors(1, 7)
    expected = ["/dev/nvidia1", f"/dev/nvidia-caps/nvidia-cap{whole}", f"/dev/nvidia-caps/nvidia-cap{part}"]
    assert own_nodes(driver.spec(PART)) == [expected]


def test_no_claim_may_divide_gpus(driver: Driver) -> None:
    """nvidia-cap1 and nvidia-cap2 open the configuration and the monitoring of MIG."""
    text = json.dumps(driver.spec(WHOLE, PART))
    assert '/dev/nvidia-caps/nvidia-cap1"' not in text
    assert '/dev/nvidia-caps/nvidia-cap2"' not in text


@pytest.mark.parametrize("lost", ["access", "ci0/access"])
def test_an_instance_without_a_capability_number_is_refused(driver: Driver, lost: str) -> None:
    path = driver.node.proc_root / "driver/nvidia/capabilities/gpu1/mig/gi7" / lost
    path.unlink()
    with pytest.raises(RefusedError) as caught:
        driver.spec(PART)
    refusal = caught.value.refusal
    assert refusal.code is RefusalCode.NODES_MISSING
    assert str(path) in refusal.message
    assert "gpu-1-mig-7-0" in refusal.message


def test_a_capability_file_without_a_minor_is_refused(driver: Driver) -> None:
    path = driver.node.proc_root / "driver/nvidia/capabilities/gpu1/mig/gi7/access"
    path.write_text("DeviceFileMode: 292\n", encoding="ascii")
    with pytest.raises(RefusedError, match="names no DeviceFileMinor"):
        driver.spec(PART)


def test_a_capability_node_that_is_missing_is_refused_with_what_makes_it(driver: Driver) -> None:
    minor = capability_minors(1, 7)[1]
    node = driver.root / f"dev/nvidia-caps/nvidia-cap{minor}"
    node.unlink()
    with pytest.raises(RefusedError) as caught:
        driver.spec(PART)
    refusal = caught.value.refusal
    assert refusal.code is RefusalCode.NODES_MISSING
    assert str(node) in refusal.message
    assert "nvidia-modprobe -f " in refusal.message
    driver.spec(WHOLE)


def test_control_nodes_are_given_and_that_of_displays_is_not(driver: Driver) -> None:
    assert common_nodes(driver.spec()) == ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"]
    (driver.root / "dev/nvidia-uvm-tools").unlink()
    assert common_nodes(driver.spec()) == ["/dev/nvidiactl", "/dev/nvidia-uvm"]


def test_the_environment_keeps_a_legacy_runtime_from_adding_every_gpu(driver: Driver) -> None:
    spec = driver.spec(WHOLE, PART)
    assert spec["containerEdits"]["env"] == ["NVIDIA_VISIBLE_DEVICES=void"]
    assert all("env" not in device["containerEdits"] for device in spec["devices"])


@pytest.mark.parametrize(("stem", "soname"), SONAMES.items(), ids=list(SONAMES))
def test_a_library_is_found_by_its_soname_and_its_development_name(
    driver: Driver, stem: str, soname: str
) -> None:
    found = mounts(driver.spec())
    for directory in DIRECTORIES:
        for name in (soname, f"{stem}.so"):
            assert found[f"{directory}/{name}"] == str(driver.libraries / f"{stem}.so.{VERSION}")


def test_the_old_compiler_library_of_another_version_is_given(driver: Driver) -> None:
    driver.add("libnvidia-nvvm70", "libnvidia-nvvm70.so.4", version="4.0.0")
    assert mounts(driver.spec())["/usr/lib64/libnvidia-nvvm70.so.4"].endswith("libnvidia-nvvm70.so.4.0.0")


def test_a_library_that_only_a_newer_driver_has_is_given_under_its_soname(driver: Driver) -> None:
    driver.add("libnvidia-tileiras", "libnvidia-tileiras.so.2")
    driver.add("libcudaextra")
    driver.add("libnvidia-future", "libnvidia-future.so.1", version="600.1.1")
    found = mounts(driver.spec())
    own = str(driver.libraries / f"libnvidia-tileiras.so.{VERSION}")
    assert found["/usr/lib64/libnvidia-tileiras.so.2"] == own
    assert found[f"/usr/lib64/libnvidia-tileiras.so.{VERSION}"] == own
    assert f"/usr/lib64/libcudaextra.so.{VERSION}" in found
    assert "libnvidia-future" not in json.dumps(found), "left over from another driver"


def test_no_two_libraries_are_mounted_at_one_place(driver: Driver) -> None:
    listed = [each["containerPath"] for each in driver.spec()["containerEdits"]["mounts"]]
    assert len(set(listed)) == len(listed)


@pytest.mark.parametrize("stem", [*GRAPHICS, "libvdpau_nvidia", "nvidia_icd.json"])
def test_graphics_is_left_out(driver: Driver, stem: str) -> None:
    assert stem not in json.dumps(driver.spec())


def test_firmware_is_left_to_the_kernel(driver: Driver) -> None:
    assert "gsp_ga10x" not in json.dumps(driver.spec())


def test_tools_are_given_and_daemons_are_not(driver: Driver) -> None:
    found = mounts(driver.spec())
    assert {path for path in found if path.startswith("/usr/bin/")} == {f"/usr/bin/{tool}" for tool in TOOLS}


def test_no_socket_of_a_daemon_is_given(driver: Driver) -> None:
    text = json.dumps(driver.spec())
    assert not [word for word in ("persistenced", "fabricmanager", "nvidia-mps/") if word in text]


def test_there_is_no_hook_and_every_library_is_on_the_loaders_default_path(
    driver: Driver,
) -> None:
    spec = driver.spec(WHOLE, PART)
    assert "hooks" not in json.dumps(spec)
    parents = {str(Path(path).parent) for path in mounts(spec)}
    assert parents == {*DIRECTORIES, "/usr/bin"}


def test_mounts_can_be_read_and_nothing_else(driver: Driver) -> None:
    options = {tuple(each["options"]) for each in driver.spec()["containerEdits"]["mounts"]}
    assert options == {("ro", "nosuid", "nodev", "rbind", "rprivate")}


def test_a_driver_in_a_container_is_named_by_its_paths_on_the_host(driver: Driver) -> None:
    spec = driver.spec(PART, driver_root_on_host=Path("/run/nvidia/driver"), dev_root_on_host=Path("/"))
    assert {path.startswith("/run/nvidia/driver/usr/") for path in mounts(spec).values()} == {True}
    (device,) = spec["devices"]
    assert [node.get("hostPath", node["path"]) for node in device["containerEdits"]["deviceNodes"]] == [
        node["path"] for node in device["containerEdits"]["deviceNodes"]
    ]


def test_every_row_of_the_page_names_a_test_that_there_is() -> None:
    listed = rows(PAGE, "Item by item")
    assert len(listed) > 20
    assert all(len(cells) == 4 and all(cells) and named_tests(cells[3]) for cells in listed)
    assert missing_tests(PAGE.read_text(encoding="utf-8")) == []
