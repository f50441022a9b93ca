"""The release image, as far as it can be judged without building it."""

import ctypes.util
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from gpuvitals.driverfiles.layouts import LIBRARY_DIRECTORIES
from support.fakes.driver_roots import elf, put

ROOT = Path(__file__).resolve().parents[2]
IMAGE = ROOT / "deploy" / "image"
CONTAINERFILE = (IMAGE / "Containerfile").read_text(encoding="utf-8")


def links() -> ModuleType:
    spec = importlib.util.spec_from_file_location("nvml_links", IMAGE / "nvml_links.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nvml_is_looked_for_where_the_agent_finds_the_libraries_of_containers() -> None:
    directories = links().DIRECTORIES
    assert directories == LIBRARY_DIRECTORIES[: len(directories)]
    assert f"LD_LIBRARY_PATH={links().search_path()}\n" in CONTAINERFILE


@pytest.mark.parametrize("directory", ["usr/lib64", "usr/lib"])
def test_the_loader_finds_a_library_below_the_driver_root_by_its_links(
    tmp_path: Path, directory: str
) -> None:
    """The library is any that this machine has: only the loader's search is asked."""
    folder = tmp_path / "root" / directory
    folder.mkdir(parents=True)
    links().make_links(tmp_path / "links", tmp_path / "root")
    load = [sys.executable, "-c", "import ctypes; ctypes.CDLL('libnvidia-ml.so.1')"]
    environment = {**os.environ, "LD_LIBRARY_PATH": links().search_path(tmp_path / "links")}

    before = subprocess.run(load, env=environment, capture_output=True, text=True, timeout=30, check=False)
    shutil.copy(_a_library(), folder / "libnvidia-ml.so.580.1")
    (folder / "libnvidia-ml.so.1").symlink_to("libnvidia-ml.so.580.1")
    after = subprocess.run(load, env=environment, capture_output=True, text=True, timeout=30, check=False)

    assert "libnvidia-ml.so.1: cannot open shared object file" in before.stderr
    assert after.returncode == 0, after.stderr


def test_where_a_driver_is_there_already_the_only_link_leads_to_it(tmp_path: Path) -> None:
    """Finding P4: also where it is behind an absolute link, and a stray folder has its name."""
    root = tmp_path / "root"
    (root / "usr/lib64/libnvidia-ml.so.1").mkdir(parents=True)
    real = put(root / "opt/nv/libnvidia-ml.so.580.1", elf())
    (root / "usr/lib").mkdir()
    (root / "usr/lib/libnvidia-ml.so.1").symlink_to("/opt/nv/libnvidia-ml.so.580.1")
    links().make_links(tmp_path / "links", root)

    made = [path for path in (tmp_path / "links").rglob("*") if path.is_symlink()]
    assert [path.readlink() for path in made] == [real]


def _a_library() -> Path:
    """The file of libm, as the loader maps it."""
    assert ctypes.util.find_library("m")
    found = re.search(r"(/\S+/libm[.-]\S+)", Path("/proc/self/maps").read_text(encoding="utf-8"))
    assert found is not None
    return Path(found[1])


def test_all_that_is_copied_from_the_tree_is_there_and_let_in() -> None:
    ignore = (ROOT / ".containerignore").read_text(encoding="utf-8").splitlines()
    let_in = [line[1:] for line in ignore if line.startswith("!")]
    copied = [
        word
        for line in re.findall(r"^COPY (?!--from)(.*)$", CONTAINERFILE, re.MULTILINE)
        for word in line.split()[:-1]
    ]

    assert ignore[1] == "*"
    assert len(copied) >= 7
    for path in copied:
        assert (ROOT / path).exists()
        assert any(path == allowed or path.startswith(f"{allowed}/") for allowed in let_in), path


def test_every_download_has_its_hash_and_the_last_stage_starts_no_shell() -> None:
    installs = re.findall(r"-m pip (?:install|wheel) (.*)", CONTAINERFILE)

    assert all("--require-hashes" in line or "--no-index" in line for line in installs)
    last = CONTAINERFILE.rpartition("\nFROM ")[2]
    assert last.startswith("scratch\n")
    assert "\nRUN" not in last
    assert 'ENTRYPOINT ["gpuvitals"]' in last
    assert "-e ." not in CONTAINERFILE
