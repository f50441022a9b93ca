"""Paths and methods, resolved to a verb and its target.

Place in the chain: first step of every request on a resource.
"""

from dataclasses import dataclass
from urllib.parse import unquote

from gpuvitals_sim.apiserver.access import OWN_REVIEWS
from gpuvitals_sim.apiserver.errors import no_such_method, no_such_page, no_such_path
from gpuvitals_sim.apiserver.kinds import Catalogue, Kind
from gpuvitals_sim.apiserver.request import Target

_ONE = {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_MANY = {"GET": "list", "POST": "create", "DELETE": "deletecollection"}
_CREATED_SUBRESOURCES = ("eviction", "binding")
_NAMESPACE_SUBRESOURCES = ("status", "finalize")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The verb and target of a request on a resource."""

    verb: str
    target: Target


def route(catalogue: Catalogue, method: str, path: str, *, watching: bool) -> Route | None:
    """The verb and its target; None if the path is no resource. Raises ApiError 404, 405."""
    if path == OWN_REVIEWS:
        return None
    parts = [unquote(part) for part in path.strip("/").split("/")]
    if parts[:2] == ["api", "v1"] and len(parts) > 2:
        return _resource(catalogue, method, ("", "v1", parts[2:]), watching=watching)
    if parts[0] == "apis" and len(parts) > 3:
        return _resource(catalogue, method, (parts[1], parts[2], parts[3:]), watching=watching)
    return None


def _resource(
    catalogue: Catalogue, method: str, where: tuple[str, str, list[str]], *, watching: bool
) -> Route:
    group, version, parts = where
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 2 and not (
        len(parts) == 3 and parts[2] in _NAMESPACE_SUBRESOURCES and not group
    ):  # fmt: skip
        namespace, parts = parts[1], parts[2:]
    kind = catalogue.find(group, version, parts[0])
    if kind is None and not catalogue.serves(group, version):
        raise no_such_page()
    if kind is None or len(parts) > 3 or (namespace and not kind.namespaced):
        raise no_such_path()
    name, subresource = [*parts[1:], "", ""][:2]
    if name and kind.namespaced and not namespace:
        raise no_such_path()
    _check_subresource(kind, subresource)
    target = Target(kind=kind, namespace=namespace, name=name, subresource=subresource)
    return Route(verb=_verb(kind, method, target, watching=watching), target=target)


def _check_subresource(kind: Kind, subresource: str) -> None:
    known = kind.subresources + (("status",) if kind.status else ())
    if subresource and subresource not in known:
        raise no_such_path()


def _verb(kind: Kind, method: str, target: Target, *, watching: bool) -> str:
    if target.subresource in _CREATED_SUBRESOURCES:
        if method != "POST":
            raise no_such_method()
        return "create"
    verb = (_ONE if target.name else _MANY).get(method)
    if verb is None or (verb == "create" and kind.namespaced and not target.namespace):
        raise no_such_method()
    if (target.subresource and verb == "delete") or (verb == "deletecollection" and not kind.deletes_many):
        raise no_such_method()
    return "watch" if watching and verb == "list" else verb
