"""The chart's objects on a real API server, and the agent's account there with tokens as a kubelet asks for them."""

import http.client
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from chart.rendering import NAMESPACE, golden_objects
from support.raw_api import APPLY_PATCH, Answer, RawApi
from support.realkube.server import RealServer

Json = dict[str, Any]

ACCOUNT = "gpuvitals-agent"
DRIVER = "gpu.vitals.internal"
OTHER = "nic.example.com"
SLICES = "/apis/resource.k8s.io/v1/resourceslices"
CLAIMS = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"
EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"
_SETTLED_SECONDS = 15.0

_PLURALS = {
    "ServiceAccount": "serviceaccounts",
    "ConfigMap": "configmaps",
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "DaemonSet": "daemonsets",
    "DeviceClass": "deviceclasses",
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
    "NetworkPolicy": "networkpolicies",
    "CustomResourceDefinition": "customresourcedefinitions",
}


def path_of(item: Json) -> str:
    """The collection that an object belongs to."""
    api = item["apiVersion"]
    root = f"/apis/{api}" if "/" in api else f"/api/{api}"
    namespace = item["metadata"].get("namespace")
    return f"{root}/{f'namespaces/{namespace}/' if namespace else ''}{_PLURALS[item['kind']]}"


class AsToken(RawApi):
    """A raw client with a bearer token and no certificate."""

    def __init__(self, url: str, ca: Path, token: str) -> None:
        super().__init__(url, tls=ssl.create_default_context(cafile=str(ca)))
        self._token = token

    def _connect(self) -> http.client.HTTPConnection:
        connection = super()._connect()
        send: Callable[..., None] = connection.request

        def request(method: str, target: str, *, headers: Mapping[str, str], **rest: Any) -> None:
            send(method, target, headers={**headers, "Authorization": f"Bearer {self._token}"}, **rest)

        connection.request = request  # type: ignore[method-assign]  # the one place to add a header
        return connection


class Cluster:
    """The chart installed, two nodes, and one agent pod on each. `admin` may do everything."""

    def __init__(self, server: RealServer) -> None:
        self.admin, self.kubeconfig = server.api, server.kubeconfig
        self._url, self._ca = server.url, server.pki.ca
        self._make("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        for item in golden_objects():
            self._make(path_of(item), item)
        self._pods = {node: self._pod(node) for node in ("node-a", "node-b")}
        self.agent = self.account("node-a")
        self._wait_for_policies()

    def account(self, node: str = "") -> AsToken:
        """The agent's account with a token that is bound to its pod on the node; to nothing without one."""
        spec: Json = {"expirationSeconds": 3600}
        if node:
            pod = self._pods[node]
            reference = {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": pod.name,
                "uid": pod.body["metadata"]["uid"],
            }
            spec["boundObjectRef"] = reference
        path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{ACCOUNT}/token"
        answer = self._make(path, {"spec": spec})
        return AsToken(self._url, self._ca, answer.body["status"]["token"])

    def slice(self, name: str, *, stored: bool = False, **spec: Any) -> Json:
        """A slice of node-a, with other fields in `spec`; `stored` also creates it, as the administrator."""
        body = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceSlice",
            "metadata": {"name": name},
            "spec": {
                "driver": DRIVER,
                "nodeName": "node-a",
                "pool": {"name": "node-a", "generation": 1, "resourceSliceCount": 1},
                "devices": [{"name": "gpu-0"}],
                **spec,
            },
        }
        body["spec"] = {key: value for key, value in body["spec"].items() if value is not None}
        return self._make(SLICES, body).body if stored else body

    def claim(self, name: str, node: str, *, reported: bool = False, also: str = "") -> str:
        """Creates a claim that holds a GPU and another driver's device on the node; gives its path.

        `reported`: the other driver has written its entry of `status.devices`. `also`: it holds a GPU of this node too.
        """
        requests = [{"name": part, "exactly": {"deviceClassName": DRIVER}} for part in ("gpu", "nic")]
        self._make(CLAIMS, {"metadata": {"name": name}, "spec": {"devices": {"requests": requests}}})
        path = f"{CLAIMS}/{name}"
        self._allocate(path, node, also)
        if reported:
            self._apply_status(path, {"devices": [entry(OTHER, node, reason="Cabled")]})
        return path

    def _allocate(self, path: str, node: str, also: str) -> None:
        """Allocates as the scheduler does."""
        results = [
            {"request": "gpu", "driver": DRIVER, "pool": node, "device": "gpu-0"},
            {"request": "nic", "driver": OTHER, "pool": node, "device": "gpu-0"},
        ]
        if also:
            results.append({"request": "gpu", "driver": DRIVER, "pool": also, "device": "gpu-0"})
        current = self.admin.get(path).body
        match = {"key": "metadata.name", "operator": "In", "values": [node]}
        current["status"] = {
            "allocation": {
                "devices": {"results": results},
                "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [match]}]},
            },
            "reservedFor": [
                {"resource": "pods", "name": "train", "uid": "11111111-2222-3333-4444-555555555555"}
            ],
        }
        current["metadata"]["finalizers"] = ["resource.kubernetes.io/delete-protection"]
        answer = self.admin.put(f"{path}/status", current)
        assert answer.status == 200, answer.body

    def _apply_status(self, path: str, status: Json) -> None:
        answer = self.admin.patch(
            f"{path}/status", APPLY_PATCH, applied(path, status), fieldManager="nic", force=True
        )
        assert answer.status == 200, answer.body

    def _pod(self, node: str) -> Answer:
        self._make("/api/v1/nodes", {"metadata": {"name": node}})
        spec = {
            "nodeName": node,
            "serviceAccountName": ACCOUNT,
            "containers": [{"name": "agent", "image": "gpuvitals/agent"}],
        }
        return self._make(
            f"/api/v1/namespaces/{NAMESPACE}/pods", {"metadata": {"name": f"agent-{node}"}, "spec": spec}
        )

    def _make(self, path: str, body: Json) -> Answer:
        answer = self.admin.post(path, body)
        assert answer.status in (200, 201), (path, answer.body)
        return answer

    def _wait_for_policies(self) -> None:
        """A new policy is in force some seconds after it was stored."""
        foreign = self.slice("probe", nodeName="node-b")
        claim = self.claim("probe", "node-b")
        body = applied(claim, {"devices": [entry(DRIVER, "node-b")]})
        deadline = time.monotonic() + _SETTLED_SECONDS
        while (
            self.agent.post(SLICES, foreign, dryRun="All").status != 403
            or self.agent.apply(f"{claim}/status", "probe", body, dryRun="All").status < 400
            or self.agent.post(EVENTS, event_about("node-b"), dryRun="All").status != 403
        ):
            assert time.monotonic() < deadline, "the admission policies are not in force"
            time.sleep(0.2)


def event_about(node: str) -> Json:
    """An event as the node's agent makes it."""
    return {
        "metadata": {"name": "probe", "namespace": "default"},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "vitals.internal/agent",
        "reportingInstance": "test",
        "action": "GpuUnhealthy",
        "reason": "GpuUnhealthy",
        "type": "Warning",
        "regarding": {"apiVersion": "v1", "kind": "Node", "name": node},
    }


def entry(driver: str, node: str, reason: str = "None") -> Json:
    """One entry of `status.devices`."""
    healthy = {
        "type": "Healthy",
        "status": "True",
        "reason": reason,
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    return {"driver": driver, "pool": node, "device": "gpu-0", "conditions": [healthy]}


def applied(path: str, status: Json) -> Json:
    """The body of a server-side apply of a claim's status."""
    metadata = {"name": path.rpartition("/")[2], "namespace": "default"}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": metadata,
        "status": status,
    }
