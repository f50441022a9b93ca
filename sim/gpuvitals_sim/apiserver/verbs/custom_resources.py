"""Serves the kinds of CustomResourceDefinitions, until the definition is deleted.

Place in the chain: called after every write to a definition. It sets the conditions that clients wait for
(NamesAccepted, Established) and registers one kind per served version. Versions share one stored object;
conversion changes only `apiVersion` (strategy None).
"""

from collections.abc import Iterator

from gpuvitals_sim.apiserver.json_types import Obj, clone, timestamp
from gpuvitals_sim.apiserver.kinds import Kind
from gpuvitals_sim.apiserver.managed_fields.field_managers import track_write
from gpuvitals_sim.apiserver.request import Cluster
from gpuvitals_sim.apiserver.storage import Key

CRD_STORE = "customresourcedefinitions.apiextensions.k8s.io"


def settle(cluster: Cluster, name: str) -> None:
    """Serves exactly the versions of the stored definition of this name."""
    with cluster.store.lock:
        key = Key(CRD_STORE, "", name)
        definition = cluster.store.get(key)
        if definition is None:
            cluster.catalogue.replace_custom(name, ())
            for instance, _ in cluster.store.objects(name):
                cluster.store.delete(instance)
            return
        if not definition.get("status", {}).get("conditions"):
            kind = cluster.catalogue.named(CRD_STORE)
            new = track_write(kind, definition, _established(definition), "kube-apiserver", "status")
            definition = cluster.store.put(key, new)
        cluster.catalogue.replace_custom(name, _kinds(definition))


def _established(definition: Obj) -> Obj:
    new = clone(definition)
    spec = new["spec"]
    accepted = [
        {"type": "NamesAccepted", "reason": "NoConflicts", "message": "no conflicts found"},
        {
            "type": "Established",
            "reason": "InitialNamesAccepted",
            "message": "the initial names have been accepted",
        },
    ]
    new["status"] = {
        "conditions": [{"status": "True", "lastTransitionTime": timestamp(), **entry} for entry in accepted],
        "acceptedNames": spec["names"],
        "storedVersions": [version["name"] for version in spec["versions"] if version.get("storage")],
    }
    return new


def _kinds(definition: Obj) -> Iterator[Kind]:
    spec = definition["spec"]
    names = spec["names"]
    for version in spec["versions"]:
        if not version.get("served"):
            continue
        yield Kind(
            group=spec["group"],
            version=version["name"],
            plural=names["plural"],
            name=names["kind"],
            singular=names.get("singular", ""),
            list_name=names.get("listKind", ""),
            short_names=tuple(names.get("shortNames") or ()),
            categories=tuple(names.get("categories") or ()),
            namespaced=spec.get("scope") == "Namespaced",
            status="status" in (version.get("subresources") or {}),
            generation=True,
            status_keeps_metadata=True,
            unconditional_update=False,
            fields=tuple(entry["jsonPath"].lstrip(".") for entry in version.get("selectableFields") or ()),
            custom=True,
            schema=(version.get("schema") or {}).get("openAPIV3Schema") or {},
            columns=tuple(version.get("additionalPrinterColumns") or ()),
        )
