"""OpenAPI documents with the parts that kubectl needs: kinds by name, and validation of fields by the server.

Place in the chain: `kubectl apply` and `create` look for `fieldValidation` in the parameters of PATCH, `kubectl
explain` reads schemas. Built-in kinds are described as open objects, custom resources by their own schema.
"""

from typing import Any

from gpuvitals_sim.apiserver.errors import no_such_page
from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.apiserver.kinds import Catalogue, Kind

_METADATA: Obj = {
    "type": "object",
    "description": "Standard object's metadata.",
    "x-kubernetes-preserve-unknown-fields": True,
}


def openapi_v3_index(catalogue: Catalogue) -> Obj:
    """`/openapi/v3`: one document per group and version."""
    versions = dict.fromkeys((kind.group, kind.version) for kind in catalogue.all())
    paths = {
        _prefix(*version)[1:]: {"serverRelativeURL": f"/openapi/v3{_prefix(*version)}"}
        for version in versions
    }
    return {"paths": paths}


def openapi_v3(catalogue: Catalogue, group: str, version: str) -> Obj:
    """`/openapi/v3/apis/<group>/<version>`. Raises ApiError 404."""
    kinds = [kind for kind in catalogue.all() if (kind.group, kind.version) == (group, version)]
    if not kinds:
        raise no_such_page()
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.37.2"},
        "paths": {
            _path(kind): {"patch": _operation(kind, "v3"), "get": _operation(kind, "v3")} for kind in kinds
        },
        "components": {"schemas": {_schema_name(kind): _schema(kind) for kind in kinds}},
    }


def openapi_v2(catalogue: Catalogue, version: str) -> Obj:
    """`/openapi/v2`: everything in one document."""
    kinds = catalogue.all()
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": {_path(kind): {"patch": _operation(kind, "v2")} for kind in kinds},
        "definitions": {_schema_name(kind): _schema(kind) for kind in kinds},
    }


def _prefix(group: str, version: str) -> str:
    return f"/apis/{group}/{version}" if group else f"/api/{version}"


def _path(kind: Kind) -> str:
    scope = "/namespaces/{namespace}" if kind.namespaced else ""
    return f"{_prefix(kind.group, kind.version)}{scope}/{kind.plural}/{{name}}"


def _operation(kind: Kind, version: str) -> Obj:
    typed: Obj = {"schema": {"type": "string"}} if version == "v3" else {"type": "string"}
    names = ("dryRun", "fieldManager", "fieldValidation", "force")
    return {
        "operationId": f"{kind.group or 'core'}{kind.version}{kind.name}",
        "parameters": [{"name": name, "in": "query", **typed} for name in names],
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind": _group_version_kind(kind),
    }


def _schema_name(kind: Kind) -> str:
    group = ".".join(reversed(kind.group.split("."))) if kind.group else "io.k8s.api.core"
    return f"{group}.{kind.version}.{kind.name}"


def _schema(kind: Kind) -> Obj:
    own: dict[str, Any] = dict(kind.schema.get("properties") or {})
    properties: Obj = {
        "apiVersion": {"type": "string", "description": "The version of the schema of this object."},
        "kind": {"type": "string", "description": "The kind of this object."},
        "metadata": _METADATA,
        **{name: part for name, part in own.items() if name not in ("apiVersion", "kind", "metadata")},
    }
    if not kind.custom:
        properties["spec"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        if kind.status:
            properties["status"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "type": "object",
        "description": kind.schema.get("description", f"{kind.name} of {kind.api_version}."),
        "properties": properties,
        "x-kubernetes-group-version-kind": [_group_version_kind(kind)],
    }


def _group_version_kind(kind: Kind) -> Obj:
    return {"group": kind.group, "version": kind.version, "kind": kind.name}
