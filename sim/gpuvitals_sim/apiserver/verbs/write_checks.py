"""Checks of a write: identity, version, namespace, selectors, and whether it changes anything.

Place in the chain: the steps of `writing.py` that refuse a write or make it unnecessary.
Source: kubernetes/apiserver pkg/registry/rest/update.go and pkg/registry/generic/registry/store.go.
"""

from gpuvitals_sim.apiserver.errors import (
    ApiError,
    FieldError,
    bad_request,
    forbidden,
    invalid,
    invalid_value,
    not_found,
    stale,
)
from gpuvitals_sim.apiserver.json_types import Obj, dig, same
from gpuvitals_sim.apiserver.kinds import Kind
from gpuvitals_sim.apiserver.managed_fields.field_managers import same_owners
from gpuvitals_sim.apiserver.request import Cluster, Target
from gpuvitals_sim.apiserver.storage import Key
from gpuvitals_sim.apiserver.strategy.claims import ADMIN_LABEL, admin_access_errors, cel_errors

_WITH_SELECTORS = frozenset(
    f"{plural}.resource.k8s.io" for plural in ("resourceclaims", "resourceclaimtemplates", "deviceclasses")
)


def check_identity(target: Target, new: Obj) -> None:
    """Raises ApiError 400 if name or namespace are not those of the request."""
    metadata = new["metadata"]
    if metadata.get("name") != target.name:
        raise bad_request(name_mismatch(metadata.get("name", ""), target.name))
    check_namespace(target, new)


def check_namespace(target: Target, obj: Obj) -> None:
    """Fills the namespace of the request in. Raises ApiError 400 if the object has another one."""
    metadata = obj["metadata"]
    if target.kind.namespaced:
        if metadata.get("namespace") not in (None, "", target.namespace):
            raise bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        metadata["namespace"] = target.namespace


def check_version(target: Target, new: Obj, live: Obj) -> None:
    """Fills the current resourceVersion in. Raises ApiError 409 for a stale one, 422 if the kind requires one."""
    kind, metadata = target.kind, new["metadata"]
    wanted = metadata.get("resourceVersion") or "0"
    current = live["metadata"]["resourceVersion"]
    if not wanted.isdigit():
        raise ApiError(500, "", f'strconv.ParseUint: parsing "{wanted}": invalid syntax')
    if int(wanted):
        if wanted != current:
            raise stale(kind.group, kind.plural, target.name)
    elif not kind.unconditional_update:
        error = invalid_value("metadata.resourceVersion", 0, "must be specified for an update")
        raise invalid(kind.group, kind.plural, target.name, [error])
    metadata["resourceVersion"] = current


def require_namespace(cluster: Cluster, target: Target, name: str) -> None:
    """Raises ApiError 404 if the namespace does not exist, 403 if it is being deleted."""
    namespace = cluster.store.get(Key("namespaces", "", target.namespace))
    if namespace is None:
        raise not_found("", "namespaces", target.namespace)
    if "deletionTimestamp" in namespace["metadata"]:
        raise _terminating(target, name)


def is_unchanged(new: Obj, live: Obj) -> bool:
    """Whether a write would store the same object, times of field managers aside."""
    left, right = {**new, "metadata": {**new["metadata"]}}, {**live, "metadata": {**live["metadata"]}}
    owners = left["metadata"].pop("managedFields", []), right["metadata"].pop("managedFields", [])
    return same(left, right) and same_owners(*owners)


def is_finalized(new: Obj, live: Obj) -> bool:
    """Whether the write removes the last finalizer of an object that is being deleted."""
    metadata = live["metadata"]
    return (
        not new["metadata"].get("finalizers")
        and "deletionTimestamp" in metadata
        and not metadata.get("deletionGracePeriodSeconds")
    )


def selector_errors(cluster: Cluster, kind: Kind, new: Obj, old: Obj | None) -> list[FieldError]:
    """Errors of the CEL selectors of a claim, template or class; an update checks those of classes only."""
    if cluster.cel_checker is None or kind.store_id not in _WITH_SELECTORS:
        return []
    if old is not None and kind.store_id != "deviceclasses.resource.k8s.io":
        return []
    return cel_errors(kind.store_id, new, old, cluster.cel_checker)


def admin_errors(cluster: Cluster, target: Target, obj: Obj) -> list[FieldError]:
    """Errors of requests for admin access in a namespace that no administrator has labelled for it."""
    if target.kind.store_id not in _WITH_SELECTORS or not target.namespace:
        return []
    namespace = cluster.store.get(Key("namespaces", "", target.namespace))
    labels = dig(namespace, "metadata", "labels") or {}
    return [] if labels.get(ADMIN_LABEL) == "true" else admin_access_errors(target.kind.store_id, obj)


def storage_path(target: Target) -> str:
    """The key of the object in etcd, as some refusals show it."""
    kind = target.kind
    plural = {"nodes": "minions"}.get(kind.store_id, kind.plural)
    group = f"{kind.group}/" if kind.custom or kind.group == "apiextensions.k8s.io" else ""
    parts = [part for part in (target.namespace, target.name) if part]
    return f"/registry/{group}{plural}/" + "/".join(parts)


def name_mismatch(name: str, wanted: str) -> str:
    """The refusal of a body whose name is not the one in the URL."""
    if not name:
        return f"the name of the object ({wanted} based on URL) was undeterminable: name must be provided"
    return f"the name of the object ({name}) does not match the name on the URL ({wanted})"


def _terminating(target: Target, name: str) -> ApiError:
    kind = target.kind
    text = f"unable to create new content in namespace {target.namespace} because it is being terminated"
    cause = {"reason": "NamespaceTerminating", "message": f"namespace {target.namespace} is being terminated"}
    refusal = forbidden(kind.group, kind.plural, name, text)
    refusal.details = {**(refusal.details or {}), "causes": [{**cause, "field": "metadata.namespace"}]}
    return refusal
