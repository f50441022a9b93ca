"""The import contracts hold, and each one fails on a planted violation, alone where one rule is broken."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINTER = Path(sys.executable).with_name("lint-imports")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(LINTER), "--config", str(folder / ".importlinter"), "--no-cache"],
        cwd=folder / "driver",
        env={"PYTHONPATH": f"{folder / 'driver'}:{folder / 'sim'}", "PATH": str(LINTER.parent)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


LAYERS = "Imports point one way"
PURE = "The pure core touches no clock, thread, file, network, log or third party"
KUBERNETES = "Only kube imports the Kubernetes client"
NVML = "Only the NVML worker imports pynvml"
GRPC = "Only kubeletplugin and the simulation speak gRPC"
SIMULATION = "The product never imports the simulation"
WIRING = "Wiring holds no lock, thread or parser"
SIMULATION_LAYERS = "The simulation's imports point one way"


def copied(folder: Path) -> Path:
    for name in ("driver", "sim"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", folder)
    return folder / "driver"


def contracts(report: str, outcome: str) -> set[str]:
    """The names of the contracts with that outcome; a count of ignored imports may follow it."""
    return set(re.findall(rf"^(.+?) {outcome}(?: \(.*\))?$", report, re.MULTILINE))


def test_without_a_planted_import_every_contract_is_kept(tmp_path: Path) -> None:
    copied(tmp_path)

    result = lint(tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert contracts(result.stdout, "KEPT") == {
        LAYERS,
        SIMULATION_LAYERS,
        SIMULATION,
        PURE,
        KUBERNETES,
        NVML,
        GRPC,
        WIRING,
    }


@pytest.mark.parametrize(
    ("module", "planted", "broken"),
    [
        ("health/verdict.py", "import logging", {PURE}),
        ("inventory/pool.py", "import logging", {PURE}),
        ("model/gpu.py", "import time", {PURE}),
        ("replay/history.py", "import time", {PURE}),
        ("replay/reader.py", "import gpuvitals.node.agent", {LAYERS}),
        ("inventory/pool.py", "import gpuvitals.kube.transport", {LAYERS, PURE}),
        ("signals/kmsg/source.py", "import gpuvitals.kube", {LAYERS}),
        ("kube/transport.py", "import gpuvitals.node.agent", {LAYERS}),
        ("cli/main.py", "import gpuvitals_sim.demo", {SIMULATION}),
        ("node/agent.py", "import kubernetes", {KUBERNETES}),
        ("signals/sysfs.py", "import pynvml", {NVML}),
        ("signals/nvml/monitor.py", "import pynvml", {NVML}),
        ("config.py", "import pynvml", {NVML}),
        ("node/agent.py", "import grpc", {GRPC}),
        ("health/verdict.py", "import gpuvitals.proto", {GRPC}),
        ("wiring/node.py", "import threading", {WIRING}),
        ("wiring/inputs.py", "import re", {WIRING}),
        ("../../sim/gpuvitals_sim/apiserver/api.py", "import gpuvitals_sim.kubelet", {SIMULATION_LAYERS}),
        ("../../sim/gpuvitals_sim/kubelet/kubelet.py", "import gpuvitals_sim.scheduler", {SIMULATION_LAYERS}),
    ],
)
def test_a_planted_import_breaks_its_contracts_and_no_other(
    tmp_path: Path, module: str, planted: str, broken: set[str]
) -> None:
    target = copied(tmp_path) / "gpuvitals" / module
    target.write_text(target.read_text(encoding="utf-8") + f"\n{planted}\n", encoding="utf-8")

    result = lint(tmp_path)
    assert result.returncode != 0
    assert contracts(result.stdout, "BROKEN") == broken, result.stdout + result.stderr
