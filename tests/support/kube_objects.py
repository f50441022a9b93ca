"""Small API objects for the contract cases."""

from typing import Any

from support.raw_api import RawApi

SLICES = "/apis/resource.k8s.io/v1/resourceslices"
CLAIMS = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
TEMPLATES = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaimtemplates"
CLASSES = "/apis/resource.k8s.io/v1/deviceclasses"
RULES = "/apis/resource.k8s.io/v1/devicetaintrules"
NAMESPACES = "/api/v1/namespaces"
JOBS = "/apis/batch/v1/namespaces/default/jobs"
NODES = "/api/v1/nodes"
PODS = "/api/v1/namespaces/default/pods"
EVENTS = "/api/v1/namespaces/default/events"
DRIVER = "gpu.vitals.internal"

Json = dict[str, Any]


def lease(name: str, holder: str = "a", **metadata: object) -> Json:
    """The cheapest object with a spec."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, **metadata},
        "spec": {"holderIdentity": holder},
    }


def pod(name: str, **metadata: object) -> Json:
    """A pod of one container."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", **metadata},
        "spec": {"containers": [{"name": "main", "image": "gpu-job:1"}]},
    }


def job(name: str, **spec: object) -> Json:
    """A job of one pod."""
    template = {"spec": {**pod(name)["spec"], "restartPolicy": "Never"}}
    return {"metadata": {"name": name}, "spec": {"template": template, **spec}}


def event(name: str, **metadata: object) -> Json:
    """An event about a pod."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, **metadata},
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"},
        "reason": "Tested",
        "type": "Normal",
    }


def device(name: str, *taints: Json) -> Json:
    """A device with one attribute and the taints."""
    body: Json = {"name": name, "attributes": {"health/score": {"int": 100}}}
    return {**body, "taints": list(taints)} if taints else body


def taint(effect: str = "NoSchedule", key: str = f"{DRIVER}/unhealthy", **fields: str) -> Json:
    """A device taint."""
    return {"key": key, "value": "Xid79", "effect": effect, **fields}


def resource_slice(name: str, *devices: Json, node: str = "node-a", driver: str = DRIVER) -> Json:
    """A slice of a pool of one."""
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": name},
        "spec": {
            "driver": driver,
            "nodeName": node,
            "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
            "devices": list(devices),
        },
    }


def claim(name: str) -> Json:
    """A claim for one device of the class gpu."""
    request = {"name": "gpu", "exactly": {"deviceClassName": "gpu"}}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"devices": {"requests": [request]}},
    }


def allocate(api: RawApi, stored: Json, *devices: str) -> Json:
    """The claim with those devices allocated on node-a, as the scheduler writes it."""
    results = [{"request": "gpu", "driver": DRIVER, "pool": "node-a", "device": name} for name in devices]
    body = {**stored, "status": {"allocation": {"devices": {"results": results}}}}
    answer = api.put(f"{CLAIMS}/{stored['metadata']['name']}/status", body)
    assert answer.status == 200, answer.body
    return answer.body


def condition(kind: str = "Healthy", status: str = "True", reason: str = "None") -> Json:
    """A complete condition."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": "",
        "lastTransitionTime": "2026-11-24T01:00:00Z",
    }


def claim_status(stored: Json, *devices: Json, uid: str | None = None) -> Json:
    """An apply body of status.devices, guarded by the claim's UID."""
    meta = stored["metadata"]
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": meta["name"], "namespace": "default", "uid": uid or meta["uid"]},
        "status": {"devices": list(devices)},
    }


def shown(name: str, *conditions: Json, driver: str = DRIVER) -> Json:
    """One entry of status.devices."""
    return {"driver": driver, "pool": "node-a", "device": name, "conditions": list(conditions)}
