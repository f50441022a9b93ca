"""Writes a decision: claims get their allocation and reservation, the pod its node or its PodScheduled condition.

Place in the chain: the scheduler's only writes. A conflict is tried again on the fresh object.
"""

import logging
from collections.abc import Sequence
from http import HTTPStatus

from gpuvitals_sim.apiserver import ApiClient, ApiError
from gpuvitals_sim.apiserver.json_types import Obj, timestamp
from gpuvitals_sim.apiserver.request import STRATEGIC_PATCH
from gpuvitals_sim.client import EventRecord, record_event
from gpuvitals_sim.scheduler.decision import Placed, Refused
from gpuvitals_sim.scheduler.extended_resources import ExtendedResourceClaim

log = logging.getLogger(__name__)

CLAIMS = "resourceclaims.resource.k8s.io"
FINALIZER = "resource.kubernetes.io/delete-protection"
_ATTEMPTS = 5
_COMPONENT = "default-scheduler"


def bind(client: ApiClient, pod: Obj, claims: Sequence[Obj], placed: Placed, written: dict[str, int]) -> None:
    """Allocates and reserves the claims, then binds the pod; `written` gets the claims' new versions by UID.

    Raises ApiError. Completed writes stay, and the next attempt continues from them.
    """
    for claim in claims:
        uid = claim["metadata"]["uid"]
        stored = _reserve(client, pod, claim, placed.allocations.get(uid))
        written[uid] = int(stored["metadata"]["resourceVersion"])
    if placed.extended is not None:
        _map_extended(client, pod, placed.extended, claims[-1])
    metadata = pod["metadata"]
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"]},
        "target": {"apiVersion": "v1", "kind": "Node", "name": placed.node},
    }
    client.create("pods", binding, subresource="binding")
    message = f"Successfully assigned {metadata['namespace']}/{metadata['name']} to {placed.node}"
    record_event(client, pod, EventRecord(reason="Scheduled", message=message, component=_COMPONENT))


def create_extended(client: ApiClient, extended: ExtendedResourceClaim) -> Obj:
    """Creates the claim of a pod's extended resources. Raises ApiError."""
    return client.create(CLAIMS, extended.claim)


def deallocate(client: ApiClient, claim: Obj) -> None:
    """Removes the allocation of a claim that keeps its own pod from being placed. Raises ApiError."""
    client.update_status(CLAIMS, {**claim, "status": {}})


def delete_extended(client: ApiClient, claim: Obj) -> None:
    """Deletes a claim whose pod was not bound; the pod's next attempt creates another."""
    namespace, name = _ref(claim)
    try:
        fresh = client.get(CLAIMS, name, namespace)
        client.update(CLAIMS, {**fresh, "metadata": {**fresh["metadata"], "finalizers": []}})
        client.delete(CLAIMS, name, namespace)
    except ApiError as error:
        log.debug("scheduler: claim %s/%s stays until its pod is deleted: %s", namespace, name, error)


def refuse(client: ApiClient, pod: Obj, refused: Refused) -> None:
    """Writes PodScheduled=False and the event, unless the condition is already the same. Raises ApiError."""
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
        condition["lastTransitionTime"] = timestamp()
    try:
        _patch_status(client, pod, {"conditions": [condition]})
    except ApiError as error:
        if error.code == HTTPStatus.NOT_FOUND:
            return  # the pod was deleted meanwhile
        raise
    failed = EventRecord(
        reason="FailedScheduling", message=refused.message, component=_COMPONENT, warning=True
    )
    record_event(client, pod, failed)


def _map_extended(client: ApiClient, pod: Obj, extended: ExtendedResourceClaim, claim: Obj) -> None:
    """Writes the claim that serves the containers' extended resources into the pod's status."""
    status = {"requestMappings": list(extended.mappings), "resourceClaimName": claim["metadata"]["name"]}
    _patch_status(client, pod, {"extendedResourceClaimStatus": status})


def _patch_status(client: ApiClient, pod: Obj, status: Obj) -> None:
    client.patch("pods", _ref(pod), {"status": status}, patch_type=STRATEGIC_PATCH, subresource="status")


def _reserve(client: ApiClient, pod: Obj, claim: Obj, allocation: Obj | None) -> Obj:
    namespace, name = _ref(claim)
    for attempt in range(_ATTEMPTS):
        fresh = claim if attempt == 0 else client.get(CLAIMS, name, namespace)
        if fresh["metadata"]["uid"] != claim["metadata"]["uid"]:
            raise _conflict(claim, "was replaced; the pod is scheduled again")
        try:
            return _write(client, fresh, pod, allocation)
        except ApiError as error:
            if error.code != HTTPStatus.CONFLICT:
                raise
    raise _conflict(claim, f"changed {_ATTEMPTS} times meanwhile; tried again later")


def _write(client: ApiClient, claim: Obj, pod: Obj, allocation: Obj | None) -> Obj:
    status = dict(claim.get("status") or {})
    if not status.get("allocation"):
        if allocation is None:
            raise _conflict(claim, "was deallocated; the pod is scheduled again")
        finalizers = claim["metadata"].get("finalizers") or []
        if FINALIZER not in finalizers:
            metadata = {**claim["metadata"], "finalizers": [*finalizers, FINALIZER]}
            claim = client.update(CLAIMS, {**claim, "metadata": metadata})
        status["allocation"] = allocation
    consumer = {"resource": "pods", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
    reserved = status.get("reservedFor") or []
    if any(entry["uid"] == consumer["uid"] for entry in reserved):
        return claim
    status["reservedFor"] = [*reserved, consumer]
    return client.update_status(CLAIMS, {**claim, "status": status})


def _conflict(claim: Obj, why: str) -> ApiError:
    namespace, name = _ref(claim)
    return ApiError(HTTPStatus.CONFLICT, "Conflict", f"claim {namespace}/{name} {why}")


def _scheduled(pod: Obj) -> Obj:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return next((entry for entry in conditions if entry["type"] == "PodScheduled"), {})


def _ref(item: Obj) -> tuple[str, str]:
    return item["metadata"]["namespace"], item["metadata"]["name"]
