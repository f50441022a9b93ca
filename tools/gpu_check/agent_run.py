"""Runs the agent against the embedded API server, registers it as a kubelet does, and records its output and cost."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import grpc
from tools.gpu_check.machine import Machine

from gpuvitals.kube.policy_crd import policy_definition
from gpuvitals.proto import pluginregistration_v1_pb2 as registration
from gpuvitals.proto.pluginregistration_v1_pb2_grpc import RegistrationStub
from gpuvitals_sim.apiserver import ApiServer
from gpuvitals_sim.cluster.driver_objects import DEFINITIONS

SLICES = "resourceslices.resource.k8s.io"
_START_SECONDS = 60.0
_STEP_SECONDS = 0.2


class AgentFailed(Exception):
    """The agent did not start, or ended early."""


def run_agent(machine: Machine, folder: Path, seconds: float) -> dict[str, Any]:
    """Published devices, each GPU's explanation, and the agent's CPU and memory. Raises AgentFailed."""
    with ApiServer() as server:
        client = server.client("gpu-check")
        client.create("nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"}})
        client.create(DEFINITIONS, policy_definition("vitals.internal"))
        command = [sys.executable, "-m", "gpuvitals.cli.main", "node", *machine.flags, "--server", server.url]
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(command, env=machine.environment, stderr=log)
        try:
            began = time.monotonic()
            _register(process, folder)
            devices = _published(process, client, folder)
            until = began + seconds
            while time.monotonic() < until:
                _alive(process, folder)
                time.sleep(_STEP_SECONDS)
            usage = _usage(process.pid)
            devices = _devices(client)
            return {
                "seconds": round(time.monotonic() - began, 1),
                "usage": usage,
                "devices": devices,
                "slice_writes": len(server.requests.writes(resource="resourceslices")),
                "metrics": _metrics(folder),
                "log": _log_counts(folder),
                "explain": {name: _explained(machine, folder, name) for name in sorted(devices)},
            }
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(15)


def _register(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while not (found := list((folder / "registry").glob("*-reg.sock"))):
        _alive(process, folder)
        if time.monotonic() > until:
            raise AgentFailed("the agent opened no registration socket")
        time.sleep(_STEP_SECONDS)
    options = [("grpc.default_authority", "localhost")]
    with grpc.insecure_channel(f"unix:{found[0]}", options=options) as channel:
        stub = RegistrationStub(channel)
        stub.GetInfo(registration.InfoRequest(), timeout=10, wait_for_ready=True)
        stub.NotifyRegistrationStatus(registration.RegistrationStatus(plugin_registered=True), timeout=10)


def _published(process: "subprocess.Popen[bytes]", client: Any, folder: Path) -> dict[str, Any]:
    until = time.monotonic() + _START_SECONDS
    while not (devices := _devices(client)):
        _alive(process, folder)
        if time.monotonic() > until:
            raise AgentFailed("the agent published no device")
        time.sleep(_STEP_SECONDS)
    return devices


def _devices(client: Any) -> dict[str, Any]:
    return {
        device["name"]: device for each in client.list(SLICES) for device in each["spec"].get("devices") or []
    }


def _alive(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    if process.poll() is not None:
        lines = (folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()
        raise AgentFailed(f"the agent ended with {process.returncode}: {' '.join(lines[-3:])}")


def _usage(pid: int) -> dict[str, float]:
    """Resident memory in bytes, and seconds of CPU."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    ticks = int(fields[11]) + int(fields[12])
    return {
        "memory_bytes": pages * os.sysconf("SC_PAGE_SIZE"),
        "cpu_seconds": round(ticks / os.sysconf("SC_CLK_TCK"), 2),
    }


def _entries(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def _log_counts(folder: Path) -> dict[str, int]:
    counts: dict[str, int] = {}
    for entry in _entries(folder):
        name = f"{entry['level']}: {entry['event']}"
        counts[name] = counts.get(name, 0) + 1
    return counts


def _metrics(folder: Path) -> list[str]:
    """The lines of /metrics about NVML calls and signals."""
    port = next((entry["probes"] for entry in _entries(folder) if entry["event"] == "agent started"), 0)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    wanted = ("gpuvitals_nvml_call_seconds_sum", "gpuvitals_nvml_call_seconds_count", "gpuvitals_signals")
    return [line for line in text.splitlines() if line.startswith(wanted)]


def _explained(machine: Machine, folder: Path, name: str) -> list[Any]:
    command = [sys.executable, "-m", "gpuvitals.cli.main", "explain", name]
    command += ["--agent", str(folder / "plugins" / "gpuvitals"), "--json"]
    done = subprocess.run(
        command, env=machine.environment, capture_output=True, text=True, timeout=30, check=False
    )
    if done.returncode:
        return [done.stderr.strip()]
    stations: list[Any] = json.loads(done.stdout)
    return stations
