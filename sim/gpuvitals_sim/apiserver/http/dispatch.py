"""One request on a resource, from its parsed parts to an answer.

Place in the chain: the handler calls it after access and faults; it calls the API and picks the status code.
"""

from dataclasses import dataclass, field, replace

from gpuvitals_sim.apiserver.api import Api
from gpuvitals_sim.apiserver.errors import bad_request, forbidden_field, invalid
from gpuvitals_sim.apiserver.http.parameters import (
    Parameters,
    duplicate_keys,
    media_type,
    read_json,
    read_object,
    read_yaml,
)
from gpuvitals_sim.apiserver.http.routing import Route
from gpuvitals_sim.apiserver.json_types import Obj, dig
from gpuvitals_sim.apiserver.representation.rendering import Renderer, renderer_for
from gpuvitals_sim.apiserver.request import APPLY_PATCH
from gpuvitals_sim.apiserver.request_log import RequestFacts
from gpuvitals_sim.apiserver.verbs.watching import Watch

_JOB_ORPHANS = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them "
    "or set propagationPolicy=Orphan to suppress this warning"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to send: a body, or a watch to stream through its renderer."""

    status: int
    body: Obj = field(default_factory=dict)
    content_type: str = "application/json"
    warnings: tuple[str, ...] = ()
    watch: Watch | None = None
    renderer: Renderer | None = None


def answer(api: Api, route: Route, request: RequestFacts, accept: str) -> Answer:
    """The answer to a request on a resource. Raises ApiError."""
    parameters = Parameters.parse(request.query)
    renderer = renderer_for(accept, route.target.kind, parameters.text("includeObject"))
    if route.verb == "watch":
        watch = api.watch(route.target, parameters.watch_options())
        return Answer(status=200, watch=watch, renderer=renderer, content_type=renderer.content_type)
    found = _answer(api, route, request, parameters)
    if found.body.get("kind") == "Status" and found.body.get("apiVersion") == "v1":
        return found
    body = renderer.body(found.body)
    return Answer(status=found.status, body=body, content_type=renderer.content_type, warnings=found.warnings)


def _answer(api: Api, route: Route, request: RequestFacts, parameters: Parameters) -> Answer:
    target = route.target
    if route.verb in ("create", "update", "patch"):
        return _written(api, route, request, parameters)
    match route.verb:
        case "get":
            return Answer(status=200, body=api.get(target))
        case "list":
            return Answer(status=200, body=api.list(target, parameters.list_options()))
        case "delete":
            return _deleted(api, route, request, parameters)
        case _:
            wanted = parameters.delete_options(read_object_of(request) if request.body else None)
            return Answer(status=200, body=api.delete_collection(target, parameters.list_options(), wanted))


def _written(api: Api, route: Route, request: RequestFacts, parameters: Parameters) -> Answer:
    warnings: list[str] = []
    options = replace(
        parameters.write_options(route.verb.capitalize(), request.user_agent),
        duplicates=duplicate_keys(request.body),
        warn=warnings.append,
    )
    match route.verb:
        case "create":
            made, created = api.create(route.target, read_object_of(request), options), True
        case "update":
            made, created = api.update(route.target, read_object_of(request), options)
        case _:
            patch_type = media_type(request.content_type)
            if "force" in parameters.values and patch_type != APPLY_PATCH:
                error = forbidden_field("force", "may not be specified for non-apply patch")
                raise invalid("meta.k8s.io", "PatchOptions", "", [error])
            read = read_yaml if patch_type == APPLY_PATCH else read_json
            made, created = api.patch(route.target, patch_type, read(request.body), options)
    return Answer(status=201 if created else 200, body=made, warnings=tuple(warnings))


def _deleted(api: Api, route: Route, request: RequestFacts, parameters: Parameters) -> Answer:
    body = read_object_of(request) if request.body else None
    options = parameters.delete_options(body)
    result, gone = api.delete(route.target, options)
    orphaning = route.target.kind.orphans_by_default and not options.propagation
    accepted = not gone and dig(body, "orphanDependents") is False
    return Answer(status=202 if accepted else 200, body=result, warnings=(_JOB_ORPHANS,) if orphaning else ())


def read_object_of(request: RequestFacts) -> Obj:
    """The object in a request's body. Raises ApiError."""
    value = read_object(request.body, request.content_type)
    if not isinstance(value, dict):
        raise bad_request("the body of the request must be an object")
    return value
