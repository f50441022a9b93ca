"""The rules of ResourceClaim specs, ResourceClaimTemplates and DeviceClasses.

Place in the chain: `table.py` lists them; `claim_status.py` has the rules of a claim's status.
CEL expressions are compiled if the server has a checker; without one they are accepted.
Source: kubernetes/kubernetes pkg/apis/resource/validation/validation.go (1.37).
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

from gpuvitals_sim.apiserver.errors import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid_value,
    late,
    not_supported,
    required,
    too_long,
)
from gpuvitals_sim.apiserver.json_types import Obj, dig, same
from gpuvitals_sim.apiserver.strategy.fields import (
    driver_errors,
    items_errors,
    label_errors,
    list_errors,
)
from gpuvitals_sim.apiserver.strategy.metadata import IMMUTABLE
from gpuvitals_sim.apiserver.strategy.names import (
    c_identifier_complaints,
    qualified_name_complaints,
    subdomain_complaints,
)
from gpuvitals_sim.apiserver.strategy.rules import Rules
from gpuvitals_sim.apiserver.strategy.taints import toleration_errors

_LIMIT, _FIRST_AVAILABLE_LIMIT = 32, 8
_EXPRESSION_BYTES, _PARAMETERS_BYTES = 10 * 1024, 10 * 1024
ADMIN_LABEL = "resource.kubernetes.io/admin-access"
_REFERENCE = (
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
)
_ONE_OF = "exactly one of `exactly` or `firstAvailable` is required"

CelChecker = Callable[[str], str | None]
"""The error of a CEL selector (the text behind `Invalid value: ...:`), or None."""


def cel_errors(kind: str, obj: Obj, old: Obj | None, checker: CelChecker) -> list[FieldError]:
    """Errors of the selectors of a new or changed object; `kind` is its store id."""
    found = [
        (path, expression)
        for path, expression in _expressions(kind, obj)
        if (old is None or not _kept(obj, old)) and len(expression.encode()) <= _EXPRESSION_BYTES
    ]
    return [
        invalid_value(path, expression, text)
        for path, expression in found
        if (text := checker(expression)) is not None
    ]


def _kept(obj: Obj, old: Obj) -> bool:
    return same(dig(obj, "spec", "selectors"), dig(old, "spec", "selectors"))


def _expressions(kind: str, obj: Obj) -> Iterator[tuple[str, str]]:
    spec = obj.get("spec") or {}
    if kind == "deviceclasses.resource.k8s.io":
        yield from _selectors(spec, "spec")
        return
    inner, path = (
        (spec.get("spec") or {}, "spec.spec") if kind.startswith("resourceclaimtemplates") else (spec, "spec")
    )
    for place, request in enumerate(dig(inner, "devices", "requests") or ()):
        where = f"{path}.devices.requests[{place}]"
        yield from _selectors(request.get("exactly") or {}, f"{where}.exactly")
        for rank, choice in enumerate(request.get("firstAvailable") or ()):
            yield from _selectors(choice, f"{where}.firstAvailable[{rank}]")


def _selectors(owner: Obj, path: str) -> Iterator[tuple[str, str]]:
    for place, selector in enumerate(owner.get("selectors") or ()):
        expression = dig(selector, "cel", "expression")
        if isinstance(expression, str):
            yield f"{path}.selectors[{place}].cel.expression", expression


def request_names(spec: Obj) -> set[str]:
    """Every name by which a claim's requests can be referred to, `request` and `request/subrequest`."""
    names = set()
    for request in dig(spec, "devices", "requests") or ():
        names.add(request.get("name", ""))
        names |= {f"{request.get('name')}/{sub.get('name')}" for sub in request.get("firstAvailable") or ()}
    return names


def reference_errors(name: str, path: str, names: set[str]) -> list[FieldError]:
    """Errors of a reference to a request."""
    parts = name.split("/")
    if len(parts) > 2:
        return [invalid_value(path, name, _REFERENCE)]
    errors = [error for part in parts for error in label_errors(part, path)]
    return errors if name in names else [*errors, invalid_value(path, name, _REFERENCE)]


def spec_errors(spec: Obj, path: str) -> list[FieldError]:
    """All errors of a claim's spec."""
    devices, names = spec.get("devices") or {}, request_names(spec)
    requests = devices.get("requests") or []
    where = f"{path}.devices"
    errors = list_errors(requests, f"{where}.requests", _LIMIT, _request_errors)
    errors += _unique_names(requests, f"{where}.requests")
    errors += list_errors(
        devices.get("constraints") or [],
        f"{where}.constraints",
        _LIMIT,
        lambda item, at: _constraint(item, at, names),
    )
    return errors + list_errors(
        devices.get("config") or [], f"{where}.config", _LIMIT, lambda item, at: _config(item, at, names)
    )


def opaque_errors(config: Obj, path: str) -> list[FieldError]:
    """Errors of a driver's opaque parameters."""
    opaque = config.get("opaque")
    if opaque is None:
        return [required(f"{path}.opaque")]
    return driver_errors(opaque.get("driver") or "", f"{path}.opaque.driver") + raw_errors(
        opaque.get("parameters"), f"{path}.opaque.parameters", _PARAMETERS_BYTES
    )


def raw_errors(value: Any, path: str, limit: int) -> list[FieldError]:
    """Errors of a free-form JSON object."""
    if value is None:
        return [required(path)]
    if len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()) > limit:
        return [too_long(path, limit)]
    return (
        []
        if isinstance(value, dict)
        else [invalid_value(path, "<value omitted>", "must be a valid JSON object")]
    )


def _request_errors(request: Obj, path: str) -> list[FieldError]:
    errors = label_errors(request.get("name") or "", f"{path}.name")
    choices, exactly = request.get("firstAvailable") or [], request.get("exactly")
    if choices and exactly is not None:
        return [*errors, invalid_value(path, None, f"{_ONE_OF}, but multiple fields are set")]
    if choices:
        where = f"{path}.firstAvailable"
        errors += list_errors(choices, where, _FIRST_AVAILABLE_LIMIT, _subrequest_errors)
        return errors + _unique_names(choices, where)
    if exactly is None:
        return [*errors, required(path, _ONE_OF)]
    return errors + _wanted_errors(exactly, f"{path}.exactly")


def _unique_names(items: list[Obj], path: str) -> list[FieldError]:
    names = [item.get("name", "") for item in items]
    return [
        duplicate(f"{path}[{place}]", item)
        for place, item in enumerate(items)
        if names[place] in names[:place]
    ]


def _subrequest_errors(request: Obj, path: str) -> list[FieldError]:
    return label_errors(request.get("name") or "", f"{path}.name") + _wanted_errors(request, path)


def _wanted_errors(request: Obj, path: str) -> list[FieldError]:
    name = request.get("deviceClassName") or ""
    errors = [] if name else [required(f"{path}.deviceClassName")]
    if name:
        errors += [
            invalid_value(f"{path}.deviceClassName", name, text) for text in subdomain_complaints(name)
        ]
    errors += list_errors(request.get("selectors") or [], f"{path}.selectors", _LIMIT, _selector_errors)
    errors += _mode_errors(request, path)
    return errors + items_errors(request.get("tolerations") or [], f"{path}.tolerations", toleration_errors)


def _mode_errors(request: Obj, path: str) -> list[FieldError]:
    mode, count = request.get("allocationMode") or "", request.get("count") or 0
    match mode:
        case "All":
            if not count:
                return []
            return [
                invalid_value(f"{path}.count", count, "must not be specified when allocationMode is 'All'")
            ]
        case "ExactCount":
            return [invalid_value(f"{path}.count", count, "must be greater than zero")] if count <= 0 else []
        case _:
            return [not_supported(f"{path}.allocationMode", mode, ("All", "ExactCount"))]


def _selector_errors(selector: Obj, path: str) -> list[FieldError]:
    if selector.get("cel") is None:
        return [required(f"{path}.cel")]
    expression = selector["cel"].get("expression") or ""
    where = f"{path}.cel.expression"
    return [too_long(where, _EXPRESSION_BYTES)] if len(expression.encode()) > _EXPRESSION_BYTES else []


def _constraint(constraint: Obj, path: str, names: set[str]) -> list[FieldError]:
    errors = _references(constraint, path, names)
    for name in ("matchAttribute", "distinctAttribute"):
        if name in constraint:
            return errors + _qualified_errors(constraint[name], f"{path}.{name}")
    text = 'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set'
    return [*errors, required(path, text)]


def _qualified_errors(value: str, path: str) -> list[FieldError]:
    domain, slash, name = value.partition("/")
    if not slash:
        text = "a fully qualified name must be a domain and a name separated by a slash"
        return [late(invalid_value(path, value, text))]
    if not domain or not name:
        return [invalid_value(path, "", f"{'name' if domain else 'prefix'} must not be empty")]
    errors = [invalid_value(path, domain, f"prefix: {text}") for text in subdomain_complaints(domain)]
    return errors + [invalid_value(path, name, text) for text in c_identifier_complaints(name)]


def _config(config: Obj, path: str, names: set[str]) -> list[FieldError]:
    return _references(config, path, names) + opaque_errors(config, path)


def _references(item: Obj, path: str, names: set[str]) -> list[FieldError]:
    return items_errors(
        item.get("requests") or [], f"{path}.requests", lambda name, at: reference_errors(name, at, names)
    )


def _requests(devices: Obj | None) -> Iterator[Obj]:
    for request in (devices or {}).get("requests") or ():
        if isinstance(request.get("exactly"), dict):
            yield request["exactly"]
        yield from request.get("firstAvailable") or ()


def default_spec(spec: Obj | None) -> None:
    """Fills in the defaults of requests: mode ExactCount, count 1, operator Equal."""
    if spec is not None:
        spec.setdefault("devices", {}).setdefault("requests", None)
    for request in _requests((spec or {}).get("devices")):
        if not request.get("allocationMode"):
            request["allocationMode"] = "ExactCount"
        if request["allocationMode"] == "ExactCount" and not request.get("count"):
            request["count"] = 1
        for toleration in request.get("tolerations") or ():
            toleration.setdefault("operator", "Equal")


def template_errors(template: Obj) -> list[FieldError]:
    """All errors of a ResourceClaimTemplate."""
    return spec_errors(dig(template, "spec", "spec") or {}, "spec.spec")


def admin_access_errors(kind: str, obj: Obj) -> list[FieldError]:
    """The error of the first request for admin access in a namespace without the label."""
    inner = dig(obj, "spec", "spec") if kind.startswith("resourceclaimtemplates") else obj.get("spec")
    for place, request in enumerate(dig(inner, "devices", "requests") or ()):
        if dig(request, "exactly", "adminAccess"):
            text = f"admin access to devices requires the `{ADMIN_LABEL}: true` label on the containing namespace"
            return [forbidden_field(f"spec.devices.requests[{place}].adminAccess", text)]
    return []


def immutable_spec_errors(new: Obj, old: Obj, _subresource: str) -> list[FieldError]:
    """The error of a changed spec, which is immutable."""
    if same(new.get("spec"), old.get("spec")):
        return []
    return [late(invalid_value("spec", None, IMMUTABLE))]


def _class_errors(spec: Obj) -> list[FieldError]:
    errors = list_errors(spec.get("selectors") or [], "spec.selectors", _LIMIT, _selector_errors)
    errors += list_errors(spec.get("config") or [], "spec.config", _LIMIT, opaque_errors)
    return errors + _extended_errors(spec.get("extendedResourceName"), "spec.extendedResourceName")


def _extended_errors(name: str | None, path: str) -> list[FieldError]:
    if name is None:
        return []
    if "/" not in name:
        text = "a name must be a domain-prefixed path, such as 'example.com/my-prop'"
        return [invalid_value(path, name, text)]
    if name.partition("/")[0].endswith("kubernetes.io"):
        return [invalid_value(path, name, 'must not have "kubernetes.io/" domain')]
    return [invalid_value(path, name, text) for text in qualified_name_complaints(name)]


def _default_class(device_class: Obj) -> None:
    device_class.setdefault("spec", {})


def _class_update_errors(new: Obj, old: Obj, _subresource: str) -> list[FieldError]:
    spec = dict(new.get("spec") or {})
    if same(spec.get("selectors"), dig(old, "spec", "selectors")):
        spec.pop("selectors", None)
    return _class_errors(spec)


def _default_template(template: Obj) -> None:
    spec = template.setdefault("spec", {})
    spec.setdefault("metadata", {})
    default_spec(spec.setdefault("spec", {}))


TEMPLATE_RULES = Rules(
    default=_default_template,
    validate_create=template_errors,
    validate_update=immutable_spec_errors,
)
CLASS_RULES = Rules(
    default=_default_class,
    validate_create=lambda device_class: _class_errors(device_class.get("spec") or {}),
    validate_update=_class_update_errors,
)
