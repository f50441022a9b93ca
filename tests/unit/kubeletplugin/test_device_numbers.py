"""Device nodes whose numbers are another device's: a container runtime injects by numbers, not by the name of a node."""

import os
import stat
from pathlib import Path

import pytest

from gpuvitals.kubeletplugin.cdi.device_nodes import wrong_numbers
from gpuvitals.kubeletplugin.cdi.driver_root import DriverRoot
from gpuvitals.kubeletplugin.held_claim import HeldDevice
from gpuvitals.kubeletplugin.outcome import RefusalCode
from gpuvitals.kubeletplugin.settings import DriverRootSettings
from gpuvitals.model.ids import DeviceName, GpuUuid
from support.fakes.driver_roots import libraries, put

GPU = HeldDevice(uuid=GpuUuid("GPU-1"), device=DeviceName("gpu-0000-01-00-0"), minor=1, requests=("gpu",))
MAJORS = {"nvidia": 195, "nvidiactl": 195, "nvidia-uvm": 511, "nvidia-caps": 508}
RIGHT = {"nvidiactl": (195, 255), "nvidia-uvm": (511, 0), "nvidia-uvm-tools": (511, 1), "nvidia1": (195, 1)}


@pytest.mark.parametrize(
    ("node", "has", "majors", "wanted"),
    [
        ("nvidia3", (195, 3), MAJORS, ""),
        ("nvidia3", (195, 2), MAJORS, "195:3"),
        ("nvidia3", (195, 2), {}, "195:3"),
        ("nvidia3", (240, 3), {}, ""),
        ("nvidia3", (240, 3), MAJORS, "195:3"),
        ("nvidia0", (195, 0), {"nvidia-frontend": 195}, ""),
        ("nvidiactl", (195, 255), MAJORS, ""),
        ("nvidiactl", (1, 3), MAJORS, "195:255"),
        ("nvidia-uvm", (510, 0), MAJORS, "511:0"),
        ("nvidia-uvm-tools", (511, 0), MAJORS, "511:1"),
        ("nvidia-caps/nvidia-cap12", (508, 12), MAJORS, ""),
        ("nvidia-caps/nvidia-cap12", (508, 21), MAJORS, "508:12"),
        ("dxg", (10, 126), MAJORS, ""),
    ],
)
def test_the_numbers_of_a_node(node: str, has: tuple[int, int], majors: dict[str, int], wanted: str) -> None:
    assert wrong_numbers(f"dev/{node}", has, majors) == wanted


def made(root: Path, numbers: dict[str, tuple[int, int]]) -> DriverRoot:
    """A driver root with these device nodes, on a machine with the drivers of MAJORS."""
    libraries(root / "usr/lib64")
    listed = "".join(f"{number:3} {name}\n" for name, number in MAJORS.items())
    put(
        root / "proc/devices",
        f"Character devices:\n  1 mem\n{listed}\nBlock devices:\n259 nvidia-uvm\n".encode(),
    )
    (root / "dev").mkdir()
    for name, (major, minor) in numbers.items():
        os.mknod(root / "dev" / name, stat.S_IFCHR | 0o666, os.makedev(major, minor))
    return DriverRoot(DriverRootSettings(driver_root=root, dev_root=root, proc_root=root / "proc"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make device nodes")
@pytest.mark.parametrize("node", RIGHT)
def test_no_claim_is_prepared_on_the_node_of_another_device(tmp_path: Path, node: str) -> None:
    """Finding P2: `nvidia1` with the numbers of GPU 0 would give the claim GPU 0; a stale nvidia-uvm opens nothing."""
    right = made(tmp_path / "right", RIGHT)
    assert (right.refusal(), right.refusal_of(GPU)) == (None, None)

    wrong = made(tmp_path / "wrong", {**RIGHT, node: (195, 0)})
    refusals = [each for each in (wrong.refusal(), wrong.refusal_of(GPU)) if each is not None]
    if node == "nvidia-uvm-tools":
        assert refusals == []  # left out: no program needs it
        return
    (refusal,) = refusals
    major, minor = RIGHT[node]
    assert refusal.code is RefusalCode.NODES_MISSING
    assert f"dev/{node} has the numbers 195:0 in place of {major}:{minor}; `" in refusal.message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make device nodes")
def test_the_node_with_the_right_numbers_is_taken(tmp_path: Path) -> None:
    """Finding P1: the driver container's nodes are stale, those of the host are right."""
    root = made(tmp_path, RIGHT)
    libraries(tmp_path / "run/nvidia/driver/usr/lib64")
    stale = tmp_path / "run/nvidia/driver/dev"
    stale.mkdir()
    os.mknod(stale / "nvidia1", stat.S_IFCHR | 0o666, os.makedev(195, 7))
    parts = root.parts((GPU,))
    assert parts.device_nodes[0][0].host_path == str(tmp_path / "dev/nvidia1")
