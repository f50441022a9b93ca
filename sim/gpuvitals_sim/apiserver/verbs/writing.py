"""Create, update and patch: one pipeline from a request to a stored object.

Place in the chain: called by the HTTP side and `InProcessClient`. Steps, all under the store's lock: make the new
object from the old one -> check name, version and UID -> restore the fields of the server -> apply the kind's rules ->
compute the owners of fields -> store, unless nothing changed.
Source: kubernetes/apiserver pkg/registry/generic/registry/store.go and pkg/endpoints/handlers.
"""

import json
from collections.abc import Callable

from gpuvitals_sim.apiserver.errors import (
    ApiError,
    already_exists,
    bad_request,
    conflict,
    invalid,
    not_found,
    required,
    unsupported_media_type,
)
from gpuvitals_sim.apiserver.json_types import Obj, clone, dig, go_text, objects_at, same
from gpuvitals_sim.apiserver.kinds import Kind
from gpuvitals_sim.apiserver.managed_fields.field_managers import apply_owned, track_write
from gpuvitals_sim.apiserver.merge_schema import merge_schema_of
from gpuvitals_sim.apiserver.patching.json_patch import apply_json_patch
from gpuvitals_sim.apiserver.patching.merge_patch import apply_merge_patch
from gpuvitals_sim.apiserver.patching.strategic import apply_strategic_patch
from gpuvitals_sim.apiserver.request import (
    APPLY_PATCH,
    JSON_PATCH,
    MERGE_PATCH,
    STRATEGIC_PATCH,
    Cluster,
    Target,
    WriteOptions,
    served,
    stored,
)
from gpuvitals_sim.apiserver.storage import Key
from gpuvitals_sim.apiserver.strategy.metadata import (
    fill_system_fields,
    keep_for_status,
    keep_system_fields,
    merge_owners,
    metadata_errors,
    metadata_update_errors,
)
from gpuvitals_sim.apiserver.strategy.table import rules_for
from gpuvitals_sim.apiserver.verbs.decoding import check_typed, decoded, decoded_patch
from gpuvitals_sim.apiserver.verbs.write_checks import (
    admin_errors,
    check_identity,
    check_namespace,
    check_version,
    is_finalized,
    is_unchanged,
    name_mismatch,
    require_namespace,
    selector_errors,
    storage_path,
)

Make = Callable[[Obj | None], Obj]


def patch_types(kind: Kind) -> tuple[str, ...]:
    """The patch content types a kind accepts, in the order the real server lists them."""
    if kind.custom:
        return (JSON_PATCH, MERGE_PATCH, APPLY_PATCH)
    return (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)


def create(cluster: Cluster, target: Target, body: Obj, options: WriteOptions) -> Obj:
    """The created object. Raises ApiError: 404 namespace, 409 exists, 422 invalid."""
    kind = target.kind
    obj = decoded(kind, body, options)
    check_namespace(target, obj)
    if target.name and obj["metadata"].get("name") not in (None, target.name):
        raise bad_request(name_mismatch(obj["metadata"].get("name"), target.name))
    with cluster.store.lock:
        if obj["metadata"].pop("resourceVersion", None) and not options.dry_run:
            # The real server detects this only in its storage layer.
            raise ApiError(500, "", "resourceVersion should not be set on objects to be created")
        return _create(cluster, target, obj, options)


def update(cluster: Cluster, target: Target, body: Obj, options: WriteOptions) -> tuple[Obj, bool]:
    """The stored object, and whether it was created. Raises ApiError: 404, 409 stale or other uid, 422."""
    new = decoded(target.kind, body, options)
    metadata = new["metadata"]
    if metadata.get("name", "") != target.name:
        raise bad_request(name_mismatch(metadata.get("name", ""), target.name))
    check_namespace(target, new)

    def make(live: Obj | None) -> Obj:
        wanted_uid = metadata.get("uid")
        if live is not None and wanted_uid and wanted_uid != live["metadata"]["uid"]:
            why = (
                f"StorageError: invalid object, Code: 4, Key: {storage_path(target)}, ResourceVersion: 0, "
                f"AdditionalErrorMsg: Precondition failed: UID in precondition: {wanted_uid}, "
                f"UID in object meta: {live['metadata']['uid']}"
            )
            raise conflict(target.kind.group, target.kind.plural, target.name, why)
        return track_write(target.kind, live, clone(new), options.manager, target.subresource)

    return _guarded(cluster, target, make, options, creates=target.kind.create_on_update)


def patch(
    cluster: Cluster, target: Target, patch_type: str, body: object, options: WriteOptions
) -> tuple[Obj, bool]:
    """The stored object, and whether an apply created it. Raises ApiError: 400, 404, 409, 415, 422."""
    if patch_type not in patch_types(target.kind):
        known = patch_type == STRATEGIC_PATCH
        raise unsupported_media_type(patch_types(target.kind) if known else ())
    if patch_type == APPLY_PATCH:
        return _guarded(
            cluster, target, lambda live: _applied(target, live, body, options), options, creates=True
        )

    def make(live: Obj | None) -> Obj:
        assert live is not None  # a patch creates nothing
        patched = _patched(target.kind, live, patch_type, body)
        new = decoded_patch(target.kind, patched, options, shown=_shown(patch_type, patched, body))
        return track_write(target.kind, live, new, options.manager, target.subresource)

    return _guarded(cluster, target, make, options)


def _patched(kind: Kind, live: Obj, patch_type: str, body: object) -> Obj:
    if patch_type == JSON_PATCH:
        result = apply_json_patch(live, body)
    elif patch_type == MERGE_PATCH:
        result = apply_merge_patch(live, body)
    else:
        result = apply_strategic_patch(live, body, merge_schema_of(kind))
    if not isinstance(result, dict):
        raise bad_request("error decoding patch: the patched document is no object")
    return result


def _shown(patch_type: str, patched: Obj, body: object) -> str:
    """The text in a refusal: a strategic patch itself, for other patches the patched object."""
    return go_text(body) if patch_type == STRATEGIC_PATCH else json.dumps(patched, separators=(",", ":"))


def _applied(target: Target, live: Obj | None, body: object, options: WriteOptions) -> Obj:
    if not options.field_manager:
        raise invalid(
            "meta.k8s.io", "PatchOptions", "", [required("fieldManager", "is required for apply patch")]
        )
    if not isinstance(body, dict):
        raise bad_request("error decoding patch: expected an object")
    check_typed(target.kind, body)
    new = apply_owned(target, live, body, options)
    if live is None and dig(new, "metadata", "uid"):
        uid = new["metadata"]["uid"]
        why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        raise conflict(target.kind.group, target.kind.plural, target.name, why)
    return decoded(target.kind, new)


def _guarded(
    cluster: Cluster, target: Target, make: Make, options: WriteOptions, *, creates: bool = False
) -> tuple[Obj, bool]:
    """Reads, makes, checks and stores under one lock; with `creates` a missing object is created."""
    kind = target.kind
    with cluster.store.lock:
        found = cluster.store.get(target.key)
        live = served(kind, found) if found is not None else None
        if live is None:
            if target.subresource or not creates:
                raise not_found(kind.group, kind.plural, target.name)
            return _create_on_update(cluster, target, make, options), True
        new = make(live)
        check_identity(target, new)
        check_version(target, new, live)
        _prepare_update(cluster, target, new, live)
        if is_unchanged(new, live):
            return live, False
        if is_finalized(new, live):
            return _finish_deletion(cluster, target, new, options), False
        if options.dry_run:
            return new, False
        return served(kind, cluster.store.put(target.key, stored(kind, new))), False


def _create_on_update(cluster: Cluster, target: Target, make: Make, options: WriteOptions) -> Obj:
    new = make(None)
    check_identity(target, new)
    new["metadata"].pop("resourceVersion", None)
    return _create(cluster, target, new, options)


def _create(cluster: Cluster, target: Target, obj: Obj, options: WriteOptions) -> Obj:
    kind, rules = target.kind, rules_for(target.kind)
    metadata = obj["metadata"]
    metadata.pop("generation", None)
    if kind.status and not rules.keeps_status_on_create:
        obj.pop("status", None)
        if not kind.custom:
            obj["status"] = {}
    if not dig(obj, "metadata", "managedFields"):
        obj = track_write(kind, None, obj, options.manager, "")
        metadata = obj["metadata"]
    if kind.namespaced:
        metadata["namespace"] = target.namespace
        require_namespace(cluster, target, metadata.get("name") or "")
    fill_system_fields(metadata)
    merge_owners(metadata)
    if kind.generation:
        metadata["generation"] = 1
    rules.prepare_create(obj)
    _drop(cluster, kind, obj)
    errors = [*metadata_errors(kind, rules, metadata), *rules.validate_create(obj)]
    errors += selector_errors(cluster, kind, obj, None) + admin_errors(cluster, target, obj)
    if errors:
        raise invalid(kind.stored_group, kind.name, metadata.get("name", ""), errors)
    key = Key(kind.store_id, target.namespace, metadata["name"])
    if cluster.store.get(key) is not None:
        raise already_exists(kind.group, kind.plural, metadata["name"])
    if options.dry_run:
        return obj
    return served(kind, cluster.store.put(key, stored(kind, obj)))


def _prepare_update(cluster: Cluster, target: Target, new: Obj, live: Obj) -> None:
    kind, rules, subresource = target.kind, rules_for(target.kind), target.subresource
    keep_system_fields(new["metadata"], live["metadata"])
    merge_owners(new["metadata"])
    if subresource == "status":
        for key in [*new, *live]:
            if key not in ("metadata", "status", "apiVersion", "kind"):
                _carry(new, live, key)
        if kind.status_keeps_metadata:
            keep_for_status(new["metadata"], live["metadata"])
    elif kind.status:
        _carry(new, live, "status")
    rules.prepare_update(new, live, subresource)
    _drop(cluster, kind, new)
    if kind.generation and not same(_spec_of(kind, new), _spec_of(kind, live)):
        new["metadata"]["generation"] = live["metadata"].get("generation", 0) + 1
    errors = [
        *metadata_errors(kind, rules, new["metadata"]),
        *metadata_update_errors(new["metadata"], live["metadata"]),
        *rules.validate_update(new, live, subresource),
        *selector_errors(cluster, kind, new, live),
    ]
    if errors:
        raise invalid(kind.stored_group, kind.name, target.name, errors)


def _finish_deletion(cluster: Cluster, target: Target, new: Obj, options: WriteOptions) -> Obj:
    if not options.dry_run:
        cluster.store.delete(target.key)
    return new


def _drop(cluster: Cluster, kind: Kind, obj: Obj) -> None:
    for path in cluster.dropped.get(kind.store_id, ()):
        for parent, key in list(objects_at(obj, path)):
            del parent[key]


def _carry(new: Obj, live: Obj, key: str) -> None:
    if key in live:
        new[key] = live[key]
    else:
        new.pop(key, None)


def _spec_of(kind: Kind, obj: Obj) -> Obj:
    hidden = {"metadata", "apiVersion", "kind"} | ({"status"} if kind.status else set())
    return {key: value for key, value in obj.items() if key not in hidden}
