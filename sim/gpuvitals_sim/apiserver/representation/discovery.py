"""Discovery of the served groups, versions and resources, in the unaggregated and the aggregated form.

Place in the chain: kubectl and clients resolve names such as `pods` or `po` with it.
"""

from gpuvitals_sim.apiserver.errors import no_such_page
from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.apiserver.kinds import Catalogue, Kind

_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
_SUBRESOURCE_KINDS = {
    "eviction": ("policy", "v1", "Eviction"),
    "binding": ("", "v1", "Binding"),
    "finalize": ("", "v1", "Namespace"),
}


def core_versions() -> Obj:
    """`/api`."""
    addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1"}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}


def groups(catalogue: Catalogue) -> Obj:
    """`/apis`."""
    items = [_group(name, versions) for name, versions in _groups(catalogue).items()]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": items}


def group_document(catalogue: Catalogue, name: str) -> Obj:
    """`/apis/<group>`. Raises ApiError 404."""
    found = _groups(catalogue).get(name)
    if not found:
        raise no_such_page()
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, found)}


def resource_list(catalogue: Catalogue, group: str, version: str) -> Obj:
    """`/api/v1` or `/apis/<group>/<version>`. Raises ApiError 404."""
    kinds = _kinds(catalogue, group, version)
    if not kinds:
        raise no_such_page()
    resources: list[Obj] = []
    for kind in kinds:
        resources.append(_resource(kind))
        resources += [_subresource(kind, name) for name in _subresources(kind)]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": kinds[0].api_version,
        "resources": resources,
    }


def aggregated(catalogue: Catalogue, *, core: bool) -> Obj:
    """`/api` or `/apis` in one document with all resources (apidiscovery.k8s.io/v2)."""
    names: dict[str, list[str]] = {"": ["v1"]} if core else _groups(catalogue)
    items = [
        {
            "metadata": {"name": name, "creationTimestamp": None} if name else {"creationTimestamp": None},
            "versions": [
                {
                    "version": version,
                    "resources": [_aggregated(kind) for kind in _kinds(catalogue, name, version)],
                    "freshness": "Current",
                }
                for version in versions
            ],
        }
        for name, versions in names.items()
    ]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    }


def _groups(catalogue: Catalogue) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for kind in catalogue.all():
        if kind.group and kind.version not in found.setdefault(kind.group, []):
            found[kind.group].append(kind.version)
    return found


def _group(name: str, versions: list[str]) -> Obj:
    shown = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": shown, "preferredVersion": shown[0]}


def _kinds(catalogue: Catalogue, group: str, version: str) -> list[Kind]:
    found = [kind for kind in catalogue.all() if (kind.group, kind.version) == (group, version)]
    return sorted(found, key=lambda kind: kind.plural)


def _verbs(kind: Kind) -> list[str]:
    return [verb for verb in _VERBS if kind.deletes_many or verb != "deletecollection"]


def _resource(kind: Kind) -> Obj:
    shown: Obj = {
        "name": kind.plural,
        "singularName": kind.singular_name,
        "namespaced": kind.namespaced,
        "kind": kind.name,
        "verbs": _verbs(kind),
    }
    if kind.short_names:
        shown["shortNames"] = list(kind.short_names)
    if kind.categories:
        shown["categories"] = list(kind.categories)
    return shown


def _subresource(kind: Kind, name: str) -> Obj:
    shown: Obj = {
        "name": f"{kind.plural}/{name}",
        "singularName": "",
        "namespaced": kind.namespaced,
        "kind": kind.name,
        "verbs": _subresource_verbs(name),
    }
    if name in _SUBRESOURCE_KINDS:
        group, version, shown["kind"] = _SUBRESOURCE_KINDS[name]
        if (group, version) != (kind.group, kind.version):
            shown |= {"group": group, "version": version}
    return shown


def _subresources(kind: Kind) -> tuple[str, ...]:
    return tuple(sorted(kind.subresources + (("status",) if kind.status else ())))


def _subresource_verbs(name: str) -> list[str]:
    if name == "status":
        return ["get", "patch", "update"]
    return ["update"] if name == "finalize" else ["create"]


def _aggregated(kind: Kind) -> Obj:
    shown: Obj = {
        "resource": kind.plural,
        "responseKind": _response_kind((kind.group, kind.version, kind.name)),
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular_name,
        "verbs": _verbs(kind),
    }
    if kind.short_names:
        shown["shortNames"] = list(kind.short_names)
    if kind.categories:
        shown["categories"] = list(kind.categories)
    subresources = [
        {
            "subresource": name,
            "responseKind": _response_kind(
                _SUBRESOURCE_KINDS.get(name, (kind.group, kind.version, kind.name))
            ),
            "verbs": _subresource_verbs(name),
        }
        for name in _subresources(kind)
    ]
    if subresources:
        shown["subresources"] = subresources
    return shown


def _response_kind(what: tuple[str, str, str]) -> Obj:
    return {"group": what[0], "version": what[1], "kind": what[2]}
