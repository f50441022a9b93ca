"""`PodWorker`: one pod on this node, on a thread of its own: prepared, started, kept running, ended, deleted.

Place in the chain: the kubelet process makes a worker for each pod that is bound to the node. A failed Prepare is tried
again with the periodic sync, and at once when the pod object changes.
Source: kubernetes/kubernetes pkg/kubelet/pod_workers.go and kubelet.go (SyncPod); observed on 1.37.2.
"""

import logging
import threading
import time
from dataclasses import dataclass, replace

from gpuvitals_sim.apiserver import ApiError
from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.kubelet.pod_api import NodeContext, PodApi
from gpuvitals_sim.kubelet.pod_containers import PodContainers
from gpuvitals_sim.kubelet.pod_status import Phase
from gpuvitals_sim.kubelet.preparer import PrepareFailed, UnprepareFailed

log = logging.getLogger(__name__)

_KILLED = 137
_API_RETRY_SECONDS = 0.5
_JOIN_SECONDS = 15.0
_MIN_GRACE_SECONDS = 2.0
"""The grace period of containers whose pod was deleted by force.

Source: kubernetes/kubernetes pkg/kubelet/kuberuntime (minimumGracePeriodInSeconds).
"""


@dataclass(slots=True)
class _Deadlines:
    """Monotonic seconds at which each step is due."""

    prepare: float = 0.0
    containers: float = 0.0
    sync: float = 0.0
    health: float = 0.0
    kill: float = 0.0
    unprepare: float = 0.0


@dataclass(slots=True)
class _Updates:
    """Updates from other threads, guarded by the worker's lock."""

    pod: Obj
    deleted: bool = False
    changed: bool = True
    health: bool = False
    exit_code: int | None = None


class PodWorker:
    """Call `start` once; the other methods may be called from any thread."""

    def __init__(self, node: NodeContext, pod: Obj) -> None:
        self.uid = str(pod["metadata"]["uid"])
        self._node = node
        self._lock = threading.Lock()
        self._updates = _Updates(pod)
        self._due = _Deadlines()
        self._api = PodApi(node, pod)
        self._containers = PodContainers(node, self._api, self.uid)
        self._unprepare_failures = 0
        self._unprepared = False
        self._wake = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"kubelet {node.name} pod {pod['metadata']['name']}"
        )

    def start(self) -> None:
        """Starts the pod's thread."""
        self._thread.start()

    def update(self, pod: Obj) -> None:
        """Stores a new version of the pod object; a change of its status alone causes no sync."""
        with self._lock:
            self._updates.changed |= _synced_fields(pod) != _synced_fields(self._updates.pod)
            self._updates.pod = pod
            changed = self._updates.changed
        if changed:
            self._wake.set()

    def pod_deleted(self) -> None:
        """Ends the pod: its object was removed from the API server."""
        with self._lock:
            self._updates.deleted = True
        self._wake.set()

    def health_changed(self) -> None:
        """Schedules a status update: the health of one of the pod's devices has changed."""
        with self._lock:
            self._updates.health = True
        self._wake.set()

    def finish(self, exit_code: int) -> None:
        """Completes the pod: its workload ended by itself with this exit code."""
        with self._lock:
            self._updates.exit_code = exit_code
        self._wake.set()

    def sync_containers(self) -> None:
        """Compares the pod's containers with the runtime at once."""
        self._due.containers = 0.0
        self._wake.set()

    def join(self) -> None:
        """Waits for the thread; the kubelet process has set `stopping` before."""
        self._wake.set()
        self._thread.join(_JOIN_SECONDS)

    @property
    def done(self) -> bool:
        """Whether the pod is deleted and its thread has ended."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        wait: float | None = 0.0
        while wait is not None:
            self._wake.wait(wait)
            if self._node.stopping.is_set():
                break
            self._wake.clear()
            try:
                wait = self._step()
            except ApiError as error:
                log.debug("pod %s: %s; tried again", self._updates.pod["metadata"]["name"], error)
                wait = _API_RETRY_SECONDS
        self._node.client.close()

    def _step(self) -> float | None:
        """Performs the steps that are due. Returns seconds until the next one, or None when the pod is deleted."""
        with self._lock:
            updates = replace(self._updates)
            self._updates.changed = False
        pod = updates.pod
        if updates.deleted or pod["metadata"].get("deletionTimestamp"):
            return self._terminate(updates)
        phase = (pod.get("status") or {}).get("phase")
        if updates.exit_code is not None or phase in ("Succeeded", "Failed"):
            return self._complete(updates)
        now = time.monotonic()
        if not self._node.runtime.has_sandbox(self.uid):
            if now < self._due.prepare and not updates.changed:
                return self._due.prepare - now
            if not self._create_sandbox(pod):
                return self._due.prepare - time.monotonic()
        return self._keep_running(updates)

    def _create_sandbox(self, pod: Obj) -> bool:
        """Prepares the claims and creates the sandbox. False if Prepare failed."""
        self._write_status(pod, "Pending")
        try:
            self._node.preparer.prepare(pod)
        except PrepareFailed as error:
            if not self._node.stopping.is_set():
                message = f"Failed to prepare dynamic resources: {error}"
                self._api.warn(pod, "FailedPrepareDynamicResources", message)
            self._due.prepare = time.monotonic() + self._sync_interval()
            return False
        self._node.runtime.create_sandbox(self.uid)
        return True

    def _keep_running(self, updates: _Updates) -> float:
        now = time.monotonic()
        if updates.changed or now >= self._due.containers:
            started = self._containers.start(updates.pod)
            retry = self._sync_interval() if started else self._node.timings.container_retry_seconds
            self._due.containers = time.monotonic() + retry
        if updates.health and now < self._due.health and now < self._due.sync and not updates.changed:
            return self._due.health - now
        if updates.health:
            with self._lock:
                self._updates.health = False
            self._due.health = now + self._node.timings.health_coalesce_seconds
        self._write_status(updates.pod, "Running" if self._containers.running else "Pending")
        self._due.sync = now + self._sync_interval()
        return max(0.0, min(self._due.sync, self._due.containers) - time.monotonic())

    def _terminate(self, updates: _Updates) -> float | None:
        """Ends the containers, unprepares, writes the status and deletes the object, in this order."""
        now = time.monotonic()
        pod = updates.pod
        if self._node.runtime.has_sandbox(self.uid):
            if not self._due.kill:
                given = float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)
                grace = _MIN_GRACE_SECONDS if updates.deleted else max(_MIN_GRACE_SECONDS, given)
                self._due.kill = now + min(grace, self._node.timings.termination_seconds)
            if now < self._due.kill:
                return self._due.kill - now
            self._containers.end(pod, _KILLED)
        wait = self._unprepare()
        if wait:
            # While Unprepare fails, the containers are shown as terminated in a pod that still has its phase.
            self._write_status(pod, "Running" if self._containers.states else "Pending")
            return wait
        if not updates.deleted:
            if self._containers.ended:
                self._write_status(pod, self._containers.ended_phase)
            self._api.delete(pod)
        return None

    def _complete(self, updates: _Updates) -> float:
        """Ends a pod whose workload has ended; its object stays until a client deletes it."""
        if self._node.runtime.has_sandbox(self.uid):
            exit_code = _KILLED if updates.exit_code is None else updates.exit_code
            self._containers.end(updates.pod, exit_code)
        wait = self._unprepare()
        if wait:
            return wait
        if self._containers.states:
            self._write_status(updates.pod, self._containers.ended_phase)
        return self._sync_interval()

    def _unprepare(self) -> float:
        """Unprepares the claims if that is due. Returns seconds until the next attempt; 0 when it is done."""
        if self._unprepared:
            return 0.0
        wait = self._due.unprepare - time.monotonic()
        if wait > 0:
            return wait
        try:
            self._node.preparer.unprepare(self.uid)
        except UnprepareFailed as error:
            log.info("pod %s: %s; tried again", self._updates.pod["metadata"]["name"], error)
            timings = self._node.timings
            first = self._unprepare_failures == 0
            self._unprepare_failures += 1
            wait = timings.unprepare_first_retry_seconds if first else timings.unprepare_retry_seconds
            self._due.unprepare = time.monotonic() + wait
            return wait
        self._unprepared = True
        return 0.0

    def _write_status(self, pod: Obj, phase: Phase) -> None:
        self._api.write_status(pod, phase, self._containers.states)

    def _sync_interval(self) -> float:
        timings = self._node.timings
        return self._node.rng.uniform(timings.pod_sync_min_seconds, timings.pod_sync_max_seconds)


def _synced_fields(pod: Obj) -> tuple[object, ...]:
    """The fields of a pod object whose change causes a sync."""
    metadata = pod["metadata"]
    names = ("labels", "annotations", "deletionTimestamp", "deletionGracePeriodSeconds")
    return (pod["spec"], *(metadata.get(name) for name in names))
