"""The driver's files on every platform, as found by NVML's worker and by Prepare, in made roots."""

import os
import platform
from pathlib import Path

import pytest

from gpuvitals.driverfiles.search import NVML, Query, candidates, find_driver
from gpuvitals.driverfiles.tree import FileTree
from gpuvitals.kubeletplugin.cdi.driver_root import DriverRoot
from gpuvitals.kubeletplugin.held_claim import HeldDevice
from gpuvitals.kubeletplugin.outcome import RefusalCode, RefusedError
from gpuvitals.kubeletplugin.settings import DriverRootSettings
from gpuvitals.model.ids import DeviceName, GpuUuid
from support.fakes.driver_roots import LAYOUTS, MULTIARCH, VERSION, Layout, elf, libraries, link, nodes, put
from support.named_tests import ROOT

DEVICE = HeldDevice(uuid=GpuUuid("GPU-0"), device=DeviceName("gpu-0"), minor=0, requests=("r",))


def driver_root(root: Path, **settings: object) -> DriverRoot:
    """As the chart's defaults have it: the node's root below one folder, its /dev besides."""
    given: dict[str, object] = {
        "driver_root": root,
        "driver_root_on_host": Path("/"),
        "dev_root": root,
        "dev_root_on_host": Path("/"),
        "proc_root": root / "proc",
        "container_library_directories": ("/lib64",),
        "require_character_devices": False,
    }
    return DriverRoot(DriverRootSettings(**(given | settings)))  # type: ignore[arg-type]


def mounts(found: DriverRoot) -> dict[str, str]:
    """Host path by path in the container."""
    return {each.container_path: each.host_path for each in found.parts((DEVICE,)).common.mounts}


def nvml(root: Path, loaded: str = "", extra: tuple[str, ...] = ()) -> list[str]:
    """The files that a worker tries to load, in its order."""
    tree, asked = FileTree(root), Query(machine=platform.machine(), loaded=loaded, extra=extra)
    return [each.path for each in candidates(tree, find_driver(tree, asked), NVML, asked) if not each.flaw]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_a_claim_gets_the_files_of_the_driver_wherever_the_platform_has_them(
    layout: Layout, tmp_path: Path
) -> None:
    """Finding P1, Finding P8: nodes and libraries are found by themselves, with one set of values for all platforms."""
    layout.make(tmp_path)
    parts = driver_root(tmp_path).parts((DEVICE,))
    found = {each.container_path: each.host_path for each in parts.common.mounts}
    for stem in ("libcuda", "libnvidia-ml"):
        assert found[f"/lib64/{stem}.so.1"] == f"/{layout.libraries}/{stem}.so.{VERSION}"
    if layout.program:
        assert found["/usr/bin/nvidia-smi"] == f"/{layout.program}/nvidia-smi"
    where = f"/{layout.nodes}" if layout.nodes else ""
    for node in (*parts.common.nodes, *parts.device_nodes[0]):
        assert node.host_path == f"{where}{node.path}"


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_nvml_is_loaded_from_where_the_claims_library_is(layout: Layout, tmp_path: Path) -> None:
    """Finding P4: one search for both sides."""
    layout.make(tmp_path)
    first = nvml(tmp_path)[0]
    assert first == f"{layout.libraries}/libnvidia-ml.so.{VERSION}"
    assert mounts(driver_root(tmp_path))["/lib64/libnvidia-ml.so.1"] == f"/{first}"


def test_every_layout_has_its_row_in_the_guide() -> None:
    page = (ROOT / "docs/guides/platforms.md").read_text(encoding="utf-8")
    assert [layout.name for layout in LAYOUTS if f"`{layout.name}`" not in page] == []


def test_each_node_is_looked_for_by_itself(tmp_path: Path) -> None:
    """Finding P1: NVML as root makes nodes in the host's /dev, but not the one of nvidia-uvm."""
    libraries(tmp_path / "run/nvidia/driver/usr/lib64")
    nodes(tmp_path / "run/nvidia/driver", ("nvidia-uvm",))
    nodes(tmp_path, ("nvidiactl", "nvidia0"))
    parts = driver_root(tmp_path).parts((DEVICE,))
    found = {each.path: each.host_path for each in (*parts.common.nodes, *parts.device_nodes[0])}
    assert found == {
        "/dev/nvidia-uvm": "/run/nvidia/driver/dev/nvidia-uvm",
        "/dev/nvidiactl": "/dev/nvidiactl",
        "/dev/nvidia0": "/dev/nvidia0",
    }


def test_a_driver_root_that_is_named_has_its_own_nodes(tmp_path: Path) -> None:
    """Finding P1: driver.root set to the driver container's root, devices left to the node's /."""
    driver, host = tmp_path / "driver", tmp_path / "host"
    libraries(driver / "usr/lib64")
    nodes(driver)
    (host / "dev").mkdir(parents=True)
    found = driver_root(driver, driver_root_on_host=Path("/run/nvidia/driver"), dev_root=host)
    assert found.parts((DEVICE,)).device_nodes[0][0].host_path == "/run/nvidia/driver/dev/nvidia0"


@pytest.mark.parametrize(
    ("missing", "command"),
    [
        ("nvidia-uvm", "nvidia-modprobe -u -c0"),
        ("nvidiactl", "nvidia-modprobe -c0"),
        ("nvidia0", "nvidia-modprobe -c0"),
    ],
)
@pytest.mark.parametrize(
    ("home", "prefix"),
    [
        ("", ""),
        ("run/nvidia/driver", "chroot /run/nvidia/driver "),
        ("home/kubernetes/bin/nvidia", "/home/kubernetes/bin/nvidia/bin/"),
    ],
)
def test_a_missing_node_is_refused_with_the_command_that_makes_it(
    tmp_path: Path, missing: str, command: str, home: str, prefix: str
) -> None:
    """Finding P2: the advice can be run as it stands."""
    libraries(tmp_path / home / "usr/lib64")
    nodes(tmp_path, tuple(name for name in ("nvidiactl", "nvidia-uvm", "nvidia0") if name != missing))
    with pytest.raises(RefusedError) as caught:
        driver_root(tmp_path).parts((DEVICE,))
    assert caught.value.refusal.code is RefusalCode.NODES_MISSING
    assert f"`{prefix}{command}`" in caught.value.refusal.message
    assert str(tmp_path / "dev" / missing) in caught.value.refusal.message


def test_wsl_is_refused_as_unsupported(tmp_path: Path) -> None:
    """Finding P2: GPUs of WSL2 have one node, /dev/dxg."""
    libraries(tmp_path / "usr/lib/wsl/lib")
    put(tmp_path / "dev/dxg")
    with pytest.raises(RefusedError) as caught:
        driver_root(tmp_path).parts((DEVICE,))
    assert caught.value.refusal.code is RefusalCode.PLATFORM_UNSUPPORTED
    assert "WSL2" in caught.value.refusal.message


def stray_folder(path: Path) -> None:
    path.mkdir(parents=True)


def stray_script(path: Path) -> None:
    put(path, b"INPUT(libnvidia-ml.so.595)\n")


def other_machine(path: Path) -> None:
    put(path, elf("x86_64" if platform.machine() == "aarch64" else "aarch64"))


def loop(path: Path) -> None:
    link(path, path.name)


STRAYS = {
    "folder": stray_folder,
    "empty": put,
    "script": stray_script,
    "32 bits": lambda path: put(path, elf("i386", bits=32)),
    "other machine": other_machine,
    "half a header": lambda path: put(path, elf()[:10]),
    "dangling link": lambda path: link(path, "/nowhere/at/all"),
    "loop": loop,
}


@pytest.mark.parametrize("stray", STRAYS.values(), ids=list(STRAYS))
@pytest.mark.parametrize("stem", ["libcuda", "libnvidia-ml"])
def test_what_only_has_the_name_of_a_library_hides_none(tmp_path: Path, stray: object, stem: str) -> None:
    """Finding P4: in a folder that is searched earlier, and in that of the driver itself."""
    assert callable(stray)
    libraries(tmp_path / "usr/lib" / MULTIARCH)
    nodes(tmp_path)
    stray(tmp_path / f"usr/lib64/{stem}.so.1")
    (tmp_path / "usr/lib" / MULTIARCH / f"{stem}.so.1").unlink()
    stray(tmp_path / "usr/lib" / MULTIARCH / f"{stem}.so.1")
    wanted = f"usr/lib/{MULTIARCH}/{stem}.so.{VERSION}"
    assert mounts(driver_root(tmp_path))[f"/lib64/{stem}.so.1"] == f"/{wanted}"
    if stem == "libnvidia-ml":
        assert nvml(tmp_path) == [wanted]


def test_of_two_drivers_the_loaded_one_is_used(tmp_path: Path) -> None:
    """A driver container was replaced by a driver on the node, and its files stayed; or an old branch was left over."""
    libraries(tmp_path / "run/nvidia/driver/usr/lib64", "570.86.15")
    libraries(tmp_path / "usr/lib64", "580.1.2")
    libraries(tmp_path / "usr/lib" / MULTIARCH)
    nodes(tmp_path)
    line = f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {VERSION}  Release Build  (a@b)\n"
    put(tmp_path / "proc/driver/nvidia/version", line.encode())
    found = driver_root(tmp_path)
    assert mounts(found)["/lib64/libcuda.so.1"] == f"/usr/lib/{MULTIARCH}/libcuda.so.{VERSION}"
    put(tmp_path / "proc/driver/nvidia/version", line.replace(VERSION, "570.86.15").encode())
    assert mounts(found)["/lib64/libcuda.so.1"] == "/run/nvidia/driver/usr/lib64/libcuda.so.570.86.15"
    assert nvml(tmp_path, "580.1.2") == [
        "usr/lib64/libnvidia-ml.so.580.1.2",
        f"usr/lib/{MULTIARCH}/libnvidia-ml.so.{VERSION}",
    ]


def test_a_further_folder_is_searched_first(tmp_path: Path) -> None:
    """Finding P8: for a platform that is not in the table."""
    libraries(tmp_path / "usr/lib64", "470.1.1")
    libraries(tmp_path / "data/nv")
    nodes(tmp_path)
    found = driver_root(tmp_path, library_directories=("/data/nv",))
    assert mounts(found)["/lib64/libcuda.so.1"] == f"/data/nv/libcuda.so.{VERSION}"
    assert nvml(tmp_path, extra=("/data/nv",))[0] == f"data/nv/libnvidia-ml.so.{VERSION}"


def test_a_wrong_driver_root_names_what_is_missing_and_every_place(tmp_path: Path) -> None:
    """Finding P4, Finding P8: the error is enough to find the mistake."""
    stray_folder(tmp_path / "usr/lib64/libcuda.so.1")
    with pytest.raises(RefusedError) as caught:
        driver_root(tmp_path, library_directories=("data/nv",)).parts((DEVICE,))
    message = caught.value.refusal.message
    assert caught.value.refusal.code is RefusalCode.LIBRARIES_MISSING
    assert "no libcuda.so.1 and no libnvidia-ml.so.1" in message
    assert "usr/lib64/libcuda.so.1 is not a file" in message
    for place in ("data/nv", "/run/nvidia/driver", "/home/kubernetes/bin/nvidia", "usr/local/glibc/lib"):
        assert place in message


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    """As root nothing is forbidden, so the folder answers EIO in the only way that a test can have: a link too long."""
    link(tmp_path / "usr", "x" * 300)
    tree = FileTree(tmp_path)
    find_driver(tree, Query(machine="x86_64"))
    assert "File name too long" in " ".join(tree.troubles.values())


def test_a_node_without_a_sound_library_is_reported(tmp_path: Path) -> None:
    """Finding P2: a stub, an empty file or a library of 32 bits under the right name lets no container use a GPU."""
    nodes(tmp_path)
    put(tmp_path / "usr/lib64/libcuda.so.1", b"")
    put(tmp_path / "usr/lib/libcuda.so.1", elf("i386", bits=32))
    put(tmp_path / "usr/lib64/libnvidia-ml.so.1", elf())
    refusal = driver_root(tmp_path, require_character_devices=True).refusal()
    assert refusal is not None
    assert "has no libcuda.so.1; " in refusal.message
    assert "usr/lib64/libcuda.so.1 is empty" in refusal.message
    assert "usr/lib/libcuda.so.1 is a library for a machine other than" in refusal.message


def test_names_that_are_no_text_reach_neither_a_claim_nor_an_error(tmp_path: Path) -> None:
    """Finding P4: a CDI file is JSON and an answer is protobuf; neither carries such bytes."""
    nodes(tmp_path)
    odd = os.fsencode(tmp_path) + b"/usr/lib/nvidia/\xff"
    os.makedirs(odd)
    for stem in (b"libcuda", b"libnvidia-ml"):
        Path(os.fsdecode(odd + b"/" + stem + b".so.1")).write_bytes(elf())
    os.symlink(odd, tmp_path / "usr/lib64")
    refusal = driver_root(tmp_path).refusal()
    assert refusal is not None
    assert "usr/lib64 is a link to a name that is not UTF-8" in refusal.message.replace(": is", " is")
    refusal.message.encode()

    libraries(tmp_path / "usr/lib" / MULTIARCH)
    put(tmp_path / "usr/lib" / MULTIARCH / f"libnvidia-new.so.{VERSION}", elf())
    beside = os.fsencode(tmp_path / "usr/lib" / MULTIARCH) + b"/libcuda-\xff.so"
    os.symlink(f"libnvidia-new.so.{VERSION}".encode(), beside)
    found = mounts(driver_root(tmp_path))
    assert f"/lib64/libnvidia-new.so.{VERSION}" in found
    for path in (*found, *found.values()):
        path.encode()
