"""API objects of the cluster's tests, as a user writes them, and what is read of them."""

import json
import uuid
from typing import Any

from cluster.images import BUSYBOX
from support.raw_api import MERGE_PATCH, RawApi

Json = dict[str, Any]

DRIVER = "gpu.vitals.internal"
CLASS = "gpu.vitals.internal"
PODS = "/api/v1/namespaces/default/pods"
CLAIMS = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"
CLASSES = "/apis/resource.k8s.io/v1/deviceclasses"
SLICES = "/apis/resource.k8s.io/v1/resourceslices"
CAREFUL = 'device.attributes["health"].score > 90'


def device_class() -> Json:
    """Every GPU of the driver."""
    expression = f'device.driver == "{DRIVER}"'
    return {"metadata": {"name": CLASS}, "spec": {"selectors": [{"cel": {"expression": expression}}]}}


def claim(name: str, *, selector: str = CAREFUL, count: int = 1) -> Json:
    """A claim for GPUs that the CEL expression accepts."""
    exactly: Json = {"deviceClassName": CLASS, "selectors": [{"cel": {"expression": selector}}]}
    if count != 1:
        exactly |= {"allocationMode": "ExactCount", "count": count}
    request = {"name": "gpu", "exactly": exactly}
    return {"metadata": {"name": name}, "spec": {"devices": {"requests": [request]}}}


def pod(name: str, *, command: str = "exec sleep 3600", claims: tuple[str, ...] = ()) -> Json:
    """A pod of one busybox that runs a shell command and uses the claims."""
    references = [{"name": each, "resourceClaimName": each} for each in claims]
    container: Json = {
        "name": "main",
        "image": BUSYBOX,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", command],
    }
    spec: Json = {"terminationGracePeriodSeconds": 1, "containers": [container]}
    if claims:
        container["resources"] = {"claims": [{"name": each} for each in claims]}
        spec["resourceClaims"] = references
    return {"metadata": {"name": name}, "spec": spec}


def create(api: RawApi, path: str, body: Json) -> Json:
    """Creates the object; fails with the server's answer."""
    answer = api.post(path, body)
    assert answer.status == 201, answer.body
    return answer.body


def touch(api: RawApi, name: str) -> None:
    """Changes the pod's annotations: the kubelet looks at it at once, and not only with its next periodic sync."""
    answer = api.patch(
        f"{PODS}/{name}", MERGE_PATCH, {"metadata": {"annotations": {"touched": str(uuid.uuid4())}}}
    )
    assert answer.status == 200, answer.body


def messages(api: RawApi, name: str) -> list[str]:
    """The texts of the pod's events."""
    events = api.get("/api/v1/namespaces/default/events", fieldSelector=f"involvedObject.name={name}")
    return [str(item.get("message", "")) for item in events.body["items"]]


def claim_uid(api: RawApi, name: str) -> str:
    """The UID of the claim that has this name now."""
    return str(api.get(f"{CLAIMS}/{name}").body["metadata"]["uid"])


def is_running(api: RawApi, name: str) -> bool:
    """Whether the pod's one container is ready."""
    status = api.get(f"{PODS}/{name}").body.get("status") or {}
    states = status.get("containerStatuses") or [] if isinstance(status, dict) else []
    return bool(states) and all(state["ready"] for state in states)


def pod_health(api: RawApi, name: str) -> tuple[str, str]:
    """The health and the message that the kubelet shows for the pod's first device; empty while there is none."""
    for state in api.get(f"{PODS}/{name}").body["status"].get("containerStatuses") or []:
        for entry in state.get("allocatedResourcesStatus") or []:
            for resource in entry.get("resources") or []:
                return str(resource.get("health", "")), str(resource.get("message", ""))
    return "", ""


def allocated(api: RawApi, name: str) -> list[str]:
    """Names of the claim's devices."""
    status = api.get(f"{CLAIMS}/{name}").body.get("status") or {}
    results = status.get("allocation", {}).get("devices", {}).get("results") or []
    return [str(result["device"]) for result in results]


def claim_condition(api: RawApi, name: str, kind: str = "Healthy") -> tuple[str, str]:
    """Status and reason of a condition of the claim's first device; empty while there is none."""
    for device in (api.get(f"{CLAIMS}/{name}").body.get("status") or {}).get("devices") or []:
        for entry in device.get("conditions") or []:
            if entry["type"] == kind:
                return str(entry["status"]), str(entry["reason"])
    return "", ""


def slices(api: RawApi) -> list[Json]:
    """The driver's slices."""
    items: list[Json] = api.get(SLICES).body["items"]
    return [item for item in items if item["spec"]["driver"] == DRIVER]


def devices(api: RawApi) -> dict[str, Json]:
    """The driver's published devices by name."""
    return {device["name"]: device for item in slices(api) for device in item["spec"].get("devices") or []}


def health(api: RawApi, device: str) -> tuple[object, object, object]:
    """State, reason and score that a published device shows."""
    found = devices(api)[device]
    return (
        attribute(found, "health/state"),
        attribute(found, "health/reason"),
        attribute(found, "health/score"),
    )


def as_written(api: RawApi, without: str) -> dict[str, str]:
    """Each published device but one, as JSON text: what must not change when that one fails."""
    found = devices(api)
    return {name: json.dumps(device) for name, device in found.items() if name != without}


def start_gpu_pod(api: RawApi, name: str, **wanted: Any) -> None:
    """Creates a claim and a pod that uses it, both of this name."""
    create(api, CLAIMS, claim(name, **wanted))
    create(api, PODS, pod(name, claims=(name,)))


def is_gone(api: RawApi, name: str) -> bool:
    """Whether the pod is no more."""
    return api.get(f"{PODS}/{name}").status == 404


def attribute(device: Json, name: str) -> object:
    """The value of an attribute, whatever its type."""
    (value,) = device["attributes"][name].values()
    return value


def taints(device: Json) -> dict[str, Json]:
    """The device's taints by key."""
    return {taint["key"]: taint for taint in device.get("taints") or []}
