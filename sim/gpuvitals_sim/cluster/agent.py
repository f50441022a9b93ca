"""The real node agent as a process of its own, as the DaemonSet's container runs it.

Place in the chain: one a node of the demo's cluster. Its NVML worker is its child and in its process group.
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
    """Where one agent finds its world. `kubelet_root` is what /var/lib/kubelet is on a node.

    `nvml_library` is the folder of a mock libnvidia-ml.so.1; without one NVML is the scripted worker's.
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
    """Started, stopped and killed as a container is. Its log is appended to, over all its lives.

    `started_at` is when it was started last, by time.monotonic().
    """

    def __init__(self, settings: AgentSettings, gpus: ScriptedNode) -> None:
        self.settings = settings
        self._gpus = gpus
        self._process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0

    @property
    def state_directory(self) -> Path:
        """Its folder on the node: checkpoint, memory, debug socket."""
        return self.settings.kubelet_root / "plugins" / "gpu.vitals.internal"

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def ended(self) -> str:
        """How the process ended by itself, for people; empty while it runs, and where somebody has stopped it."""
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
        """Starts the process; it is not waited for."""
        if self.running:
            raise RuntimeError(f"agent of {self.settings.node}: runs already; stop it first")
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
        """Ends it as the kubelet does: SIGTERM, and SIGKILL where that is not enough."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """SIGKILL, for the process and its children, as when the container's memory runs out."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):  # it ended by itself
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(_STOP_SECONDS)
        self._process = None

    def log_tail(self, lines: int) -> str:
        """The end of its log, for a person who asks why."""
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
