"""Checks of the driver's files: lacks that are certain or only suspected, for a device or for the node."""

from dataclasses import replace
from pathlib import Path

import pytest

from gpuvitals.health.reasons import is_reason
from gpuvitals.health.unusable import FILE_REASONS
from gpuvitals.kubeletplugin.cdi.driver_root import DriverRoot
from gpuvitals.kubeletplugin.files_watch import FilesWatch
from gpuvitals.kubeletplugin.outcome import RefusalCode
from gpuvitals.kubeletplugin.settings import DriverRootSettings
from gpuvitals.model.gpu import DeviceKind, Gpu, MigInstance
from gpuvitals.model.ids import GpuUuid
from support.fakes.driver_roots import libraries, nodes, put
from support.worlds.snapshots import gpu


class Watched:
    """A made root with two GPUs, and a watch whose checks the test makes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        libraries(root / "usr/lib64")
        nodes(root, ("nvidiactl", "nvidia-uvm", "nvidia0", "nvidia1"))
        settings = DriverRootSettings(
            driver_root=root, dev_root=root, proc_root=root / "proc", require_character_devices=False
        )
        self.changes = 0
        self.is_gpu_on_bus = False
        self.gpus: list[Gpu] = [gpu(0), gpu(1)]
        self.watch = FilesWatch(DriverRoot(settings), self, self)

    def has_gpu(self) -> bool:
        return self.is_gpu_on_bus

    def wake(self) -> None:
        self.changes += 1

    def look(self, times: int = 1) -> dict[str, str]:
        """The reasons by UUID after that many looks."""
        self.watch.latest(self.gpus)
        for _ in range(times):
            self.watch.check()
        return {uuid: lack.reason for uuid, lack in self.watch.latest(self.gpus).lacks.items()}

    def checked(self) -> set[GpuUuid]:
        return set(self.watch.latest(self.gpus).checked)


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_complete_files_are_settled_by_one_check(watched: Watched) -> None:
    assert watched.look() == {}
    assert watched.checked() == {gpu(0).uuid, gpu(1).uuid}
    assert watched.changes == 1
    watched.look(3)
    assert watched.changes == 1


def test_a_lack_counts_after_two_looks_and_ends_with_one(watched: Watched) -> None:
    """Finding P2: an upgrade that replaces a file between two looks takes nothing out."""
    watched.look()
    (watched.root / "dev/nvidia-uvm").unlink()
    assert watched.look() == {}
    put(watched.root / "dev/nvidia-uvm")
    assert watched.look() == {}
    (watched.root / "dev/nvidia-uvm").unlink()
    assert set(watched.look(2).values()) == {"DeviceNodesMissing"}
    assert "nvidia-modprobe -u -c0" in watched.watch.problem
    put(watched.root / "dev/nvidia-uvm")
    assert watched.look() == {}
    assert watched.watch.problem == ""


def test_a_new_device_is_not_settled_while_it_is_only_suspected(watched: Watched) -> None:
    """Finding P2: nothing is offered before it is known that it can be prepared."""
    (watched.root / "dev/nvidia1").unlink()
    watched.look()
    assert watched.checked() == {gpu(0).uuid}
    assert watched.look() == {gpu(1).uuid: "DeviceNodesMissing"}
    assert watched.checked() == {gpu(0).uuid, gpu(1).uuid}
    assert watched.watch.problem.startswith("1 of 2 devices can't be prepared: ")


def test_one_cause_that_follows_another_never_shows_the_device_as_whole(watched: Watched) -> None:
    (watched.root / "dev/nvidia-uvm").unlink()
    watched.look(2)
    for path in (watched.root / "usr/lib64").iterdir():
        path.unlink()
    assert set(watched.look().values()) == {"DeviceNodesMissing"}
    assert watched.watch.problem
    assert set(watched.look().values()) == {"DriverLibrariesMissing"}
    assert "libcuda.so.1" in watched.watch.problem


def test_a_device_that_is_gone_lacks_nothing(watched: Watched) -> None:
    (watched.root / "dev/nvidia1").unlink()
    watched.look(2)
    watched.gpus.pop()
    assert watched.look() == {}
    assert watched.checked() == {gpu(0).uuid}


def test_a_gpu_in_mig_mode_is_checked_as_its_instances(watched: Watched) -> None:
    """Finding P2: an instance needs its GPU's node and two capabilities."""
    parent = replace(gpu(0), mig_enabled=True)
    part = replace(
        gpu(0),
        uuid=GpuUuid("MIG-1"),
        kind=DeviceKind.MIG,
        minor=None,
        mig=MigInstance(parent=parent.uuid, profile="1g.10gb", gpu_instance=7, compute_instance=0),
    )
    watched.gpus = [parent, part, gpu(1)]
    base = watched.root / "proc/driver/nvidia/capabilities/gpu0/mig/gi7"
    put(base / "access", b"DeviceFileMinor: 66\n")
    put(base / "ci0/access", b"DeviceFileMinor: 67\n")
    put(watched.root / "dev/nvidia-caps/nvidia-cap66")
    assert watched.look(2) == {part.uuid: "DeviceNodesMissing"}
    put(watched.root / "dev/nvidia-caps/nvidia-cap67")
    assert watched.look() == {}
    (base / "access").unlink()
    assert watched.look(2) == {part.uuid: "DeviceNodesMissing"}


def test_a_gpu_whose_minor_is_not_known_is_left_to_prepare(watched: Watched) -> None:
    watched.gpus = [replace(gpu(0), minor=None)]
    assert watched.look(2) == {}


def test_without_a_known_gpu_a_lack_is_reported_if_the_machine_has_one(watched: Watched) -> None:
    """Finding P8: no GPU could be read, since NVML was not found either."""
    watched.gpus = []
    for path in (watched.root / "usr/lib64").iterdir():
        path.unlink()
    watched.look(2)
    assert watched.watch.problem == ""
    watched.is_gpu_on_bus = True
    watched.look(2)
    seen = watched.watch.latest([])
    assert seen.node is not None
    assert (seen.node.reason, seen.lacks) == ("DriverLibrariesMissing", {})
    assert "searched" in watched.watch.problem
    assert "searched" not in seen.node.message


def test_wsl_is_reported_as_unsupported(watched: Watched) -> None:
    """Finding P2: its GPUs read well, and nothing can be prepared."""
    for path in (watched.root / "dev").iterdir():
        path.unlink()
    put(watched.root / "dev/dxg")
    assert set(watched.look(2).values()) == {"PlatformUnsupported"}


def test_the_reasons_are_the_codes_that_prepare_refuses_with() -> None:
    codes = (RefusalCode.LIBRARIES_MISSING, RefusalCode.NODES_MISSING, RefusalCode.PLATFORM_UNSUPPORTED)
    assert tuple(code.value for code in codes) == FILE_REASONS
    assert all(is_reason(reason) for reason in FILE_REASONS)
