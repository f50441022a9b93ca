"""One run of the kubelet, from start to stop. State that outlives it is in `kubelet.py`.

Place in the chain: connects registrar, plugins, pod workers and node; it receives the plugins' events.
"""

import logging
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gpuvitals_sim.apiserver import ApiError
from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.client import HttpClient, Informer
from gpuvitals_sim.kubelet.claim_cache import ClaimInfoCache
from gpuvitals_sim.kubelet.config import Call, KubeletConfig
from gpuvitals_sim.kubelet.device_health import HealthCache
from gpuvitals_sim.kubelet.node_status import register_node, wipe_slices
from gpuvitals_sim.kubelet.plugin import Plugin, Report
from gpuvitals_sim.kubelet.plugin_manager import PluginManager
from gpuvitals_sim.kubelet.pod_api import NodeContext
from gpuvitals_sim.kubelet.pod_worker import PodWorker
from gpuvitals_sim.kubelet.preparer import Preparer, UnprepareFailed
from gpuvitals_sim.kubelet.registration import Registrar
from gpuvitals_sim.kubelet.runtime import Runtime

log = logging.getLogger(__name__)

_API_RETRY_SECONDS = 0.5
_JOIN_SECONDS = 15.0
_LOOK_EARLIER = 0.85
_LOOK_LATER = 1.15


@dataclass(frozen=True, slots=True, kw_only=True)
class PersistentState:
    """The state that survives a restart."""

    claims: ClaimInfoCache
    runtime: Runtime
    health: HealthCache
    called: Callable[[Call], None]


class Process:
    """Runs between `start` and `stop`, once."""

    def __init__(
        self, config: KubeletConfig, client: HttpClient, persistent: PersistentState, rng: random.Random
    ) -> None:
        self._config = config
        self._client = client
        self._persistent = persistent
        self._rng = rng
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._workers: dict[str, PodWorker] = {}
        self.plugins = PluginManager(config.timings.wiping_delay_seconds, self._wipe_late)
        self._preparer = Preparer(client, persistent.claims, self.plugins)
        self._registrar = Registrar(config, self.plugins, self, rng)
        self._pods = Informer(client, "pods", self._pod_changed, f"spec.nodeName={config.node_name}")
        self._keeper = threading.Thread(target=self._keep, name=f"kubelet {config.node_name} keeper")
        self._node = NodeContext(
            name=config.node_name,
            client=client,
            preparer=self._preparer,
            claims=persistent.claims,
            health=persistent.health,
            runtime=persistent.runtime,
            timings=config.timings,
            rng=rng,
            stopping=self._stopping,
        )

    def start(self) -> None:
        """Starts every thread. PluginManager are looked for shortly before or after the slices are wiped."""
        factor = self._rng.choice((_LOOK_EARLIER, _LOOK_LATER))
        self._registrar.start(self._config.timings.startup_wipe_seconds * factor)
        self._keeper.start()
        self._pods.start()

    def stop(self) -> None:
        """Ends every thread; calls in flight are cancelled, containers keep running."""
        self._stopping.set()
        self._pods.stop()
        self._registrar.stop()
        self.plugins.close()
        with self._lock:
            workers = list(self._workers.values())
        for worker in workers:
            worker.join()
        self._keeper.join(_JOIN_SECONDS)
        self._client.close()

    def worker(self, namespace: str, name: str) -> PodWorker | None:
        """The worker of the pod with this name, or None."""
        pod = self._pods.find(namespace, name)
        return self._workers.get(str(pod["metadata"]["uid"])) if pod is not None else None

    def connection_changed(self, plugin: Plugin) -> None:
        """Of PluginEvents."""
        self.plugins.connection_changed(plugin)

    def health_reported(self, driver: str, reports: Sequence[Report]) -> None:
        """Of PluginEvents: updates the status of pods whose devices have changed."""
        changed = self._persistent.health.update(driver, reports)
        if not changed:
            return
        affected: set[str] = set()
        for info in self._persistent.claims.all():
            held = {
                (one, device.pool, device.device)
                for one, devices in info.devices.items()
                for device in devices
            }
            if held & changed:
                affected |= info.pods
        with self._lock:
            workers = [worker for uid, worker in self._workers.items() if uid in affected]
        for worker in workers:
            worker.health_changed()

    def health_ended(self, driver: str) -> None:
        """Of PluginEvents: clears the health of the driver's devices; pods show it with their next sync."""
        if not self._stopping.is_set():
            self._persistent.health.clear(driver)

    def called(self, call: Call) -> None:
        """Of PluginEvents."""
        self._persistent.called(call)

    def _pod_changed(self, kind: str, pod: Obj) -> None:
        uid = str(pod["metadata"]["uid"])
        with self._lock:
            self._workers = {key: worker for key, worker in self._workers.items() if not worker.done}
            worker = self._workers.get(uid)
            if worker is None:
                if kind == "DELETED" or self._stopping.is_set():
                    return
                worker = self._workers[uid] = PodWorker(self._node, pod)
                worker.start()
                return
        if kind == "DELETED":
            worker.pod_deleted()
        else:
            worker.update(pod)

    def _keep(self) -> None:
        """Registers the node, deletes its slices, then unprepares claims of deleted pods periodically."""
        self._until_done(lambda: register_node(self._client, self._config.node_name))
        if not self._stopping.wait(self._config.timings.startup_wipe_seconds):
            self._wipe("")
        while not self._stopping.is_set():
            if self._pods.synced:
                self._unprepare_orphans()
            self._stopping.wait(self._config.timings.reconcile_seconds if self._pods.synced else 0.1)
        self._client.close()

    def _unprepare_orphans(self) -> None:
        present = {str(pod["metadata"]["uid"]) for pod in self._pods.all()}
        with self._lock:
            present |= {uid for uid, worker in self._workers.items() if not worker.done}
        for uid in {uid for info in self._persistent.claims.all() for uid in info.pods} - present:
            self._persistent.runtime.end(uid)
            try:
                self._preparer.unprepare(uid)
            except UnprepareFailed as error:
                log.info("claims of a deleted pod: %s; tried again with the next pass", error)

    def _wipe(self, driver: str) -> None:
        self._until_done(lambda: wipe_slices(self._client, self._config.node_name, driver))

    def _wipe_late(self, driver: str) -> None:
        """Called on a timer thread, which ends afterwards."""
        self._wipe(driver)
        self._client.close()

    def _until_done(self, act: Callable[[], object]) -> None:
        while not self._stopping.is_set():
            try:
                act()
            except ApiError as error:
                log.debug("kubelet %s: %s; tried again", self._config.node_name, error)
                self._stopping.wait(_API_RETRY_SECONDS)
            else:
                return
