"""The non-resource paths: version, health, discovery, OpenAPI.

Place in the chain: the handler uses it if routing finds no kind.
"""

from gpuvitals_sim.apiserver.errors import no_such_page
from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.apiserver.kinds import Catalogue
from gpuvitals_sim.apiserver.representation.discovery import (
    aggregated,
    core_versions,
    group_document,
    groups,
    resource_list,
)
from gpuvitals_sim.apiserver.representation.openapi import openapi_v2, openapi_v3, openapi_v3_index

VERSION: Obj = {
    "major": "1",
    "minor": "37",
    "emulationMajor": "1",
    "emulationMinor": "37",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "36",
    "gitVersion": "v1.37.2",
    "gitCommit": "",
    "gitTreeState": "",
    "buildDate": "2026-01-01T00:00:00Z",
    "goVersion": "go1.26.0",
    "compiler": "gc",
    "platform": "linux/amd64",
}
_HEALTH = ("healthz", "readyz", "livez")
_JSON = "application/json"
_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def document(catalogue: Catalogue, path: str, accept: str) -> tuple[Obj, str]:
    """The document at a path and its content type; `{"text/plain": ...}` for text. Raises ApiError 404."""
    parts = [part for part in path.split("/") if part]
    if parts[:1] and parts[0] in _HEALTH:
        return {"text/plain": "ok"}, "text/plain"
    if parts == ["version"]:
        return VERSION, _JSON
    if not parts:
        return {
            "paths": ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v2", "/readyz", "/version"]
        }, _JSON
    if parts[0] == "openapi":
        return _openapi(catalogue, parts[1:]), _JSON
    return _discovery(catalogue, parts, accept)


def _discovery(catalogue: Catalogue, parts: list[str], accept: str) -> tuple[Obj, str]:
    wants_all = "as=APIGroupDiscoveryList" in accept and "v=v2" in accept.replace("v=v2beta1", "")
    if parts == ["api"]:
        return (aggregated(catalogue, core=True), _AGGREGATED) if wants_all else (core_versions(), _JSON)
    if parts == ["apis"]:
        return (aggregated(catalogue, core=False), _AGGREGATED) if wants_all else (groups(catalogue), _JSON)
    if parts == ["api", "v1"]:
        return resource_list(catalogue, "", "v1"), _JSON
    if parts[0] == "apis" and len(parts) == 2:
        return group_document(catalogue, parts[1]), _JSON
    if parts[0] == "apis" and len(parts) == 3:
        return resource_list(catalogue, parts[1], parts[2]), _JSON
    raise no_such_page()


def _openapi(catalogue: Catalogue, parts: list[str]) -> Obj:
    if parts == ["v2"]:
        return openapi_v2(catalogue, VERSION["gitVersion"])
    if parts == ["v3"]:
        return openapi_v3_index(catalogue)
    if parts[:3] == ["v3", "api", "v1"]:
        return openapi_v3(catalogue, "", "v1")
    if parts[:2] == ["v3", "apis"] and len(parts) == 4:
        return openapi_v3(catalogue, parts[2], parts[3])
    raise no_such_page()
