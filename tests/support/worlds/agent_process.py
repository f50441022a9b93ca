"""The real agent as a process, with the first two calls of a kubelet."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from gpuvitals.proto import pluginregistration_v1_pb2 as registration
from gpuvitals.proto.pluginregistration_v1_pb2_grpc import RegistrationStub
from gpuvitals.signals.nvml_worker.protocol import DEFAULT_BACKEND
from gpuvitals_sim.apiserver import ApiServer
from gpuvitals_sim.hardware.nvml_backend import BACKEND
from gpuvitals_sim.hardware.scripted_node import ScriptedNode

SLICES = "resourceslices.resource.k8s.io"


class AgentProcess:
    """`gpuvitals node` below one folder: without a driver, or on scripted GPUs.

    With the mock `library` in a folder the real NVML binding reads the scripted GPUs.
    """

    def __init__(
        self,
        folder: Path,
        server: ApiServer,
        scripted: ScriptedNode | None = None,
        pod_uid: str = "",
        library: Path | None = None,
        python: str = sys.executable,
    ) -> None:
        self.folder = folder
        self.recording = folder / "heard.jsonl"
        self.pod_uid = pod_uid
        self.client = server.client("test")
        for name in ("registry", "cdi", "plugins"):
            (folder / name).mkdir(exist_ok=True)
        environment = {**os.environ, "LD_LIBRARY_PATH": str(folder), "PYTHONUNBUFFERED": "1"}
        command = [
            python,
            "-m",
            "gpuvitals.cli.main",
            "node",
            "--node-name",
            "node-a",
            "--server",
            server.url,
        ]
        command += ["--state-dir", str(folder / "plugins" / "gpuvitals"), "--pod-uid", pod_uid]
        command += ["--registry-dir", str(folder / "registry"), "--cdi-dir", str(folder / "cdi")]
        command += ["--reports-dir", str(folder / "reports.d"), "--record-signals", str(self.recording)]
        command += ["--sysfs-root", str(folder / "sys"), "--kernel-log", str(folder / "kmsg")]
        if scripted is None:
            (folder / "kmsg").touch()
        else:
            environment |= (
                scripted.environment() if library is None else scripted.library_environment(library)
            )
            command += ["--nvml-backend", BACKEND if library is None else DEFAULT_BACKEND]
            command += ["--boot-id-file", str(scripted.boot_id_file), "--config", str(folder / "node.yaml")]
            command += ["--driver-root", str(scripted.driver_root), "--dev-root", str(scripted.driver_root)]
            command += ["--proc-root", str(scripted.proc_root)]
        with (folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stderr=log)

    def socket(self) -> Path:
        """The registration socket, once it is there."""
        pattern = f"*{self.pod_uid}-reg.sock"
        self.wait(lambda: any((self.folder / "registry").glob(pattern)))
        return next((self.folder / "registry").glob(pattern))

    def register(self) -> registration.PluginInfo:
        """Registers the agent as a kubelet does: GetInfo, then NotifyRegistrationStatus."""
        with grpc.insecure_channel(
            f"unix:{self.socket()}", options=[("grpc.default_authority", "localhost")]
        ) as channel:
            stub = RegistrationStub(channel)
            info = stub.GetInfo(registration.InfoRequest(), timeout=10, wait_for_ready=True)
            stub.NotifyRegistrationStatus(registration.RegistrationStatus(plugin_registered=True), timeout=10)
        return info

    def probes(self) -> int:
        """The port of /metrics, /livez and /readyz, as the agent logged it."""
        found: list[int] = []

        def logged() -> bool:
            for line in (self.folder / "log").read_text(encoding="utf-8").splitlines():
                entry = json.loads(line)
                if entry["event"] == "agent started":
                    found.append(entry["probes"])
            return bool(found)

        self.wait(logged)
        return found[-1]

    def slices(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.client.list(SLICES)
        return listed

    def wait(self, holds: Callable[[], bool], seconds: float = 20.0) -> None:
        started = time.monotonic()
        while not holds():
            assert self.process.poll() is None, (self.folder / "log").read_text(encoding="utf-8")
            assert time.monotonic() - started < seconds, (self.folder / "log").read_text(encoding="utf-8")
            time.sleep(0.02)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(15)


@contextmanager
def agent(
    folder: Path,
    server: ApiServer,
    scripted: ScriptedNode | None = None,
    pod_uid: str = "",
    library: Path | None = None,
    python: str = sys.executable,
) -> Iterator[AgentProcess]:
    started = AgentProcess(folder, server, scripted, pod_uid, library, python)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
            started.process.wait(10)
