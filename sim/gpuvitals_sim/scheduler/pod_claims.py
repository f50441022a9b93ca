"""The claims of a pod, and whether it can be scheduled with them yet.

Place in the chain: before the decision. Source: kubernetes/dynamic-resource-allocation resourceclaim (names, ownership).
"""

from collections.abc import Callable

from gpuvitals_sim.apiserver.json_types import Obj


class NotSchedulableYet(Exception):
    """The pod waits for a change; as in the real scheduler, its status is not written."""


def claims_of(pod: Obj, find: Callable[[str, str], Obj | None]) -> list[Obj]:
    """The pod's claims, as `find(namespace, name)` has them. Raises NotSchedulableYet."""
    namespace = pod["metadata"]["namespace"]
    generated = {
        entry["name"]: entry.get("resourceClaimName")
        for entry in (pod.get("status") or {}).get("resourceClaimStatuses") or ()
    }
    found: list[Obj] = []
    for reference in pod["spec"].get("resourceClaims") or ():
        name = reference.get("resourceClaimName")
        if not name:
            if reference["name"] not in generated:
                raise NotSchedulableYet("the claim is not generated yet")
            name = generated[reference["name"]]
            if not name:
                continue  # the pod needs no claim for this reference
        claim = find(namespace, name)
        if claim is None:
            raise NotSchedulableYet(f'resourceclaim "{name}" not found')
        if claim["metadata"].get("deletionTimestamp"):
            raise NotSchedulableYet(f'resourceclaim "{name}" is being deleted')
        _check_owner(pod, reference, claim)
        found.append(claim)
    return found


def _check_owner(pod: Obj, reference: Obj, claim: Obj) -> None:
    if reference.get("resourceClaimName"):
        return
    owners = claim["metadata"].get("ownerReferences") or ()
    uid = pod["metadata"]["uid"]
    if not any(owner.get("controller") and owner.get("uid") == uid for owner in owners):
        raise NotSchedulableYet(f"claim {claim['metadata']['name']} was not created for this pod")
