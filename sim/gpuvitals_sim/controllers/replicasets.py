"""ReplicaSets: keeps the wanted number of pods from a template.

Place in the chain: represents all controllers that re-create pods: those of a drained node start on other nodes.
Source: kubernetes/kubernetes pkg/controller/replicaset/replica_set.go.
"""

from gpuvitals_sim.apiserver import DeleteOptions, InProcessClient
from gpuvitals_sim.apiserver.json_types import Obj, clone
from gpuvitals_sim.controllers.pod_template import owned_by, pod_of
from gpuvitals_sim.controllers.pods import is_finished, is_ready

REPLICA_SETS = "replicasets.apps"


class ReplicaSetController:
    """Level-triggered: every pass reads every ReplicaSet."""

    kinds = frozenset(("pods", REPLICA_SETS))

    def __init__(self, client: InProcessClient) -> None:
        self._client = client

    def reconcile(self) -> float | None:
        """Creates missing pods, deletes surplus ones, and writes the status."""
        if not self._client.serves(REPLICA_SETS):
            return None
        pods = self._client.peek("pods")
        for replica_set in self._client.peek(REPLICA_SETS):
            if "deletionTimestamp" not in replica_set["metadata"]:
                self._sync(clone(replica_set), owned_by(replica_set, pods))
        return None

    def _sync(self, replica_set: Obj, pods: list[Obj]) -> None:
        active = [pod for pod in pods if not is_finished(pod) and "deletionTimestamp" not in pod["metadata"]]
        wanted = int(replica_set["spec"]["replicas"])
        # Pods that are ready and bound are kept; the others are deleted first.
        ordered = sorted(active, key=lambda pod: (not is_ready(pod), not pod["spec"].get("nodeName")))
        for pod in ordered[wanted:]:
            metadata = pod["metadata"]
            options = DeleteOptions(uid=metadata["uid"])
            self._client.delete("pods", metadata["name"], metadata["namespace"], options=options)
        kept = ordered[:wanted]
        kept += [self._create(replica_set) for _ in range(wanted - len(kept))]
        self._describe(replica_set, kept)

    def _create(self, replica_set: Obj) -> Obj:
        return self._client.create("pods", pod_of(replica_set, "apps/v1", "ReplicaSet"))

    def _describe(self, replica_set: Obj, pods: list[Obj]) -> None:
        before = replica_set.get("status") or {}
        ready = sum(map(is_ready, pods))
        status: Obj = {
            "replicas": len(pods),
            "fullyLabeledReplicas": len(pods),
            "observedGeneration": replica_set["metadata"].get("generation", 1),
        }
        if ready:
            status |= {"readyReplicas": ready, "availableReplicas": ready}
        if status != before:
            self._client.update_status(REPLICA_SETS, {**replica_set, "status": status})
