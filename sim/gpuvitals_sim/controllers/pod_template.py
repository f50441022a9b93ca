"""Pods created from a template by the workload controllers.

Place in the chain: used by jobs and replicasets. Source: kubernetes/kubernetes pkg/controller/controller_utils.go.
"""

from collections.abc import Iterable

from gpuvitals_sim.apiserver.json_types import Obj, clone, dig


def pod_of(owner: Obj, api_version: str, kind: str) -> Obj:
    """A pod from the owner's template, with a name generated from the owner's."""
    metadata = owner["metadata"]
    template = clone(owner["spec"]["template"])
    wanted = template.get("metadata") or {}
    reference = {"apiVersion": api_version, "kind": kind, "name": metadata["name"], "uid": metadata["uid"]}
    pod: Obj = {
        "metadata": {
            "generateName": f"{metadata['name']}-",
            "namespace": metadata["namespace"],
            "ownerReferences": [{**reference, "controller": True, "blockOwnerDeletion": True}],
        },
        "spec": template["spec"],
    }
    for name in ("labels", "annotations", "finalizers"):
        if wanted.get(name):
            pod["metadata"][name] = wanted[name]
    return pod


def owned_by(owner: Obj, pods: Iterable[Obj]) -> list[Obj]:
    """The pods that the owner controls, oldest first."""
    uid = owner["metadata"]["uid"]
    mine = [
        pod
        for pod in pods
        if any(
            each.get("controller") and each.get("uid") == uid
            for each in pod["metadata"].get("ownerReferences") or ()
        )
    ]
    return sorted(mine, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))


def exit_codes(pod: Obj) -> list[tuple[str, int]]:
    """Each ended container of the pod and its exit code."""
    statuses = [
        *(dig(pod, "status", "containerStatuses") or ()),
        *(dig(pod, "status", "initContainerStatuses") or ()),
    ]
    ended = [(entry["name"], dig(entry, "state", "terminated", "exitCode")) for entry in statuses]
    return [(name, code) for name, code in ended if code is not None]
