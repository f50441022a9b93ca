"""Carries a decision out: claims get their allocation and reservation, the pod its node or its condition.

Place in the chain: the scheduler's only writes. A conflict is tried again on the fresh object.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from gpuvitals_sim.events import Notice, post_event
from gpuvitals_sim.rest import ApiError, Json, Rest
from gpuvitals_sim.scheduler.decision import Placed, Refused
from gpuvitals_sim.scheduler.extended_resources import ExtendedResourceClaim

log = logging.getLogger(__name__)

FINALIZER = "resource.kubernetes.io/delete-protection"
_ATTEMPTS = 5
_CONFLICT = 409
_NOT_FOUND = 404
_OF_NAMESPACE = "/apis/resource.k8s.io/v1/namespaces/{namespace}/resourceclaims"
_CLAIMS = _OF_NAMESPACE + "/{name}"
_PODS = "/api/v1/namespaces/{namespace}/pods/{name}"
_COMPONENT = "default-scheduler"


def bind(rest: Rest, pod: Json, claims: Sequence[Json], placed: Placed, written: dict[str, int]) -> None:
    """Allocates and reserves the claims, then binds the pod; `written` gets the claims' new versions by UID.

    Raises ApiError; parts that were done stay, and the next attempt finds them.
    """
    for claim in claims:
        uid = claim["metadata"]["uid"]
        stored = _reserve(rest, pod, claim, placed.allocations.get(uid))
        written[uid] = int(stored["metadata"]["resourceVersion"])
    if placed.extended is not None:
        _map(rest, pod, placed.extended, claims[-1])
    metadata = pod["metadata"]
    target = {"apiVersion": "v1", "kind": "Node", "name": placed.node}
    body = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"]},
        "target": target,
    }
    rest.create(_path(_PODS, pod) + "/binding", body)
    message = f"Successfully assigned {metadata['namespace']}/{metadata['name']} to {placed.node}"
    post_event(rest, pod, Notice(reason="Scheduled", message=message, component=_COMPONENT))


def create_extended(rest: Rest, extended: ExtendedResourceClaim) -> Json:
    """Creates the claim of a pod's extended resources. Raises ApiError."""
    return rest.create(
        _OF_NAMESPACE.format(namespace=extended.claim["metadata"]["namespace"]), extended.claim
    )


def deallocate(rest: Rest, claim: Json) -> None:
    """Empties a claim whose allocation is in the way of its own pod. Raises ApiError."""
    rest.replace(_path(_CLAIMS, claim) + "/status", {**claim, "status": {}})


def delete_extended(rest: Rest, claim: Json) -> None:
    """Takes back a claim whose pod was not bound; the pod's next attempt makes another."""
    path = _path(_CLAIMS, claim)
    try:
        fresh = rest.get(path)
        rest.replace(path, {**fresh, "metadata": {**fresh["metadata"], "finalizers": []}})
        rest.delete(path)
    except ApiError as error:
        log.debug("scheduler: claim %s stays until its pod goes: %s", path, error)


def refuse(rest: Rest, pod: Json, refused: Refused) -> None:
    """Writes PodScheduled=False and the event, unless the pod says so already. Raises ApiError."""
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": refused.reason,
        "message": refused.message,
        "lastProbeTime": None,
        "observedGeneration": pod["metadata"].get("generation", 1),
    }
    present = _scheduled(pod)
    if all(present.get(key) == condition[key] for key in ("status", "reason", "message")):
        return
    if present.get("status") != "False":
        condition["lastTransitionTime"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        rest.patch(_path(_PODS, pod) + "/status", {"status": {"conditions": [condition]}})
    except ApiError as error:
        if error.code == _NOT_FOUND:
            return  # the pod is gone: nothing to tell
        raise
    notice = Notice(reason="FailedScheduling", message=refused.message, component=_COMPONENT, warning=True)
    post_event(rest, pod, notice)


def _map(rest: Rest, pod: Json, extended: ExtendedResourceClaim, claim: Json) -> None:
    """Tells in the pod's status which claim its containers' extended resources are."""
    status = {"requestMappings": list(extended.mappings), "resourceClaimName": claim["metadata"]["name"]}
    rest.patch(_path(_PODS, pod) + "/status", {"status": {"extendedResourceClaimStatus": status}})


def _reserve(rest: Rest, pod: Json, claim: Json, allocation: Json | None) -> Json:
    path = _path(_CLAIMS, claim)
    for attempt in range(_ATTEMPTS):
        fresh = claim if attempt == 0 else rest.get(path)
        if fresh["metadata"]["uid"] != claim["metadata"]["uid"]:
            raise ApiError(_CONFLICT, "Conflict", f"claim {path} was replaced; the pod is scheduled anew")
        try:
            return _write(rest, path, fresh, pod, allocation)
        except ApiError as error:
            if error.code != _CONFLICT:
                raise
    raise ApiError(
        _CONFLICT, "Conflict", f"claim {path} changed {_ATTEMPTS} times meanwhile; tried again later"
    )


def _write(rest: Rest, path: str, claim: Json, pod: Json, allocation: Json | None) -> Json:
    status = dict(claim.get("status") or {})
    if not status.get("allocation"):
        if allocation is None:
            raise ApiError(_CONFLICT, "Conflict", f"claim {path} was deallocated; the pod is scheduled anew")
        finalizers = claim["metadata"].get("finalizers") or []
        if FINALIZER not in finalizers:
            metadata = {**claim["metadata"], "finalizers": [*finalizers, FINALIZER]}
            claim = rest.replace(path, {**claim, "metadata": metadata})
        status["allocation"] = allocation
    consumer = {"resource": "pods", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
    reserved = status.get("reservedFor") or []
    if any(entry["uid"] == consumer["uid"] for entry in reserved):
        return claim
    status["reservedFor"] = [*reserved, consumer]
    return rest.replace(path + "/status", {**claim, "status": status})


def _scheduled(pod: Json) -> Json:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return next((entry for entry in conditions if entry["type"] == "PodScheduled"), {})


def _path(pattern: str, item: Json) -> str:
    return pattern.format(namespace=item["metadata"]["namespace"], name=item["metadata"]["name"])
