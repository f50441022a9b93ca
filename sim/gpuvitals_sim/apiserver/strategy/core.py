"""The rules of nodes, namespaces, secrets and leases.

Place in the chain: `table.py` lists them. Source: kubernetes/kubernetes pkg/registry/core, plugin/pkg/admission.
"""

from gpuvitals_sim.apiserver.errors import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)
from gpuvitals_sim.apiserver.json_types import Obj, dig
from gpuvitals_sim.apiserver.merge_schema import NODE_INFO
from gpuvitals_sim.apiserver.strategy.fields import items_errors, label_key_errors, label_text_errors
from gpuvitals_sim.apiserver.strategy.names import label_complaints
from gpuvitals_sim.apiserver.strategy.rules import Rules

NOT_READY: Obj = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
_NAME_LABEL = "kubernetes.io/metadata.name"
_TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def _default_node(node: Obj) -> None:
    node.setdefault("spec", {})
    status = node.setdefault("status", {})
    status.setdefault("daemonEndpoints", {"kubeletEndpoint": {"Port": 0}})
    for condition in status.get("conditions") or ():
        for name in ("lastHeartbeatTime", "lastTransitionTime"):
            condition.setdefault(name, None)
    info = status.setdefault("nodeInfo", {})
    for name in NODE_INFO:
        info.setdefault(name, "")


def _prepare_node(node: Obj) -> None:
    """Taints a new node as not ready until its kubelet reports Ready (admission plugin TaintNodesByCondition)."""
    taints = node["spec"].setdefault("taints", [])
    if not any(taint.get("key") == NOT_READY["key"] for taint in taints):
        taints.append(dict(NOT_READY))


def _node_errors(node: Obj) -> list[FieldError]:
    taints = dig(node, "spec", "taints") or []
    errors = items_errors(taints, "metadata.taints", _node_taint_errors)
    seen: set[tuple[str, str]] = set()
    for place, taint in enumerate(taints):
        pair = taint.get("key") or "", taint.get("effect") or ""
        if pair in seen:
            shown = {"Key": pair[0], "Value": taint.get("value") or "", "Effect": pair[1]}
            shown["TimeAdded"] = taint.get("timeAdded")
            text = "taints must be unique by key and effect pair"
            errors.append(duplicate(f"metadata.taints[{place}]", shown, text))
        seen.add(pair)
    return errors


def _node_taint_errors(taint: Obj, path: str) -> list[FieldError]:
    errors = label_key_errors(taint.get("key") or "", f"{path}.key")
    errors += label_text_errors(taint.get("value") or "", f"{path}.value")
    effect = taint.get("effect") or ""
    if not effect:
        errors.append(required(f"{path}.effect"))
    elif effect not in _TAINT_EFFECTS:
        errors.append(not_supported(f"{path}.effect", effect, _TAINT_EFFECTS))
    return errors


def _node_update_errors(new: Obj, old: Obj, subresource: str) -> list[FieldError]:
    if subresource:
        return []
    errors = _node_errors(new)
    for name in ("podCIDR", "providerID"):
        before = dig(old, "spec", name)
        if before and dig(new, "spec", name) != before:
            text = f"node updates may only change labels, taints, or capacity (or configSource): spec.{name}"
            errors.append(forbidden_field("spec", text))
    return errors


def _default_namespace(namespace: Obj) -> None:
    metadata = namespace["metadata"]
    if metadata.get("name"):
        metadata.setdefault("labels", {})[_NAME_LABEL] = metadata["name"]
    namespace.setdefault("spec", {})
    namespace.setdefault("status", {}).setdefault("phase", "Active")


def _prepare_namespace(namespace: Obj) -> None:
    """Adds the finalizer that keeps a namespace until it is empty, and the label with its name."""
    namespace["metadata"].setdefault("labels", {})[_NAME_LABEL] = namespace["metadata"].get("name", "")
    namespace["spec"] = {"finalizers": ["kubernetes"]}
    namespace["status"] = {"phase": "Active"}


def _prepare_namespace_update(new: Obj, old: Obj, subresource: str) -> None:
    if subresource != "finalize":
        new["spec"] = old["spec"]


def _default_secret(secret: Obj) -> None:
    secret.setdefault("type", "Opaque")


def _default_lease(lease: Obj) -> None:
    lease.setdefault("spec", {})


def _lease_errors(lease: Obj) -> list[FieldError]:
    return [
        invalid_value(f"spec.{name}", dig(lease, "spec", name), text)
        for name, lowest, text in (
            ("leaseDurationSeconds", 1, "must be greater than 0"),
            ("leaseTransitions", 0, "must be greater than or equal to 0"),
        )
        if dig(lease, "spec", name) is not None and dig(lease, "spec", name) < lowest
    ]


NODE_RULES = Rules(
    default=_default_node,
    prepare_create=_prepare_node,
    validate_create=_node_errors,
    validate_update=_node_update_errors,
    keeps_status_on_create=True,
)
NAMESPACE_RULES = Rules(
    default=_default_namespace,
    prepare_create=_prepare_namespace,
    prepare_update=_prepare_namespace_update,
    name_complaints=label_complaints,
)
SECRET_RULES = Rules(default=_default_secret)
LEASE_RULES = Rules(
    default=_default_lease,
    validate_create=_lease_errors,
    validate_update=lambda new, _old, _subresource: _lease_errors(new),
)
