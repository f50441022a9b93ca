"""The kubelet's Node object, and the slices of its node that it deletes.

Place in the chain: at the start of the kubelet and when a driver is gone. Other fields and conditions are left alone.
Source: kubernetes/kubernetes pkg/kubelet/kubelet_node_status.go; pkg/kubelet/cm/dra/plugin/dra_plugin_manager.go.
"""

import logging
from datetime import UTC, datetime

from gpuvitals_sim.rest import STRATEGIC_PATCH, ApiError, Json, Rest

log = logging.getLogger(__name__)

_NOT_FOUND = 404
_CONFLICT = 409
_SLICES = "/apis/resource.k8s.io/v1/resourceslices"
_PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure")


def register_node(rest: Rest, name: str) -> None:
    """Creates the Node unless it is there, and reports it Ready. Raises ApiError."""
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    body: Json = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
    try:
        rest.create("/api/v1/nodes", body)
    except ApiError as error:
        if error.code != _CONFLICT:
            raise
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    times = {"lastHeartbeatTime": now, "lastTransitionTime": now}
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": "kubelet is posting ready status",
    }
    good = [
        {"type": kind, "status": "False", "reason": f"KubeletHasNo{kind}", **times} for kind in _PRESSURES
    ]
    room = {"cpu": "64", "memory": "512Gi", "pods": "110"}
    status: Json = {
        "conditions": [*good, {**ready, **times}],
        "capacity": room,
        "allocatable": room,
        "nodeInfo": _node_info(),
        "addresses": [{"type": "Hostname", "address": name}],
    }
    rest.patch(f"/api/v1/nodes/{name}/status", {"status": status}, STRATEGIC_PATCH)


def wipe_slices(rest: Rest, node: str, driver: str = "") -> int:
    """Deletes the node's slices, of one driver or of all; how many. Raises ApiError."""
    selector = f"spec.nodeName={node}" + (f",spec.driver={driver}" if driver else "")
    items = rest.get(_SLICES, {"fieldSelector": selector}).get("items") or ()
    for item in items:
        try:
            rest.delete(f"{_SLICES}/{item['metadata']['name']}")
        except ApiError as error:
            if error.code != _NOT_FOUND:
                raise
    return len(items)


def _node_info() -> Json:
    names = (
        "machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion",
        "kubeletVersion", "kubeProxyVersion", "operatingSystem", "architecture",
    )  # fmt: skip
    known = {"kubeletVersion": "v1.37.2-sim", "operatingSystem": "linux", "architecture": "amd64"}
    return {name: known.get(name, "") for name in names}
