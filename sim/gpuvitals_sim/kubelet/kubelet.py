"""`Kubelet`: the simulated kubelet of one node.

Place in the chain: the top of this package. It keeps the state that survives a restart: claims and health, which the real
one has on disk, and the containers.
"""

import random
import threading
import time
from collections.abc import Callable

from gpuvitals_sim.client import HttpClient
from gpuvitals_sim.kubelet.claim_cache import ClaimInfoCache
from gpuvitals_sim.kubelet.config import Call, ContainerView, KubeletConfig, PluginView
from gpuvitals_sim.kubelet.device_health import HealthCache
from gpuvitals_sim.kubelet.process import PersistentState, Process
from gpuvitals_sim.kubelet.runtime import Runtime


class Kubelet:
    """One node's kubelet; `server` is the URL of the API server."""

    def __init__(self, config: KubeletConfig, server: str) -> None:
        self.config = config
        self._client = HttpClient(server)
        self._rng = random.Random(config.seed)
        self._calls: list[Call] = []
        self._calls_lock = threading.Lock()
        self._runtime = Runtime(config.cdi_dirs)
        self._claims = ClaimInfoCache()
        self._persistent = PersistentState(
            claims=self._claims,
            runtime=self._runtime,
            health=HealthCache(config.timings.health_timeout_seconds, time.monotonic),
            called=self._called,
        )
        self._process: Process | None = None

    def start(self) -> None:
        """Starts the kubelet: registers the node, deletes its slices, looks for plugins and pods."""
        if self._process is not None:
            raise RuntimeError(f"kubelet {self.config.node_name}: started already; stop it first")
        self._process = Process(self.config, self._client, self._persistent, self._rng)
        self._process.start()

    def stop(self) -> None:
        """Ends the kubelet as SIGKILL does: connections drop, containers keep running. Does nothing if it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()

    def restart(self) -> None:
        """Starts a new process: slices are deleted, plugins register again, running pods stay untouched."""
        self.stop()
        self._claims.forget_prepared()
        self.start()

    def reboot(self) -> None:
        """Restarts the node: all containers end. The caller deletes files that are in tmpfs on a real node."""
        self.stop()
        self._runtime.end_all()
        self._claims.forget_prepared()
        self.start()

    def crash_container(self, namespace: str, pod: str, container: str) -> None:
        """Ends one container; it is started again, with its devices resolved again and no Prepare."""
        self._on_pod(namespace, pod, lambda uid: self._runtime.crash(uid, container))

    def lose_sandbox(self, namespace: str, pod: str) -> None:
        """Ends the pod's sandbox; a new one is created, after a Prepare only if this process made none."""
        self._on_pod(namespace, pod, self._runtime.end)

    def finish_pod(self, namespace: str, pod: str, exit_code: int = 0) -> None:
        """Ends the pod's workload with this exit code."""
        worker = self._running().worker(namespace, pod)
        if worker is not None:
            worker.finish(exit_code)

    def containers(self) -> tuple[ContainerView, ...]:
        """The running containers of the node."""
        return self._runtime.containers()

    def plugins(self) -> tuple[PluginView, ...]:
        """The registered plugins, oldest first."""
        return self._process.plugins.views() if self._process is not None else ()

    def calls(self, method: str = "") -> tuple[Call, ...]:
        """Every call to a plugin that has ended, over all restarts."""
        with self._calls_lock:
            return tuple(call for call in self._calls if method in ("", call.method))

    def claims_in_use(self) -> tuple[tuple[str, str], ...]:
        """Namespace and name of every claim that this kubelet has not unprepared."""
        return tuple((info.ref.namespace, info.ref.name) for info in self._claims.all())

    def _called(self, call: Call) -> None:
        with self._calls_lock:
            self._calls.append(call)

    def _running(self) -> Process:
        if self._process is None:
            raise RuntimeError(f"kubelet {self.config.node_name}: not running; start it first")
        return self._process

    def _on_pod(self, namespace: str, pod: str, act: Callable[[str], None]) -> None:
        worker = self._running().worker(namespace, pod)
        if worker is not None:
            act(worker.uid)
            worker.sync_containers()
