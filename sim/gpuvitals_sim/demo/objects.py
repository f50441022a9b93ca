"""API objects that the demo creates: its device classes, and a pod with its claim template.

Place in the chain: the actor sends them; they are what a user would write.
"""

from typing import Any

from gpuvitals.inventory.naming import Naming
from gpuvitals_sim.scenario.actions import Claim, CreatePod, SubRequest, Toleration

Json = dict[str, Any]

NAMESPACE = "default"
DEVICE_CLASS = "gpu.vitals.internal"
CLAIM = "gpu"

_GRACE_SECONDS = 1


def device_classes(naming: Naming) -> tuple[Json, Json]:
    """The classes that the chart creates: every device of this driver, and its healthy whole GPUs.

    The filter by driver comes first: it keeps other drivers' devices out of the expressions behind it.
    """
    health = f'device.attributes["{naming.attribute_domain}"]'
    ours = f'device.driver == "{naming.driver}"'
    healthy = (
        ours,
        f'device.attributes["{naming.driver}"].type == "gpu"',
        f"{health}.score > 90",
        f"{health}.xidErrors == 0",
        f'{health}.nvlinkStatus in ["active", "none"]',
    )
    return _device_class(DEVICE_CLASS, ours), _device_class(f"healthy.{DEVICE_CLASS}", " && ".join(healthy))


def _device_class(name: str, expression: str) -> Json:
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": name},
        "spec": {"selectors": [_selector(expression)]},
    }


def claim_template(wanted: CreatePod) -> Json:
    """The template of the pod's claim, under the pod's name."""
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": wanted.name, "namespace": NAMESPACE},
        "spec": {"spec": {"devices": {"requests": [_request(wanted.claim)]}}},
    }


def pod(wanted: CreatePod, node: str | None) -> Json:
    """A pod whose one container uses the claim; on `node` where that is given."""
    spec: Json = {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "containers": [
            {
                "name": "work",
                "image": "registry.example/work:1",
                "resources": {"claims": [{"name": CLAIM}]},
            }
        ],
        "resourceClaims": [{"name": CLAIM, "resourceClaimTemplateName": wanted.name}],
    }
    if node is not None:
        spec["nodeSelector"] = {"kubernetes.io/hostname": node}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": wanted.name, "namespace": NAMESPACE},
        "spec": spec,
    }


def _request(claim: Claim) -> Json:
    if claim.first_available:
        return {"name": CLAIM, "firstAvailable": [_choice(one) for one in claim.first_available]}
    exactly: Json = {
        "deviceClassName": DEVICE_CLASS,
        **_selectors(claim.selector),
        **_tolerations(claim.tolerations),
    }
    if claim.all_devices:
        exactly["allocationMode"] = "All"
    elif claim.count != 1:
        exactly |= {"allocationMode": "ExactCount", "count": claim.count}
    if claim.admin_access:
        exactly["adminAccess"] = True
    return {"name": CLAIM, "exactly": exactly}


def _choice(one: SubRequest) -> Json:
    return {
        "name": one.name,
        "deviceClassName": DEVICE_CLASS,
        "count": one.count,
        **_selectors(one.selector),
        **_tolerations(one.tolerations),
    }


def _selectors(expression: str | None) -> Json:
    return {"selectors": [_selector(expression)]} if expression is not None else {}


def _selector(expression: str) -> Json:
    return {"cel": {"expression": expression}}


def _tolerations(tolerations: tuple[Toleration, ...]) -> Json:
    return {"tolerations": [one.model_dump(exclude_none=True) for one in tolerations]} if tolerations else {}
