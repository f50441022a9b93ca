"""`PodApi`: a pod worker's writes to the API server: status, events, and the final deletion.

Place in the chain: under `pod_worker.py`, which decides when each write is due.
"""

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from gpuvitals_sim.apiserver import ApiError, DeleteOptions
from gpuvitals_sim.apiserver.json_types import Obj, timestamp
from gpuvitals_sim.apiserver.request import STRATEGIC_PATCH
from gpuvitals_sim.client import EventRecord, HttpClient, record_event
from gpuvitals_sim.kubelet.claim_cache import ClaimInfo, ClaimInfoCache
from gpuvitals_sim.kubelet.device_health import HealthCache
from gpuvitals_sim.kubelet.pod_status import ContainerState, Phase, PodState, pod_status, without_nulls
from gpuvitals_sim.kubelet.preparer import PrepareFailed, Preparer, pod_claims
from gpuvitals_sim.kubelet.runtime import Runtime
from gpuvitals_sim.kubelet.timings import KubeletTimings


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeContext:
    """The parts of a kubelet that all pod workers share. `stopping` is set when the kubelet stops."""

    name: str
    client: HttpClient
    preparer: Preparer
    claims: ClaimInfoCache
    health: HealthCache
    runtime: Runtime
    timings: KubeletTimings
    rng: random.Random
    stopping: threading.Event

    def claims_of(self, pod: Obj) -> dict[str, ClaimInfo]:
        """The pod's claims that this kubelet has registered, by the names in the pod's spec."""
        try:
            names = pod_claims(pod)
        except PrepareFailed:
            return {}
        namespace = pod["metadata"]["namespace"]
        infos = {name: self.claims.find((namespace, used)) for name, used in names.items()}
        return {name: info for name, info in infos.items() if info is not None}


class PodApi:
    """The writes of one pod. Used by the pod worker's thread only. Methods raise ApiError, except for a deleted pod."""

    def __init__(self, node: NodeContext, pod: Obj) -> None:
        self._node = node
        self._uid = str(pod["metadata"]["uid"])
        self._written: Obj = dict(pod.get("status") or {})
        self._started_at = str(self._written.get("startTime") or timestamp())

    def write_status(self, pod: Obj, phase: Phase, containers: Mapping[str, ContainerState]) -> None:
        """Patches the status, unless it equals the last one."""
        before = self._written
        state = PodState(
            phase=phase,
            sandbox=self._node.runtime.has_sandbox(self._uid),
            started_at=self._started_at,
            now=timestamp(),
            containers=containers,
            claims=self._node.claims_of(pod),
        )
        status = pod_status(pod, before, state, self._node.health)
        stored = without_nulls(status)
        if all(before.get(key) == value for key, value in stored.items()):
            return
        body = {"metadata": {"uid": self._uid}, "status": status}
        try:
            self._node.client.patch("pods", _ref(pod), body, patch_type=STRATEGIC_PATCH, subresource="status")
        except ApiError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise
            return  # the pod was deleted; the informer reports it
        self._written = stored

    def delete(self, pod: Obj) -> None:
        """Removes the object of a pod that has ended, as the last step of a graceful deletion."""
        namespace, name = _ref(pod)
        options = DeleteOptions(grace_seconds=0, uid=self._uid)
        try:
            self._node.client.delete("pods", name, namespace, options=options)
        except ApiError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise

    def warn(self, pod: Obj, reason: str, message: str) -> None:
        """Records a Warning event about the pod."""
        record = EventRecord(
            reason=reason, message=message, component="kubelet", host=self._node.name, warning=True
        )
        record_event(self._node.client, pod, record)

    def running_since(self, container: str) -> str:
        """The start time in the last status, for a container that an earlier kubelet process started; else now."""
        for status in self._written.get("containerStatuses") or ():
            if status["name"] == container:
                running = (status.get("state") or {}).get("running") or {}
                return str(running.get("startedAt") or timestamp())
        return timestamp()


def _ref(pod: Obj) -> tuple[str, str]:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]
