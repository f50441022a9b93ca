"""Subresources that are no plain write: evict a pod, bind it to a node, finalize a namespace.

Place in the chain: the HTTP side calls these for POST or PUT on the subresource.
Source: kubernetes/kubernetes pkg/registry/core/pod/storage (eviction.go, storage.go).
"""

from gpuvitals_sim.apiserver.errors import (
    ApiError,
    bad_request,
    conflict,
    forbidden,
    not_found,
    too_many_requests,
)
from gpuvitals_sim.apiserver.json_types import Obj, clone, dig, timestamp
from gpuvitals_sim.apiserver.managed_fields.field_managers import track_write
from gpuvitals_sim.apiserver.request import Cluster, DeleteOptions, Target
from gpuvitals_sim.apiserver.selectors import labels_match
from gpuvitals_sim.apiserver.storage import Key
from gpuvitals_sim.apiserver.verbs.deleting import delete

SUCCESS: Obj = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}

_VIOLATION = "Cannot evict pod as it would violate the pod's disruption budget."
_BUDGETS = "poddisruptionbudgets.policy"


def evict(cluster: Cluster, target: Target, body: Obj, options: DeleteOptions) -> Obj:
    """A Success status; the pod is going. Raises ApiError 404, 429 if a budget forbids it, 500 for two budgets."""
    if dig(body, "metadata", "name") != target.name:
        raise bad_request("name in URL does not match name in Eviction object")
    with cluster.store.lock:
        pod = cluster.store.get(target.key)
        if pod is None:
            raise not_found("", "pods", target.name)
        if not _needs_no_budget(pod):
            _spend_budget(cluster, pod, dry_run=options.dry_run)
        if not options.dry_run:
            _check_uid(pod, options)
            marked = clone(pod)
            set_condition(
                marked,
                {
                    "type": "DisruptionTarget",
                    "status": "True",
                    "reason": "EvictionByEvictionAPI",
                    "message": "Eviction API: evicting",
                },
            )
            cluster.store.put(target.key, marked)
        delete(cluster, target, options)
    return SUCCESS


def bind(cluster: Cluster, target: Target, body: Obj, *, dry_run: bool) -> Obj:
    """Sets the pod's node; a Success status. Raises ApiError 404, 409 if it already has one."""
    node = dig(body, "target", "name")
    if dig(body, "metadata", "name") != target.name:
        raise bad_request("name in URL does not match name in Binding object")
    if not node:
        raise ApiError(500, "", "target.name: Required value", {})
    with cluster.store.lock:
        pod = cluster.store.get(target.key)
        if pod is None:
            raise not_found("", "pods", target.name)
        why = _unbindable(pod)
        if why:
            raise conflict("", "pods/binding", target.name, why)
        bound = clone(pod)
        bound["spec"]["nodeName"] = node
        bound.setdefault("status", {}).pop("nominatedNodeName", None)
        set_condition(bound, {"type": "PodScheduled", "status": "True"})
        if not dry_run:
            cluster.store.put(target.key, bound)
    return SUCCESS


def finalize_namespace(cluster: Cluster, target: Target, body: Obj) -> Obj:
    """The namespace with the finalizers of the body; a terminating one without finalizers is removed."""
    with cluster.store.lock:
        live = cluster.store.get(target.key)
        if live is None:
            raise not_found("", "namespaces", target.name)
        finalizers = dig(body, "spec", "finalizers") or []
        new = {**live, "spec": {"finalizers": finalizers} if finalizers else {}}
        going = "deletionTimestamp" in live["metadata"] and not finalizers
        if going and not live["metadata"].get("finalizers"):
            cluster.store.delete(target.key)
            return new
        return cluster.store.put(target.key, new)


def set_condition(obj: Obj, condition: Obj) -> None:
    """Sets a pod condition in `status.conditions`; its transition time changes only with its status."""
    conditions: list[Obj] = obj.setdefault("status", {}).setdefault("conditions", [])
    entry = {"type": condition["type"], "status": condition["status"], "lastProbeTime": None}
    entry |= {"lastTransitionTime": timestamp(), **condition}
    for place, old in enumerate(conditions):
        if old["type"] == entry["type"]:
            if old["status"] == entry["status"]:
                entry["lastTransitionTime"] = old.get("lastTransitionTime")
            conditions[place] = entry
            return
    conditions.append(entry)


def _needs_no_budget(pod: Obj) -> bool:
    phase = dig(pod, "status", "phase")
    return phase in ("Succeeded", "Failed", "Pending") or "deletionTimestamp" in pod["metadata"]


def _spend_budget(cluster: Cluster, pod: Obj, *, dry_run: bool) -> None:
    namespace = pod["metadata"]["namespace"]
    labels = pod["metadata"].get("labels") or {}
    budgets = [
        budget
        for key, budget in cluster.store.objects(_BUDGETS)
        if key.namespace == namespace and labels_match(dig(budget, "spec", "selector"), labels)
    ]
    if not budgets:
        return
    if len(budgets) > 1:
        text = (
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        )
        raise ApiError(500, "", text)
    budget = budgets[0]
    if not _is_ready(pod) and _ignores_unready(budget):
        return
    _check_budget(budget)
    if not dry_run:
        kind = cluster.catalogue.named(_BUDGETS)
        spent = track_write(kind, budget, _spent(budget, pod["metadata"]["name"]), "kube-apiserver", "status")
        cluster.store.put(Key(_BUDGETS, namespace, budget["metadata"]["name"]), spent)


def _spent(budget: Obj, pod_name: str) -> Obj:
    """The budget with one disruption less, and the pod in `disruptedPods` until the controller has seen its end."""
    spent = clone(budget)
    status = spent["status"]
    status["disruptionsAllowed"] -= 1
    status.setdefault("disruptedPods", {})[pod_name] = timestamp()
    if status["disruptionsAllowed"] == 0:
        set_disruption_allowed(status)
    return spent


def set_disruption_allowed(status: Obj) -> None:
    """Makes a budget's condition DisruptionAllowed agree with `disruptionsAllowed`."""
    allowed = status.get("disruptionsAllowed", 0) > 0
    entry = {
        "type": "DisruptionAllowed",
        "status": "True" if allowed else "False",
        "observedGeneration": status.get("observedGeneration", 0),
        "lastTransitionTime": timestamp(),
        "reason": "SufficientPods" if allowed else "InsufficientPods",
        "message": "",
    }
    conditions: list[Obj] = status.setdefault("conditions", [])
    for place, old in enumerate(conditions):
        if old.get("type") == entry["type"]:
            if old.get("status") == entry["status"]:
                entry["lastTransitionTime"] = old.get("lastTransitionTime")
            conditions[place] = entry
            return
    conditions.append(entry)


def _ignores_unready(budget: Obj) -> bool:
    if dig(budget, "spec", "unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    status = budget.get("status") or {}
    desired = status.get("desiredHealthy", 0)
    return bool(desired > 0 and status.get("currentHealthy", 0) >= desired)


def _check_budget(budget: Obj) -> None:
    name, status = budget["metadata"]["name"], budget.get("status") or {}
    if status.get("observedGeneration", 0) < budget["metadata"].get("generation", 0):
        text = f"The disruption budget {name} is still being processed by the server."
        raise too_many_requests(_VIOLATION, 10, [_budget_cause(text)])
    allowed = status.get("disruptionsAllowed", 0)
    if allowed < 0:
        raise forbidden("policy", "poddisruptionbudget", name, "pdb disruptions allowed is negative")
    if allowed == 0:
        raise too_many_requests(_VIOLATION, 0, [_budget_cause(_exhausted(name, status))])


def _exhausted(name: str, status: Obj) -> str:
    desired, current = status.get("desiredHealthy", 0), status.get("currentHealthy", 0)
    conditions = status.get("conditions") or []
    condition: Obj = next((entry for entry in conditions if entry.get("type") == "DisruptionAllowed"), {})
    failed = condition.get("status") == "False" and condition.get("message")
    text = f"The disruption budget {name} does not allow evicting pods currently"
    if failed and condition.get("reason") == "SyncFailed":
        return f"{text} because it failed sync: {condition['message']}"
    if current <= desired:
        return f"The disruption budget {name} needs {desired} healthy pods and has {current} currently"
    if failed:
        return f"{text} ({condition.get('reason')}): {condition['message']}"
    return text


def _budget_cause(text: str) -> Obj:
    return {"reason": "DisruptionBudget", "message": text}


def _is_ready(pod: Obj) -> bool:
    conditions = dig(pod, "status", "conditions") or []
    return any(entry.get("type") == "Ready" and entry.get("status") == "True" for entry in conditions)


def _check_uid(pod: Obj, options: DeleteOptions) -> None:
    uid = pod["metadata"]["uid"]
    if options.uid and options.uid != uid:
        why = (
            f"the UID in the precondition ({options.uid}) does not match the UID in record ({uid}). "
            "The object might have been deleted and then recreated"
        )
        raise conflict("", "Pod", pod["metadata"]["name"], why)


def _unbindable(pod: Obj) -> str:
    name = pod["metadata"]["name"]
    if "deletionTimestamp" in pod["metadata"]:
        return f"pod {name} is being deleted, cannot be assigned to a host"
    if pod["spec"].get("nodeName"):
        return f'pod {name} is already assigned to node "{pod["spec"]["nodeName"]}"'
    if pod["spec"].get("schedulingGates"):
        return f"pod {name} has non-empty .spec.schedulingGates"
    return ""
