"""Runs the whole check: `python -m tools.gpu_check [--library FOLDER]`, from the root of the checkout.

Exit code: 0 if a report was stored, or if there is no GPU; 1 if a part failed, and then the report has the failure.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.gpu_check.agent_run import AgentFailed, run_agent
from tools.gpu_check.machine import Machine, made_machine, this_machine
from tools.gpu_check.report import FORMAT, stored, without_identity

_ROOT = Path(__file__).parents[2]
_REPORTS = _ROOT / "docs" / "reference" / "hardware"
_MOCK_REPORTS = _ROOT / ".cache" / "gpu-check"
"""Answers of a mock are no facts about hardware, and stay out of the tree."""
_DOCTOR_SECONDS, _CALLS_SECONDS = 100, 60


class PartFailed(Exception):
    """A part of the check ended without a report."""


def main() -> int:
    """Runs every part and stores the report. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="gpu-check", description="record the answers of NVML on this machine"
    )
    parser.add_argument(
        "--library", type=Path, help="folder of a mock libnvidia-ml.so.1; the machine is made up"
    )
    parser.add_argument("--profile", default="h100", help="the GPU model of the made-up machine")
    parser.add_argument("--reports", type=Path, help="folder of the report; default: docs/reference/hardware")
    parser.add_argument("--seconds", type=float, default=60.0, help="run time of the agent")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gv-", dir="/tmp") as made:
        folder = Path(made)
        if options.library is None:
            machine = this_machine(folder)
        else:
            machine = made_machine(folder, options.library.resolve(), options.profile)
        command = [sys.executable, "-m", "gpuvitals.cli.main", "doctor", *machine.flags, "--json"]
        try:
            doctor = _json(machine, command, _DOCTOR_SECONDS)
        except PartFailed as error:
            print(f"gpu-check: doctor: {error}")
            return 1
        absent = next((each["detail"] for each in doctor["checks"] if each["name"] == "nvml"), "")
        if not any(each["name"].startswith("gpu ") for each in doctor["checks"]):
            print(f"gpu-check: no NVIDIA GPU answers here, so nothing was recorded: {absent}")
            return 0
        document, troubles = _checked(machine, folder, options.seconds, doctor)
    document["seconds"] = round(time.monotonic() - began, 1)
    reports = options.reports or (_MOCK_REPORTS if machine.is_mock else _REPORTS)
    path = stored(without_identity(document), reports)
    print(f"gpu-check: {path} was written in {document['seconds']} s")
    for trouble in troubles:
        print(f"gpu-check: {trouble}")
    return 1 if troubles else 0


def _checked(
    machine: Machine, folder: Path, seconds: float, doctor: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    failed = [each for each in doctor["checks"] if each["outcome"] == "fail"]
    nvml, troubles = _calls(machine)
    troubles = [*(f"doctor: {each['name']}: {each['detail']}" for each in failed), *troubles]
    document: dict[str, Any] = {
        "format": FORMAT,
        "is_mock": machine.is_mock,
        "date": datetime.now(UTC).date().isoformat(),
        "doctor": doctor["checks"],
        "nvml": nvml,
    }
    try:
        document["agent"] = run_agent(machine, folder, seconds)
    except AgentFailed as error:
        document["agent"] = {"failure": str(error)}
        troubles.append(f"agent: {error}")
    return document, troubles


def _json(machine: Machine, command: list[str], seconds: float) -> dict[str, Any]:
    """The JSON document that a program prints. Raises PartFailed if it prints none, or does not end in time."""
    try:
        done = subprocess.run(
            command, cwd=_ROOT, env=machine.environment, stdout=subprocess.PIPE, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise PartFailed(f"no answer within {seconds:g} s") from error
    try:
        document: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        raise PartFailed(f"ended with {done.returncode} and without a report") from error
    return document


def _calls(machine: Machine) -> tuple[dict[str, Any], list[str]]:
    """The report on every NVML call, and the failures."""
    try:
        found = _json(machine, [sys.executable, "-m", "tools.gpu_check.calls"], _CALLS_SECONDS)
    except PartFailed as error:
        return {"gpus": [], "calls": {}, "failure": str(error)}, [f"nvml: {error}"]
    failed = [each for each in found["gpus"] if "failure" in each]
    return found, [f"nvml: gpu {each['index']}: {each['failure']['message']}" for each in failed]


if __name__ == "__main__":
    sys.exit(main())
