"""The kubelet's Node object, and the deletion of its node's slices.

Place in the chain: called at the start of the kubelet and after a driver has disconnected.
Source: kubernetes/kubernetes pkg/kubelet/kubelet_node_status.go; pkg/kubelet/cm/dra/plugin/dra_plugin_manager.go.
"""

import logging
from http import HTTPStatus

from gpuvitals_sim.apiserver import ApiClient, ApiError
from gpuvitals_sim.apiserver.json_types import Obj, timestamp
from gpuvitals_sim.apiserver.request import STRATEGIC_PATCH

log = logging.getLogger(__name__)

SLICES = "resourceslices.resource.k8s.io"
_PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure")


def register_node(client: ApiClient, name: str) -> None:
    """Creates the Node unless it exists, and reports it Ready. Raises ApiError."""
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    body: Obj = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
    try:
        client.create("nodes", body)
    except ApiError as error:
        if error.code != HTTPStatus.CONFLICT:
            raise
    now = timestamp()
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
    status: Obj = {
        "conditions": [*good, {**ready, **times}],
        "capacity": room,
        "allocatable": room,
        "nodeInfo": _node_info(),
        "addresses": [{"type": "Hostname", "address": name}],
    }
    client.patch("nodes", ("", name), {"status": status}, patch_type=STRATEGIC_PATCH, subresource="status")


def wipe_slices(client: ApiClient, node: str, driver: str = "") -> int:
    """Deletes the node's slices, of one driver or of all, and returns their number. Raises ApiError."""
    selector = f"spec.nodeName={node}" + (f",spec.driver={driver}" if driver else "")
    items = client.list(SLICES, fields=selector)
    for item in items:
        try:
            client.delete(SLICES, item["metadata"]["name"])
        except ApiError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise
    return len(items)


def _node_info() -> Obj:
    names = (
        "machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion",
        "kubeletVersion", "kubeProxyVersion", "operatingSystem", "architecture",
    )  # fmt: skip
    known = {"kubeletVersion": "v1.37.2-sim", "operatingSystem": "linux", "architecture": "amd64"}
    return {name: known.get(name, "") for name in names}
