"""One pod on this node, on a thread of its own: prepared, started, kept running, ended, and gone.

Place in the chain: the process makes a worker for each pod that is bound to the node. A failed Prepare is tried again
with the periodic sync, and at once when the pod object changes.
Source: kubernetes/kubernetes pkg/kubelet/pod_workers.go and kubelet.go (SyncPod); observed on 1.37.2.
"""

import logging
import random
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gpuvitals_sim.events import Notice, post_event
from gpuvitals_sim.kubelet.cdi import InjectionFailed
from gpuvitals_sim.kubelet.claim_cache import ClaimInfo, ClaimInfoCache
from gpuvitals_sim.kubelet.device_health import HealthCache
from gpuvitals_sim.kubelet.pod_status import ContainerState, Phase, PodState, pod_status, without_nulls
from gpuvitals_sim.kubelet.preparer import (
    PrepareFailed,
    Preparer,
    UnprepareFailed,
    container_uses,
    pod_claims,
)
from gpuvitals_sim.kubelet.runtime import Runtime
from gpuvitals_sim.kubelet.timings import KubeletTimings
from gpuvitals_sim.rest import STRATEGIC_PATCH, ApiError, Json, Rest

log = logging.getLogger(__name__)

_NOT_FOUND = 404
_KILLED = 137
_API_RETRY_SECONDS = 0.5
_JOIN_SECONDS = 15.0
_LEAST_GRACE_SECONDS = 2.0
"""Containers get it also where the pod was deleted by force.

Source: kubernetes/kubernetes pkg/kubelet/kuberuntime (minimumGracePeriodInSeconds).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What all workers of a node share."""

    name: str
    rest: Rest
    preparer: Preparer
    claims: ClaimInfoCache
    health: HealthCache
    runtime: Runtime
    timings: KubeletTimings
    rng: random.Random
    stopping: threading.Event


@dataclass(slots=True)
class _Timers:
    """When what is due, as monotonic seconds."""

    prepare: float = 0.0
    containers: float = 0.0
    sync: float = 0.0
    health: float = 0.0
    kill: float = 0.0
    unprepare: float = 0.0


@dataclass(slots=True)
class _Seen:
    """What others told the worker, under its lock."""

    pod: Json
    gone: bool = False
    changed: bool = True
    health: bool = False
    exit_code: int | None = None


@dataclass(slots=True)
class _Progress:
    """How far the worker has come; only its own thread uses it."""

    containers: dict[str, ContainerState] = field(default_factory=dict)
    written: Json = field(default_factory=dict)
    unprepare_failures: int = 0
    unprepared: bool = False


class PodWorker:
    """Call `start` once; the other methods come from any thread."""

    def __init__(self, node: Node, pod: Json) -> None:
        self.uid = str(pod["metadata"]["uid"])
        self._node = node
        self._lock = threading.Lock()
        self._seen = _Seen(pod)
        self._due = _Timers()
        self._mine = _Progress(written=dict(pod.get("status") or {}))
        self._started_at = str((pod.get("status") or {}).get("startTime") or _now())
        self._wake = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"kubelet {node.name} pod {pod['metadata']['name']}"
        )

    def start(self) -> None:
        """Starts the pod's thread."""
        self._thread.start()

    def update(self, pod: Json) -> None:
        """The pod object changed; a change of its status alone makes no sync."""
        with self._lock:
            self._seen.changed |= _spoken(pod) != _spoken(self._seen.pod)
            self._seen.pod = pod
            changed = self._seen.changed
        if changed:
            self._wake.set()

    def gone(self) -> None:
        """The pod object was removed."""
        with self._lock:
            self._seen.gone = True
        self._wake.set()

    def health_changed(self) -> None:
        """The health of one of the pod's devices is another one."""
        with self._lock:
            self._seen.health = True
        self._wake.set()

    def finish(self, exit_code: int) -> None:
        """The workload ended by itself."""
        with self._lock:
            self._seen.exit_code = exit_code
        self._wake.set()

    def look_again(self) -> None:
        """Something about the pod's containers changed."""
        self._due.containers = 0.0
        self._wake.set()

    def join(self) -> None:
        """Waits for the thread; the process has set `stopping` before."""
        self._wake.set()
        self._thread.join(_JOIN_SECONDS)

    @property
    def done(self) -> bool:
        """Whether the pod is gone and its thread ended."""
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
                log.debug("pod %s: %s; tried again", self._seen.pod["metadata"]["name"], error)
                wait = _API_RETRY_SECONDS
        self._node.rest.close()

    def _step(self) -> float | None:
        """Does what is due; seconds until the next thing, or None when the pod is gone."""
        with self._lock:
            seen = _Seen(
                self._seen.pod, self._seen.gone, self._seen.changed, self._seen.health, self._seen.exit_code
            )
            self._seen.changed = False
        if seen.gone or seen.pod["metadata"].get("deletionTimestamp"):
            return self._terminate(seen)
        if seen.exit_code is not None or (seen.pod.get("status") or {}).get("phase") in (
            "Succeeded",
            "Failed",
        ):
            return self._complete(seen)
        now = time.monotonic()
        if not self._node.runtime.has_sandbox(self.uid):
            if now < self._due.prepare and not seen.changed:
                return self._due.prepare - now
            if not self._set_up(seen.pod):
                return self._due.prepare - time.monotonic()
        return self._keep_running(seen)

    def _set_up(self, pod: Json) -> bool:
        """Prepares the claims and creates the sandbox."""
        self._write_status(pod, "Pending")
        try:
            self._node.preparer.prepare(pod)
        except PrepareFailed as error:
            if not self._node.stopping.is_set():
                self._tell(
                    pod, "FailedPrepareDynamicResources", f"Failed to prepare dynamic resources: {error}"
                )
            self._due.prepare = time.monotonic() + self._sync_interval()
            return False
        self._node.runtime.create_sandbox(self.uid)
        return True

    def _keep_running(self, seen: _Seen) -> float:
        now = time.monotonic()
        if seen.changed or now >= self._due.containers:
            self._start_containers(seen.pod)
        if seen.health and now < self._due.health and now < self._due.sync and not seen.changed:
            return self._due.health - now
        if seen.health:
            with self._lock:
                self._seen.health = False
            self._due.health = now + self._node.timings.health_coalesce_seconds
        running = any(one.running_since for one in self._mine.containers.values())
        self._write_status(seen.pod, "Running" if running else "Pending")
        self._due.sync = now + self._sync_interval()
        return max(0.0, min(self._due.sync, self._due.containers) - time.monotonic())

    def _start_containers(self, pod: Json) -> None:
        """Starts what does not run; a container whose devices can't be resolved is tried again later."""
        failed = False
        for container in pod["spec"]["containers"]:
            name = container["name"]
            before = self._mine.containers.get(name, ContainerState())
            if not self._node.runtime.is_running(self.uid, name):
                try:
                    self._node.runtime.start(pod, name, self._cdi_ids(pod, container))
                except InjectionFailed as error:
                    failed = True
                    waiting = ContainerState(
                        waiting="CreateContainerError", waiting_message=str(error), restarts=before.restarts
                    )
                    self._mine.containers[name] = waiting
                    self._tell(pod, "Failed", f"Error: {error}")
                    continue
                before = ContainerState(running_since=_now(), restarts=self._restarts(name))
            elif not before.running_since:
                before = ContainerState(
                    running_since=self._running_since(name), restarts=self._restarts(name)
                )
            self._mine.containers[name] = before
        retry = self._node.timings.container_retry_seconds if failed else self._sync_interval()
        self._due.containers = time.monotonic() + retry

    def _terminate(self, seen: _Seen) -> float | None:
        """Ends containers, unprepares, tells, and removes the object, in this order."""
        now = time.monotonic()
        if self._node.runtime.has_sandbox(self.uid):
            if not self._due.kill:
                given = float(seen.pod["metadata"].get("deletionGracePeriodSeconds") or 0)
                grace = _LEAST_GRACE_SECONDS if seen.gone else max(_LEAST_GRACE_SECONDS, given)
                self._due.kill = now + min(grace, self._node.timings.termination_seconds)
            if now < self._due.kill:
                return self._due.kill - now
            self._end_containers(seen.pod, _KILLED)
        wait = self._unprepare()
        if wait:
            # As long as a driver holds the pod up its containers are shown as ended, in a pod that is not.
            self._write_status(seen.pod, "Running" if self._mine.containers else "Pending")
            return wait
        if not seen.gone:
            ended = any(one.exit_code is not None for one in self._mine.containers.values())
            if ended:
                self._write_status(seen.pod, self._ended_phase())
            self._remove(seen.pod)
        return None

    def _complete(self, seen: _Seen) -> float:
        """The workload ended; the object stays until somebody deletes it."""
        if self._node.runtime.has_sandbox(self.uid):
            self._end_containers(seen.pod, _KILLED if seen.exit_code is None else seen.exit_code)
        wait = self._unprepare()
        if wait:
            return wait
        if self._mine.containers:
            self._write_status(seen.pod, self._ended_phase())
        return self._sync_interval()

    def _end_containers(self, pod: Json, exit_code: int) -> None:
        self._node.runtime.end(self.uid)
        for container in pod["spec"]["containers"]:
            before = self._mine.containers.get(container["name"], ContainerState())
            self._mine.containers[container["name"]] = ContainerState(
                exit_code=exit_code, ended_at=_now(), restarts=before.restarts
            )

    def _ended_phase(self) -> Phase:
        clean = all(one.exit_code == 0 for one in self._mine.containers.values())
        return "Succeeded" if clean else "Failed"

    def _unprepare(self) -> float:
        """Seconds until it is to be tried again; 0 when it is done."""
        if self._mine.unprepared:
            return 0.0
        wait = self._due.unprepare - time.monotonic()
        if wait > 0:
            return wait
        try:
            self._node.preparer.unprepare(self.uid)
        except UnprepareFailed as error:
            log.info("pod %s: %s; tried again", self._seen.pod["metadata"]["name"], error)
            timings = self._node.timings
            first = self._mine.unprepare_failures == 0
            self._mine.unprepare_failures += 1
            wait = timings.unprepare_first_retry_seconds if first else timings.unprepare_retry_seconds
            self._due.unprepare = time.monotonic() + wait
            return wait
        self._mine.unprepared = True
        return 0.0

    def _write_status(self, pod: Json, phase: Phase) -> None:
        """Writes the status if it is another one than the last."""
        before = self._mine.written
        state = PodState(
            phase=phase,
            sandbox=self._node.runtime.has_sandbox(self.uid),
            started_at=self._started_at,
            now=_now(),
            containers=self._mine.containers,
            claims=self._claims(pod),
        )
        status = pod_status(pod, before, state, self._node.health.look)
        stored = without_nulls(status)
        if all(before.get(key) == value for key, value in stored.items()):
            return
        body = {"metadata": {"uid": self.uid}, "status": status}
        try:
            self._node.rest.patch(_path(pod) + "/status", body, STRATEGIC_PATCH)
        except ApiError as error:
            if error.code != _NOT_FOUND:
                raise
            return  # the object is gone; its event comes
        self._mine.written = stored

    def _remove(self, pod: Json) -> None:
        body: Json = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": self.uid},
        }
        try:
            self._node.rest.delete(_path(pod), body)
        except ApiError as error:
            if error.code != _NOT_FOUND:
                raise

    def _claims(self, pod: Json) -> dict[str, ClaimInfo]:
        try:
            names = pod_claims(pod)
        except PrepareFailed:
            return {}
        namespace = pod["metadata"]["namespace"]
        infos = {name: self._node.claims.find((namespace, used)) for name, used in names.items()}
        return {name: info for name, info in infos.items() if info is not None}

    def _cdi_ids(self, pod: Json, container: Json) -> list[str]:
        """CDI ids of the container's claims, each once, in the order of the claims."""
        claims = self._claims(pod)
        ids: list[str] = []
        for name, request in container_uses(pod, container):
            info = claims.get(name)
            for _, device in info.devices_for(request) if info is not None else ():
                ids += [one for one in device.cdi_ids if one not in ids]
        return ids

    def _restarts(self, container: str) -> int:
        running = self._node.runtime.containers()
        return next(
            (one.restarts for one in running if (one.pod_uid, one.container) == (self.uid, container)), 0
        )

    def _running_since(self, container: str) -> str:
        """For a container that an earlier kubelet started: when it said so."""
        for status in self._mine.written.get("containerStatuses") or ():
            if status["name"] == container:
                return str(((status.get("state") or {}).get("running") or {}).get("startedAt") or _now())
        return _now()

    def _sync_interval(self) -> float:
        timings = self._node.timings
        return self._node.rng.uniform(timings.pod_sync_min_seconds, timings.pod_sync_max_seconds)

    def _tell(self, pod: Json, reason: str, message: str) -> None:
        notice = Notice(
            reason=reason, message=message, component="kubelet", host=self._node.name, warning=True
        )
        post_event(self._node.rest, pod, notice)


def _spoken(pod: Json) -> tuple[object, ...]:
    """The part of a pod object whose change makes a sync."""
    metadata = pod["metadata"]
    names = ("labels", "annotations", "deletionTimestamp", "deletionGracePeriodSeconds")
    return (pod["spec"], *(metadata.get(name) for name in names))


def _path(pod: Json) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
