"""A program of NVIDIA's go-nvml on the mock library: a reader that was not written for it."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.fakes.nvml_mock import MockState, library

pytestmark = [pytest.mark.needs_go, pytest.mark.needs_cc, pytest.mark.timeout(400)]

SOURCE = Path(__file__).parent


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    go = shutil.which("go")
    assert go is not None, "go is not on PATH; it builds the reader"
    target = tmp_path_factory.mktemp("gonvml") / "gonvml"
    # The binding's own declarations of deprecated calls make a warning each.
    environment = {**os.environ, "CGO_ENABLED": "1", "CGO_CFLAGS": "-w"}
    subprocess.run(
        [go, "build", "-o", str(target), "."], cwd=SOURCE, env=environment, check=True, timeout=300
    )
    return target


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library(tmp_path_factory.mktemp("nvml"))


def seen(program: Path, nvml: Path, state: MockState, *slots: str) -> dict[str, Any]:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(nvml), "NVML_MOCK_STATE": str(state.path)}
    answer = subprocess.run(
        [str(program), *slots], env=environment, capture_output=True, check=True, timeout=30
    )
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def test_go_nvml_reads_the_mock(program: Path, nvml: Path, tmp_path: Path) -> None:
    """Finding N6: it loads `nvmlInit`, finds each GPU by slot and UUID, and gets the documented answers."""
    state = MockState(tmp_path / "nvml.state", gpus=3)
    state.divide(1, 7, 9)
    found = seen(program, nvml, state, "0:1b:0", "1b:00.0", "00000000:1B:00.0", "0:99:0", "gpu 0")
    first, divided, _ = found["gpus"]

    assert (found["init"], found["driver"], found["count"]) == (
        "Success",
        "595.45.04 (Success)",
        "3 (Success)",
    )
    assert found["shutdown"] == "SUCCESS"
    assert (first["UUID"], first["BusID"]) == (MockState.uuid(0), "00000000:1B:00.0")
    assert (first["Domain"], first["Bus"], first["Device"]) == (0, 0x1B, 0)
    assert first["Total"] == first["Free"] + first["Used"] > first["Free"] > 0
    assert [gpu["BySlot"] and gpu["ByUUID"] for gpu in found["gpus"]] == [True] * 3
    assert (first["MigMode"], first["Instances"], divided["MigMode"]) == (-1, None, 1)
    assert divided["Instances"] == [MockState.instance(1, 7), MockState.instance(1, 9)]
    assert (first["Remapped"], divided["Remapped"]) == ("Success", "Not Supported")
    assert first["GpuInstance"] == "Not Supported"
    assert first["Links"] == [1] * 18
    assert [found["slots"][slot] for slot in ("0:1b:0", "1b:00.0", "00000000:1B:00.0")] == ["Success"] * 3
    assert (found["slots"]["0:99:0"], found["slots"]["gpu 0"]) == (
        "Not Found",
        "Invalid Argument",
    )
