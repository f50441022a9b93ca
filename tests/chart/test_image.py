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
from tools import build_image

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
    """The library is any that this machine has, since the test is about the loader's search."""
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
    """Finding P4: the driver is behind an absolute link, and a stray folder has its name."""
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
    assert len(copied) >= 9
    for path in copied:
        assert (ROOT / path).exists()
        assert any(path == allowed or path.startswith(f"{allowed}/") for allowed in let_in), path


def test_every_download_has_its_hash_and_the_last_stage_starts_no_shell() -> None:
    installs = re.findall(r"-m pip (?:--python \S+ )?(?:install|wheel) (.*)", CONTAINERFILE)

    assert len(installs) == CONTAINERFILE.count("-m pip ")
    assert all("--require-hashes" in line or "--no-index" in line for line in installs)
    last = CONTAINERFILE.rpartition("\nFROM ")[2]
    assert last.startswith("scratch\n")
    assert "\nRUN" not in last
    assert 'ENTRYPOINT ["gpuvitals"]' in last
    assert "-e ." not in CONTAINERFILE


def test_the_base_is_taken_by_a_digest_that_has_no_default() -> None:
    """`:?` makes podman and docker fail with the argument's name if it is missing or empty."""
    bases = re.findall(r"^FROM (\S+)", CONTAINERFILE, re.MULTILINE)

    assert bases == ["${PYTHON}@${PYTHON_DIGEST:?}", "${PYTHON}@${PYTHON_DIGEST:?}", "scratch"]
    assert re.findall(r"^ARG PYTHON_DIGEST.*$", CONTAINERFILE, re.MULTILINE) == ["ARG PYTHON_DIGEST"] * 2


def test_the_stages_follow_each_other_and_only_the_last_two_are_in_the_image() -> None:
    build, trimmed, last = CONTAINERFILE.split("\nFROM ")[1:]

    assert "/opt/gpuvitals/sbom.cdx.json" in build
    assert re.findall(r"^COPY (.*)$", trimmed, re.MULTILINE) == ["--from=build /opt/gpuvitals /opt/gpuvitals"]
    assert re.findall(r"^COPY (.*)$", last, re.MULTILINE) == ["--from=trimmed / /"]


ENGINE = """#!/bin/sh
echo "$@" >> "$0.calls"
case "$1" in
  info) exit ${INFO:-0};;
  build) exit ${BUILD:-0};;
  create) echo 1a2b;;
  cp) echo '{}' > "$3";;
esac
"""
DIGEST = f"sha256:{'0f' * 32}"


@pytest.fixture
def podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A container engine that succeeds and writes down its calls; there is no docker."""
    program = tmp_path / "bin" / "podman"
    program.parent.mkdir()
    program.write_text(ENGINE, encoding="ascii")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/bin:/usr/bin")
    monkeypatch.setattr(build_image, "ENGINES", ("podman",))
    return program


def build(tmp_path: Path, digest: str = DIGEST) -> int:
    return build_image.main(["--digest", digest, "--tag", "a:1", "--output", str(tmp_path / "dist" / "sbom")])


def test_an_image_is_built_on_the_digest_and_its_sbom_is_copied(podman: Path, tmp_path: Path) -> None:
    assert build(tmp_path) == 0

    info, built, *rest = Path(f"{podman}.calls").read_text(encoding="ascii").splitlines()
    assert info == "info"
    assert built.startswith("build --file deploy/image/Containerfile --tag a:1 ")
    assert f"--build-arg PYTHON_DIGEST={DIGEST} " in built
    copied = f"cp 1a2b:/opt/gpuvitals/sbom.cdx.json {tmp_path}/dist/sbom"
    assert rest == ["create a:1", copied, "rm 1a2b"]
    assert (tmp_path / "dist" / "sbom").exists()


@pytest.mark.parametrize("digest", ["", "3.11-slim-bookworm", f"{DIGEST}0"])
def test_without_a_digest_nothing_is_built_and_the_message_leads_to_it(
    podman: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], digest: str
) -> None:
    assert build(tmp_path, digest) == 2
    assert f"image: PYTHON_DIGEST={digest}: expected sha256: and 64" in capsys.readouterr().err
    assert "build" not in Path(f"{podman}.calls").read_text(encoding="ascii")


def test_an_engine_that_does_not_answer_is_none(
    podman: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INFO", "1")

    assert build(tmp_path) == 3
    assert "neither podman nor docker" in capsys.readouterr().err


def test_a_build_that_fails_is_exit_code_1(
    podman: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILD", "125")

    assert build(tmp_path) == 1
    assert not (tmp_path / "dist").exists()
