"""Builders of DRA objects (nodes, slices, classes, claims, pods), and waiting for conditions on them."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from gpuvitals_sim.apiserver import InProcessClient

Json = dict[str, Any]
T = TypeVar("T")

DRIVER = "gpu.vitals.internal"
CLASS = "gpu"
CLAIMS = "resourceclaims.resource.k8s.io"
CLASSES = "deviceclasses.resource.k8s.io"
SLICES = "resourceslices.resource.k8s.io"
RULES = "devicetaintrules.resource.k8s.io"


def eventually(check: Callable[[], T | None], what: str, timeout_seconds: float = 10.0) -> T:
    """The first result of `check` that is neither None nor False. Fails with that description after the timeout."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        found = check()
        if found is not None and found is not False:
            return found
        assert time.monotonic() < deadline, f"not seen in {timeout_seconds} s: {what}"
        time.sleep(0.01)


def gpu(name: str, score: int = 100, taints: tuple[Json, ...] = (), **attributes: Json) -> Json:
    """A device with a health score; more attributes by keyword."""
    device: Json = {"name": name, "attributes": {"health/score": {"int": score}, **attributes}}
    if taints:
        device["taints"] = [dict(taint) for taint in taints]
    return device


def resource_slice(node: str, *devices: Json, name: str = "", generation: int = 1, count: int = 1) -> Json:
    """The node's slice with these devices; its pool has the node's name."""
    return {
        "metadata": {"name": name or f"00000-{node}"},
        "spec": {
            "driver": DRIVER,
            "nodeName": node,
            "pool": {"name": node, "generation": generation, "resourceSliceCount": count},
            "devices": list(devices),
        },
    }


def device_class(*extra: str, name: str = CLASS) -> Json:
    """The driver's class, with more selectors if wanted."""
    expressions = (f'device.driver == "{DRIVER}"', *extra)
    return {
        "metadata": {"name": name},
        "spec": {"selectors": [{"cel": {"expression": text}} for text in expressions]},
    }


def exactly(name: str = "gpu", *selectors: str, **more: Any) -> Json:
    """One exact request."""
    return {"name": name, "exactly": {"deviceClassName": CLASS, **_selectors(selectors), **more}}


def choice(name: str, *selectors: str, **more: Any) -> Json:
    """One entry of `firstAvailable`."""
    return {"name": name, "deviceClassName": CLASS, **_selectors(selectors), **more}


def claim(
    name: str, *requests: Json, constraints: tuple[Json, ...] = (), config: tuple[Json, ...] = ()
) -> Json:
    """A claim; without requests for one GPU of any kind."""
    devices: Json = {"requests": list(requests) or [exactly()]}
    if constraints:
        devices["constraints"] = list(constraints)
    if config:
        devices["config"] = list(config)
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"devices": devices}}


def pod(
    name: str, *claims: str, node: str = "", grace_seconds: int = 30, requests: tuple[str, ...] = ()
) -> Json:
    """A pod of one container that uses all of these claims; `requests` restrict the container to them."""
    references = [{"name": f"c{number}", "resourceClaimName": used} for number, used in enumerate(claims)]
    uses: list[Json] = [{"name": reference["name"]} for reference in references]
    if requests:
        uses = [{"name": references[0]["name"], "request": request} for request in requests]
    spec: Json = {
        "containers": [{"name": "main", "image": "busybox", "resources": {"claims": uses}}],
        "resourceClaims": references,
        "terminationGracePeriodSeconds": grace_seconds,
    }
    if node:
        spec["nodeName"] = node
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


def condition(item: Json | None, kind: str) -> Json:
    """A status condition, empty while there is none."""
    conditions = ((item or {}).get("status") or {}).get("conditions") or ()
    return next((entry for entry in conditions if entry["type"] == kind), {})


def held_devices(client: InProcessClient, name: str) -> list[str]:
    """Names of the devices that a claim holds, in the order of its results."""
    found = client.find(CLAIMS, name, "default") or {}
    allocation = (found.get("status") or {}).get("allocation") or {}
    return [result["device"] for result in (allocation.get("devices") or {}).get("results") or ()]


def _selectors(expressions: tuple[str, ...]) -> Json:
    if not expressions:
        return {}
    return {"selectors": [{"cel": {"expression": expression}} for expression in expressions]}


def ready_node(client: InProcessClient, name: str, **spec: Any) -> Json:
    """A node without the not-ready taint that every new node gets; `spec` as given."""
    created = client.create("nodes", {"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}})
    return client.update("nodes", {**created, "spec": dict(spec)})
