"""Deletes one object or a selection: preconditions, grace period, finalizers, removal.

Place in the chain: called by the HTTP side, eviction and `InProcessClient`. Dependents of a deleted object are
removed by the garbage collector of `gpuvitals_sim.controllers`, as in a real cluster.
Source: kubernetes/apiserver pkg/registry/rest/delete.go and pkg/registry/generic/registry/store.go.
"""

from datetime import UTC, datetime, timedelta

from gpuvitals_sim.apiserver.errors import conflict, forbidden, invalid, not_found, not_supported
from gpuvitals_sim.apiserver.json_types import Obj, clone, parse_time, same, timestamp
from gpuvitals_sim.apiserver.kinds import Kind
from gpuvitals_sim.apiserver.request import Cluster, DeleteOptions, ListOptions, Target, served
from gpuvitals_sim.apiserver.strategy.metadata import FOREGROUND, ORPHAN
from gpuvitals_sim.apiserver.strategy.table import rules_for
from gpuvitals_sim.apiserver.verbs.reading import list_objects

_IMMORTAL = ("default", "kube-public", "kube-system")
_PROPAGATIONS = ("Foreground", "Background", "Orphan")


def delete(cluster: Cluster, target: Target, options: DeleteOptions) -> tuple[Obj, bool]:
    """The answer of DELETE, and whether the object is removed. Raises ApiError 404, 409 for a precondition, 422."""
    kind = target.kind
    _check_options(options)
    with cluster.store.lock:
        live = cluster.store.get(target.key)
        if live is None:
            raise not_found(kind.group, kind.plural, target.name)
        _check_preconditions(kind, live, options)
        if kind.store_id == "namespaces":
            return _delete_namespace(cluster, target, live, options)
        new, graceful, pending = _with_grace(kind, live, options)
        if pending:
            return served(kind, live), False
        _set_finalizers(kind, new["metadata"], options)
        held = bool(new["metadata"].get("finalizers"))
        seconds = new["metadata"].get("deletionGracePeriodSeconds", 0) if graceful else 0
        if held and not graceful:
            _mark_deleting(new["metadata"])
        if not options.dry_run and (graceful or held) and not same(new, live):
            new = cluster.store.put(target.key, new)
        if held or seconds > 0:
            return served(kind, new), False
        if not options.dry_run:
            new = cluster.store.delete(target.key)
        return _answer(kind, new), True


def delete_collection(
    cluster: Cluster, target: Target, selection: ListOptions, options: DeleteOptions
) -> tuple[Obj, list[Obj]]:
    """The list as it was, and the objects whose deletion was requested; each is deleted as by `delete`."""
    chosen = list_objects(cluster, target, selection)
    for item in chosen["items"]:
        metadata = item["metadata"]
        one = Target(kind=target.kind, namespace=metadata.get("namespace", ""), name=metadata["name"])
        if cluster.store.get(one.key) is not None:
            delete(cluster, one, options)
    return chosen, chosen["items"]


def _answer(kind: Kind, gone: Obj) -> Obj:
    if kind.returns_deleted:
        return served(kind, gone)
    metadata = gone["metadata"]
    details: Obj = {
        "name": metadata["name"],
        "group": kind.group,
        "kind": kind.plural,
        "uid": metadata["uid"],
    }
    if not kind.group:
        del details["group"]
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def _check_options(options: DeleteOptions) -> None:
    if options.propagation and options.propagation not in _PROPAGATIONS:
        error = not_supported("propagationPolicy", options.propagation, (*_PROPAGATIONS, "nil"))
        raise invalid("meta.k8s.io", "DeleteOptions", "", [error])


def _check_preconditions(kind: Kind, live: Obj, options: DeleteOptions) -> None:
    metadata = live["metadata"]
    if options.uid and options.uid != metadata["uid"]:
        why = (
            f"the UID in the precondition ({options.uid}) does not match the UID in record ({metadata['uid']}). "
            "The object might have been deleted and then recreated"
        )
        raise conflict(kind.group, kind.name, metadata["name"], why)
    version = metadata["resourceVersion"]
    if options.resource_version and options.resource_version != version:
        why = (
            f"the ResourceVersion in the precondition ({options.resource_version}) does not match the "
            f"ResourceVersion in record ({version}). The object might have been modified"
        )
        raise conflict(kind.group, kind.name, metadata["name"], why)


def _with_grace(kind: Kind, live: Obj, options: DeleteOptions) -> tuple[Obj, bool, bool]:
    """The object with its grace period; whether it has one; whether its deletion is already pending."""
    new = clone(live)
    metadata = new["metadata"]
    requested = options.grace_seconds
    if requested is not None and requested < 0:
        requested = 1
    seconds = rules_for(kind).grace_seconds(live, requested)
    if seconds is None:
        return new, False, False
    if "deletionTimestamp" not in metadata:
        metadata["deletionTimestamp"] = timestamp(datetime.now(UTC) + timedelta(seconds=seconds))
        metadata["deletionGracePeriodSeconds"] = seconds
        _next_generation(metadata)
        return new, True, False
    left = metadata.get("deletionGracePeriodSeconds") or 0
    if left == 0:
        return new, False, False
    if requested is None or requested >= left:
        return new, False, True
    begun = parse_time(metadata["deletionTimestamp"]) - timedelta(seconds=left)
    end = begun + timedelta(seconds=requested)
    now = datetime.now(UTC)
    if end < now:
        end, requested = now, 1 if requested else 0
    metadata["deletionTimestamp"] = timestamp(end)
    metadata["deletionGracePeriodSeconds"] = requested
    return new, True, False


def _set_finalizers(kind: Kind, metadata: Obj, options: DeleteOptions) -> None:
    old = list(metadata.get("finalizers") or [])
    orphan = options.propagation == "Orphan"
    foreground = options.propagation == "Foreground"
    if not options.propagation:
        orphan = ORPHAN in old or (kind.orphans_by_default and FOREGROUND not in old)
        foreground = FOREGROUND in old and not orphan
    kept = [name for name in old if name not in (ORPHAN, FOREGROUND)]
    new = kept + [ORPHAN] * orphan + [FOREGROUND] * foreground
    if set(new) != set(old):
        metadata["finalizers"] = new
        if not new:
            del metadata["finalizers"]


def _mark_deleting(metadata: Obj) -> None:
    if "deletionTimestamp" not in metadata:
        _next_generation(metadata)
        metadata["deletionTimestamp"] = timestamp()
    metadata["deletionGracePeriodSeconds"] = 0


def _next_generation(metadata: Obj) -> None:
    if metadata.get("generation"):
        metadata["generation"] += 1


def _delete_namespace(
    cluster: Cluster, target: Target, live: Obj, options: DeleteOptions
) -> tuple[Obj, bool]:
    if target.name in _IMMORTAL:
        raise forbidden("", "namespaces", target.name, "this namespace may not be deleted")
    new = clone(live)
    if "deletionTimestamp" not in new["metadata"]:
        new["metadata"]["deletionTimestamp"] = timestamp()
        new["status"] = {**new.get("status", {}), "phase": "Terminating"}
        if not options.dry_run:
            new = cluster.store.put(target.key, new)
    if new["spec"].get("finalizers") or new["metadata"].get("finalizers"):
        return new, False
    if not options.dry_run:
        cluster.store.delete(target.key)
    return new, True
