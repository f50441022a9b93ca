"""The rules of nodes, namespaces, events, secrets and leases.

Place in the chain: `table.py` lists them. Source: kubernetes/kubernetes pkg/registry/core, plugin/pkg/admission.
"""

from gpuvitals.sim.apiserver.errors import FieldError, forbidden_field, invalid_value, not_supported
from gpuvitals.sim.apiserver.jsontypes import Obj, dig
from gpuvitals.sim.apiserver.strategy.names import label_complaints, path_segment_complaints
from gpuvitals.sim.apiserver.strategy.rules import Rules

NOT_READY: Obj = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
_NAME_LABEL = "kubernetes.io/metadata.name"
_TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def _default_node(node: Obj) -> None:
    node.setdefault("spec", {})
    status = node.setdefault("status", {})
    status.setdefault("daemonEndpoints", {"kubeletEndpoint": {"Port": 0}})
    names = (
        "machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion",
        "kubeProxyVersion", "operatingSystem", "architecture",
    )  # fmt: skip
    for condition in status.get("conditions") or ():
        for name in ("lastHeartbeatTime", "lastTransitionTime"):
            condition.setdefault(name, None)
    info = status.setdefault("nodeInfo", {})
    for name in names:
        info.setdefault(name, "")


def _prepare_node(node: Obj) -> None:
    """A new node is not ready until its kubelet says so (admission plugin TaintNodesByCondition)."""
    taints = node["spec"].setdefault("taints", [])
    if not any(taint.get("key") == NOT_READY["key"] for taint in taints):
        taints.append(dict(NOT_READY))


def _node_errors(node: Obj) -> list[FieldError]:
    return [
        not_supported(f"metadata.taints[{place}].effect", taint.get("effect"), _TAINT_EFFECTS)
        for place, taint in enumerate(dig(node, "spec", "taints") or ())
        if taint.get("effect") not in _TAINT_EFFECTS
    ]


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
    """A namespace holds back its own end until its content is gone; a generated name becomes its label."""
    namespace["metadata"].setdefault("labels", {})[_NAME_LABEL] = namespace["metadata"].get("name", "")
    namespace["spec"] = {"finalizers": ["kubernetes"]}
    namespace["status"] = {"phase": "Active"}


def _prepare_namespace_update(new: Obj, old: Obj, subresource: str) -> None:
    if subresource != "finalize":
        new["spec"] = old["spec"]


def _default_event(event: Obj) -> None:
    event.setdefault("source", {})
    event.setdefault("reportingComponent", "")
    event.setdefault("reportingInstance", "")
    for name in ("firstTimestamp", "lastTimestamp", "eventTime"):
        event.setdefault(name, None)


def _event_errors(event: Obj) -> list[FieldError]:
    namespace, about = event["metadata"].get("namespace"), event.get("involvedObject") or {}
    expected = about.get("namespace") or "default"
    if namespace == expected or (not about.get("namespace") and namespace in ("default", "kube-system")):
        return []
    return [
        invalid_value(
            "involvedObject.namespace", about.get("namespace", ""), "does not match event.namespace"
        )
    ]


def _default_secret(secret: Obj) -> None:
    secret.setdefault("type", "Opaque")


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
EVENT_RULES = Rules(
    default=_default_event, validate_create=_event_errors, name_complaints=path_segment_complaints
)
SECRET_RULES = Rules(default=_default_secret)
LEASE_RULES = Rules(
    validate_create=_lease_errors, validate_update=lambda new, _old, _subresource: _lease_errors(new)
)
