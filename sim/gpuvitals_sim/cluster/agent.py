"""The real node agent as a process, as the DaemonSet's container runs it.

Place in the chain: one per node of a simulated cluster. Its NVML worker is in its process group.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpuvitals.signals.nvml_worker.protocol import DEFAULT_BACKEND
from gpuvitals_sim.hardware.nvml_backend import BACKEND
from gpuvitals_sim.hardware.scripted_node import ScriptedNode

_STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """Paths and addresses of one agent. `kubelet_root` corresponds to /var/lib/kubelet of a node.

    `nvml_library` is the folder of a mock libnvidia-ml.so.1; without one the NVML worker is scripted.
    """

    node: str
    pod_uid: str
    server: str
    kubelet_root: Path
    cdi_directory: Path
    config: Path
    log: Path
    nvml_library: Path | None = None


class AgentProgram:
    """The process of one agent, which can be started again. All runs append to one log.

    `started_at` is the time of the last start, by time.monotonic().
    """

    def __init__(self, settings: AgentSettings, gpus: ScriptedNode) -> None:
        self.settings = settings
        self._gpus = gpus
        self._process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0

    @property
    def state_directory(self) -> Path:
        """The agent's folder on the node: checkpoint, state, debug socket."""
        return self.settings.kubelet_root / "plugins" / "gpu.vitals.internal"

    @property
    def running(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def ended(self) -> str:
        """A description of an exit that `stop` and `kill` did not cause; empty otherwise."""
        code = None if self._process is None else self._process.poll()
        if code is None:
            return ""
        if code >= 0:
            return f"the agent of {self.settings.node} ended with exit status {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"the agent of {self.settings.node} ended by {name}"

    def start(self) -> None:
        """Starts the process without waiting for it."""
        if self.running:
            raise RuntimeError(f"agent of {self.settings.node}: already runs; stop it first")
        self.state_directory.parent.mkdir(parents=True, exist_ok=True)
        self.started_at = time.monotonic()
        library, gpus = self.settings.nvml_library, self._gpus
        scripted = gpus.environment() if library is None else gpus.library_environment(library)
        environment = {**os.environ, **scripted}
        with self.settings.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), env=environment, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def stop(self) -> None:
        """Ends it as the kubelet does: SIGTERM, then SIGKILL after the grace period."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """Sends SIGKILL to the process and its children, as at an out-of-memory kill of the container."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(_STOP_SECONDS)
        self._process = None

    def log_tail(self, lines: int) -> str:
        """The last lines of its log."""
        try:
            text = self.settings.log.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def _command(self) -> list[str]:
        settings, gpus = self.settings, self._gpus
        flags = {
            "--node-name": settings.node,
            "--pod-uid": settings.pod_uid,
            "--server": settings.server,
            "--state-dir": self.state_directory,
            "--registry-dir": settings.kubelet_root / "plugins_registry",
            "--cdi-dir": settings.cdi_directory,
            "--driver-root": gpus.driver_root,
            "--dev-root": gpus.driver_root,
            "--proc-root": gpus.proc_root,
            "--sysfs-root": gpus.sysfs_root,
            "--kernel-log": gpus.kernel_log,
            "--boot-id-file": gpus.boot_id_file,
            "--config": settings.config,
            "--nvml-backend": BACKEND if settings.nvml_library is None else DEFAULT_BACKEND,
        }
        given = [str(part) for flag in flags.items() for part in flag]
        return [sys.executable, "-m", "gpuvitals.cli.main", "node", *given]
