"""The real worker with pynvml finds NVML below a driver root, with the search that claims use."""

import os
import shutil
from pathlib import Path

import pytest

from gpuvitals.driverfiles.place import DriverPlace, place_in
from gpuvitals.model.signal import MonitorReport, MonitorState
from support.fakes.driver_roots import LAYOUTS, MULTIARCH, VERSION, Layout, libraries, put
from support.fakes.nvml_mock import MockState, library
from support.worlds.nvml_world import running

pytestmark = pytest.mark.needs_cc


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library(tmp_path_factory.mktemp("nvml")) / "libnvidia-ml.so.1"


@pytest.fixture
def state(tmp_path: Path) -> MockState:
    return MockState(tmp_path / "nvml.state", gpus=2)


def environment(state: MockState, root: Path, *folders: str) -> dict[str, str]:
    place = DriverPlace(root=root, proc_root=root / "proc", library_directories=folders)
    return {"NVML_MOCK_STATE": str(state.path), "LD_LIBRARY_PATH": ""} | place.environment()


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_nvml_is_loaded_on_every_platform(
    layout: Layout, state: MockState, built: Path, tmp_path: Path
) -> None:
    """Finding P4: also behind absolute links that mean the driver root, and where no folder is the loader's."""
    root = tmp_path / "root"
    layout.make(root)
    shutil.copy(built, root / layout.libraries / f"libnvidia-ml.so.{VERSION}")
    with running(environment=environment(state, root), sysfs=tmp_path / "sys") as world:
        assert len(world.gpus()) == 2


@pytest.mark.parametrize("stray", ["folder", "empty", "text", "damaged"])
def test_a_stray_file_of_its_name_does_not_hide_nvml(
    state: MockState, built: Path, tmp_path: Path, stray: str
) -> None:
    """Finding P4. A damaged library has a sound header, so that only the loader finds it out."""
    root = tmp_path / "root"
    earlier = root / "usr/lib64/libnvidia-ml.so.1"
    match stray:
        case "folder":
            earlier.mkdir(parents=True)
        case "empty":
            put(earlier)
        case "text":
            put(earlier, b"no library\n")
        case _:
            put(earlier, built.read_bytes()[:900])
    folder = root / "usr/lib" / MULTIARCH
    libraries(folder)
    shutil.copy(built, folder / f"libnvidia-ml.so.{VERSION}")
    with running(environment=environment(state, root), sysfs=tmp_path / "sys") as world:
        assert len(world.gpus()) == 2


def test_the_error_names_every_place(state: MockState, tmp_path: Path) -> None:
    """Finding P4: a person sees where it was looked for, and what stood there instead."""
    root = tmp_path / "root"
    (root / "usr/lib64/libnvidia-ml.so.1").mkdir(parents=True)
    with running(environment=environment(state, root, "/data/nv"), sysfs=tmp_path / "sys") as world:
        report = world.sink.wait(MonitorReport)
    assert report.state is MonitorState.DRIVER_ABSENT
    assert f"no libnvidia-ml.so.1 in driver root {root}" in report.detail
    assert "usr/lib64/libnvidia-ml.so.1 is not a file" in report.detail
    for place in ("/data/nv", "/run/nvidia/driver", "opt/nvidia", "usr/local/glibc/lib", "the loader"):
        assert place in report.detail


def test_a_driver_that_comes_later_is_found(state: MockState, built: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with running(environment=environment(state, root), sysfs=tmp_path / "sys") as world:
        assert world.sink.wait(MonitorReport).state is MonitorState.DRIVER_ABSENT
        folder = root / "run/nvidia/driver/usr/lib64"
        libraries(folder)
        shutil.copy(built, folder / f"libnvidia-ml.so.{VERSION}")
        assert len(world.gpus()) == 2


def test_a_place_reaches_a_child_as_it_was_given() -> None:
    place = DriverPlace(root=Path("/driver-root"), proc_root=Path("/p"), library_directories=("a", "/b"))
    assert place_in(os.environ | place.environment()) == place
    assert place_in({}) is None
