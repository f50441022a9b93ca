"""Predicates on pods that several controllers share.

Place in the chain: used by claims, taint_eviction and disruption.
"""

from collections.abc import Iterator

from gpuvitals_sim.apiserver.json_types import Obj, dig


def is_finished(pod: Obj) -> bool:
    """Whether the pod has succeeded or failed."""
    return dig(pod, "status", "phase") in ("Succeeded", "Failed")


def is_done(pod: Obj) -> bool:
    """Whether the pod will never run again: finished, or deleted before it was bound."""
    return is_finished(pod) or ("deletionTimestamp" in pod["metadata"] and not pod["spec"].get("nodeName"))


def is_ready(pod: Obj) -> bool:
    """Whether the condition Ready is true."""
    conditions = dig(pod, "status", "conditions") or ()
    return any(entry.get("type") == "Ready" and entry.get("status") == "True" for entry in conditions)


def claim_names(pod: Obj) -> Iterator[str]:
    """The names of the claims that a pod uses, generated ones included."""
    generated = {
        entry["name"]: entry.get("resourceClaimName")
        for entry in dig(pod, "status", "resourceClaimStatuses") or ()
    }
    for reference in pod["spec"].get("resourceClaims") or ():
        name = reference.get("resourceClaimName") or generated.get(reference["name"])
        if name:
            yield name
    special = dig(pod, "status", "extendedResourceClaimStatus", "resourceClaimName")
    if special:
        yield special
