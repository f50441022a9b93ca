"""API objects that the demo creates for a scenario: a pod and its claim template, as a user would write them.

Place in the chain: `action_runner.py` creates them.
"""

from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.cluster.driver_objects import DEVICE_CLASS
from gpuvitals_sim.scenario.actions import Claim, CreatePod, SubRequest, Toleration

NAMESPACE = "default"
CLAIM = "gpu"

_GRACE_SECONDS = 1


def claim_template(wanted: CreatePod) -> Obj:
    """The template of the pod's claim, under the pod's name."""
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": wanted.name, "namespace": NAMESPACE},
        "spec": {"spec": {"devices": {"requests": [_request(wanted.claim)]}}},
    }


def pod(wanted: CreatePod, node: str | None) -> Obj:
    """A pod whose one container uses the claim, optionally pinned to `node`."""
    spec: Obj = {
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


def _request(claim: Claim) -> Obj:
    if claim.first_available:
        return {"name": CLAIM, "firstAvailable": [_choice(one) for one in claim.first_available]}
    exactly: Obj = {
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


def _choice(one: SubRequest) -> Obj:
    return {
        "name": one.name,
        "deviceClassName": DEVICE_CLASS,
        "count": one.count,
        **_selectors(one.selector),
        **_tolerations(one.tolerations),
    }


def _selectors(expression: str | None) -> Obj:
    return {"selectors": [_selector(expression)]} if expression is not None else {}


def _selector(expression: str) -> Obj:
    return {"cel": {"expression": expression}}


def _tolerations(tolerations: tuple[Toleration, ...]) -> Obj:
    return {"tolerations": [one.model_dump(exclude_none=True) for one in tolerations]} if tolerations else {}
