"""Starts the bare Python plugin and times it: the floor below which no agent in Python with grpc can start."""

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.harness.kubelet import Kubelet
from benchmarks.harness.lab import Lab
from benchmarks.harness.ours import environment
from benchmarks.harness.processes import STOP_SECONDS

_PROGRAM = Path(__file__).with_name("bare_plugin.py")


def bare_start_ms(lab: Lab) -> float:
    """Milliseconds from exec of a new bare plugin to its answer to GetInfo; the process has ended on return."""
    name = lab.new_name("bare")
    registry = lab.folder / name
    registry.mkdir()
    kubelet = Kubelet(lab.programs["kubelet"], registry, lab.log(f"kubelet of {name}"))
    command = ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-P", str(_PROGRAM)]
    command += [str(registry / "bare-reg.sock"), f"{name}.vitals.internal"]
    try:
        with lab.log(name).open("ab") as log:
            started_at = time.monotonic_ns()
            process = subprocess.Popen(
                command, env=environment(), stdin=subprocess.DEVNULL, stderr=log, start_new_session=True
            )
        try:
            return (kubelet.register() - started_at) / 1e6
        finally:
            process.kill()
            process.wait(STOP_SECONDS)
    finally:
        kubelet.stop()
