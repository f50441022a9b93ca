"""Label and field selectors, parsed into predicates on objects.

Place in the chain: list, watch and deletecollection select objects with them.
Source: kubernetes/apimachinery pkg/labels and pkg/fields (grammar and wording).
"""

import re
from collections.abc import Callable
from typing import Any

from gpuvitals_sim.apiserver.errors import ApiError, bad_request
from gpuvitals_sim.apiserver.json_types import Obj, dig
from gpuvitals_sim.apiserver.kinds import Kind
from gpuvitals_sim.apiserver.label_selector import requirements

Matcher = Callable[[Obj], bool]


def object_matcher(kind: Kind, label_selector: str, field_selector: str) -> Matcher | None:
    """The predicate of both selectors; None if every object matches. Raises ApiError 400."""
    tests = [*_label_tests(label_selector), *_field_tests(kind, field_selector)]
    if not tests:
        return None
    return lambda obj: all(test(obj) for test in tests)


def labels_match(selector: Obj | None, labels: dict[str, str]) -> bool:
    """Whether labels match a LabelSelector object (`matchLabels`, `matchExpressions`); None matches nothing."""
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for term in selector.get("matchExpressions") or ():
        operator = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}[term["operator"]]
        if not _holds(labels, term["key"], operator, tuple(term.get("values") or ())):
            return False
    return True


def _label_tests(text: str) -> list[Matcher]:
    return [_label_matcher(term.key, term.operator, term.values) for term in requirements(text)]


def _label_matcher(key: str, operator: str, values: tuple[str, ...]) -> Matcher:
    return lambda obj: _holds(dig(obj, "metadata", "labels") or {}, key, operator, values)


def _holds(labels: dict[str, str], key: str, operator: str, values: tuple[str, ...]) -> bool:
    present, value = key in labels, labels.get(key)
    match operator:
        case "exists":
            return present
        case "!":
            return not present
        case "in" | "=":
            return present and value in values
        case "notin" | "!=":
            return not present or value not in values
        case "<" | ">":
            return _number_holds(value, operator, values[0])
        case _:
            raise bad_request(f"unknown selector operator {operator!r}")


def _number_holds(value: str | None, operator: str, bound: str) -> bool:
    try:
        left, right = int(value or ""), int(bound)
    except ValueError:
        return False
    return left < right if operator == "<" else left > right


def _field_tests(kind: Kind, text: str) -> list[Matcher]:
    return [_field_test(kind, term, text) for term in re.split(r"(?<!\\),", text) if term.strip()]


def _field_test(kind: Kind, term: str, whole: str) -> Matcher:
    found = re.match(r"^(?P<key>[^!=]+)(?P<op>==|=|!=)(?P<value>.*)$", term.strip())
    if not found:
        raise bad_request(f"invalid selector: {whole!r}; can't understand {term!r}")
    key, wanted = found["key"], re.sub(r"\\(.)", r"\1", found["value"])
    if key not in kind.selectable:
        raise _unsupported_field(kind, key)
    path = _stored_path(kind, key)
    if found["op"] == "!=":
        return lambda obj: _field_text(obj, path) != wanted
    return lambda obj: _field_text(obj, path) == wanted


def _unsupported_field(kind: Kind, key: str) -> ApiError:
    if not kind.fields and not kind.custom:
        return bad_request(
            f'"{key}" is not a known field selector: only "metadata.name", "metadata.namespace"'
        )
    about = f" for {kind.api_version}, Kind={kind.name}" if kind.group == "resource.k8s.io" else ""
    return bad_request(f"field label not supported{about}: {key}")


def _stored_path(kind: Kind, key: str) -> tuple[str, ...]:
    stored_names = {shown: stored for stored, shown in kind.view.items()}
    head, *rest = key.split(".")
    if key == "source":
        return ("source", "component")
    if key == "status.successful":
        return ("status", "succeeded")
    return (stored_names.get(head, head), *rest)


def _field_text(obj: Obj, path: tuple[str, ...]) -> str:
    value: Any = dig(obj, *path)
    if path[-1] in ("unschedulable", "hostNetwork"):
        return str(bool(value)).lower()
    if path == ("status", "succeeded"):
        return str(int(value or 0))
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
