"""Node taints derived from a node's conditions and from cordoning.

Place in the chain: the scheduler reads the taints. The not-ready taint of a new node is removed here when its kubelet
reports Ready. Source: kubernetes/kubernetes pkg/controller/nodelifecycle.
"""

from gpuvitals_sim.apiserver import InProcessClient
from gpuvitals_sim.apiserver.json_types import Obj, dig
from gpuvitals_sim.apiserver.request import STRATEGIC_PATCH

_PREFIX = "node.kubernetes.io/"
_NOT_READY, _UNREACHABLE = f"{_PREFIX}not-ready", f"{_PREFIX}unreachable"
_UNSCHEDULABLE = f"{_PREFIX}unschedulable"
_PRESSURE = {
    "MemoryPressure": f"{_PREFIX}memory-pressure",
    "DiskPressure": f"{_PREFIX}disk-pressure",
    "PIDPressure": f"{_PREFIX}pid-pressure",
    "NetworkUnavailable": f"{_PREFIX}network-unavailable",
}
_OURS = frozenset((_NOT_READY, _UNREACHABLE, _UNSCHEDULABLE, *_PRESSURE.values()))


class NodeController:
    """Level-triggered: every pass compares each node's NoSchedule taints with its conditions."""

    kinds = frozenset(("nodes",))

    def __init__(self, client: InProcessClient) -> None:
        self._client = client

    def reconcile(self) -> float | None:
        """Patches the nodes whose taints differ from their conditions."""
        for node in self._client.peek("nodes"):
            taints = dig(node, "spec", "taints") or []
            wanted = _wanted(node)
            present = {taint["key"] for taint in taints if _is_ours(taint)}
            if present != wanted:
                kept = [taint for taint in taints if not _is_ours(taint) or taint["key"] in wanted]
                added = [{"key": key, "effect": "NoSchedule"} for key in sorted(wanted - present)]
                metadata = node["metadata"]
                patch = {
                    "metadata": {"resourceVersion": metadata["resourceVersion"]},
                    "spec": {"taints": [*kept, *added] or None},
                }
                self._client.patch("nodes", ("", metadata["name"]), patch, patch_type=STRATEGIC_PATCH)
        return None


def _wanted(node: Obj) -> set[str]:
    status = {entry["type"]: entry.get("status") for entry in dig(node, "status", "conditions") or ()}
    wanted = {key for condition, key in _PRESSURE.items() if status.get(condition) == "True"}
    match status.get("Ready"):
        case "True":
            pass
        case "Unknown":
            wanted.add(_UNREACHABLE)
        case _:
            wanted.add(_NOT_READY)
    if dig(node, "spec", "unschedulable"):
        wanted.add(_UNSCHEDULABLE)
    return wanted


def _is_ours(taint: Obj) -> bool:
    return taint["key"] in _OURS and taint.get("effect") == "NoSchedule"
