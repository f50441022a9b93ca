"""Reports of real hardware (docs/reference/hardware), and one of the mock library, fold as in the agent."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gpuvitals.health.state import initial_state
from gpuvitals.model.health import HealthState
from gpuvitals.model.signal import Checkup
from gpuvitals.signals.nvml.decode import Placement, gpu_from, reading_from, validated
from gpuvitals.signals.nvml_worker.protocol import DriverFacts, GpuFacts, GpuValues
from support.fakes.nvml_mock import library
from support.signals import fold, judge, moment

pytestmark = [pytest.mark.needs_cc, pytest.mark.timeout(180)]

ROOT = Path(__file__).resolve().parents[3]
STORED = sorted((ROOT / "docs" / "reference" / "hardware").glob("*.json"))
UUID = re.compile(r"(?:GPU|MIG)-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def checked(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tools.gpu_check", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=170, check=False
    )


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="module", params=["a100", *STORED], ids=str)
def report(request: pytest.FixtureRequest, nvml: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of a report: one of a real machine, or one that is made here with the mock."""
    if isinstance(request.param, Path):
        return request.param.read_text(encoding="utf-8")
    folder = tmp_path_factory.mktemp("reports")
    done = checked(
        "--library", str(nvml), "--profile", request.param, "--reports", str(folder), "--seconds", "2"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.iterdir()
    assert path.name.startswith("nvidia-a100-sxm4-80gb-595")
    return path.read_text(encoding="utf-8")


def test_a_report_folds_to_a_verdict_and_covers_what_the_model_has(report: str) -> None:
    """Finding N7, as soon as a real A100 has answered: a healthy GPU is Healthy, with every signal of its model read."""
    document: dict[str, Any] = json.loads(report)
    driver = msgspec.convert(document["nvml"]["driver"], DriverFacts)
    for found in document["nvml"]["gpus"]:
        gpu = gpu_from(msgspec.convert(found["facts"], GpuFacts), driver, Placement())
        values = msgspec.convert(found["values"], GpuValues)
        reading = reading_from(values, gpu, moment(1000))
        validated(msgspec.convert(found["checkup"], Checkup), gpu)
        verdict = judge(fold(reading, state=initial_state(gpu, moment(999))), 1000)
        assert verdict.state is not HealthState.UNKNOWN
        assert verdict.coverage == 100 or values.mig is None or values.mig.enabled or values.detail


def test_a_report_names_no_board(report: str) -> None:
    """UUIDs are placeholders, and serial numbers are gone."""
    assert all(
        uuid.endswith("-0000-0000-0000-000000000000")
        for uuid in UUID.findall(report.lower().replace("gpu-", "GPU-"))
    )
    document = json.loads(report)
    assert all(found["facts"]["serial"] == "" for found in document["nvml"]["gpus"])
    assert document["nvml"]["calls"]["nvmlDeviceGetSerial"]["answers"] == []


def test_a_report_has_each_call_and_the_agents_minute(report: str) -> None:
    document = json.loads(report)
    calls = document["nvml"]["calls"]

    assert {"nvmlInitWithFlags", "nvmlDeviceGetFieldValues", "nvmlDeviceGetRemappedRows"} <= set(calls)
    assert all(call["count"] > 0 and call["max_us"] >= call["median_us"] >= 0 for call in calls.values())
    assert len(document["agent"]["devices"]) == len(document["agent"]["explain"]) > 0
    assert all(len(stations) > 3 for stations in document["agent"]["explain"].values())
    assert not document["is_mock"] or calls["nvmlDeviceGetGpuFabricInfoV"]["results"] == {"3": 10}


def test_a_machine_without_a_gpu_says_so_in_one_line(tmp_path: Path) -> None:
    """Unless this machine has one: then there is nothing to show here."""
    if Path("/dev/nvidiactl").exists():
        return
    done = checked("--reports", str(tmp_path / "none"))

    assert (done.returncode, done.stdout.count("\n")) == (0, 1)
    assert done.stdout.startswith("gpu-check: no NVIDIA GPU answers here")
    assert not (tmp_path / "none").exists()
