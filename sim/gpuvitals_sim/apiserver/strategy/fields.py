"""Checks that several kinds share: names, limited lists, unique items, conditions.

Place in the chain: building blocks of the validation rules; each returns a list of errors.
Source: kubernetes/kubernetes pkg/apis/resource/validation, kubernetes/apimachinery pkg/apis/meta/v1/validation.
"""

import re
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from gpuvitals_sim.apiserver.errors import (
    FieldError,
    duplicate,
    invalid_value,
    not_supported,
    required,
    too_long,
    too_many,
)
from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.apiserver.strategy.names import (
    label_complaints,
    label_value_complaints,
    qualified_name_complaints,
    subdomain_complaints,
)

Check = Callable[[Any, str], list[FieldError]]

_REASON = re.compile(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?")
_REASON_TEXT = (
    "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric "
    "characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or "
    "'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is "
    "'[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')"
)
_REASON_LIMIT, _MESSAGE_LIMIT = 1024, 32 * 1024


def items_errors(items: Iterable[Any], path: str, check: Check) -> list[FieldError]:
    """Errors of the items of a list."""
    return [error for place, item in enumerate(items) for error in check(item, f"{path}[{place}]")]


def list_errors(items: list[Any], path: str, limit: int, check: Check) -> list[FieldError]:
    """As `items_errors`; a list over its limit has only that error."""
    if len(items) > limit:
        return [too_many(path, len(items), limit)]
    return items_errors(items, path, check)


def unique_errors(items: Iterable[Any], path: str, key: Callable[[Any], Hashable]) -> list[FieldError]:
    """Errors of items with a duplicate key."""
    seen: set[Hashable] = set()
    errors = []
    for place, item in enumerate(items):
        value = key(item)
        if value in seen:
            errors.append(duplicate(f"{path}[{place}]", value))
        seen.add(value)
    return errors


def negative_errors(values: Obj, names: Iterable[str], path: str) -> list[FieldError]:
    """Errors of negative numbers; absent ones are accepted."""
    return [
        invalid_value(f"{path}.{name}", values[name], "must be greater than or equal to 0")
        for name in names
        if isinstance(values.get(name), int) and values[name] < 0
    ]


def driver_errors(name: str, path: str) -> list[FieldError]:
    """Errors of a driver name: a DNS subdomain of at most 63 characters."""
    if not name:
        return [required(path)]
    errors = [too_long(path, 63)] if len(name) > 63 else []
    return errors + [invalid_value(path, name, text) for text in subdomain_complaints(name.lower())]


def pool_errors(name: str, path: str) -> list[FieldError]:
    """Errors of a pool name: DNS subdomains joined by slashes."""
    if not name:
        return [required(path)]
    errors = [too_long(path, 253)] if len(name) > 253 else []
    return errors + [
        invalid_value(path, part, text) for part in name.split("/") for text in subdomain_complaints(part)
    ]


def label_errors(name: str, path: str) -> list[FieldError]:
    """Errors of a DNS label; an empty one is malformed, not missing."""
    return [invalid_value(path, name, text) for text in label_complaints(name)]


def label_key_errors(name: str, path: str) -> list[FieldError]:
    """Errors of a label key, as taints, tolerations and conditions use it."""
    return [invalid_value(path, name, text) for text in qualified_name_complaints(name)]


def label_text_errors(value: str, path: str) -> list[FieldError]:
    """Errors of a label value."""
    return [invalid_value(path, value, text) for text in label_value_complaints(value)]


def condition_errors(conditions: list[Obj], path: str) -> list[FieldError]:
    """All errors of a list of `metav1.Condition`."""
    return [
        *unique_errors(conditions, path, lambda condition: condition.get("type", "")),
        *items_errors(conditions, path, _one_condition),
    ]


def default_conditions(conditions: list[Obj] | None) -> None:
    """Adds the empty message that Go always writes to conditions."""
    for condition in conditions or ():
        condition.setdefault("message", "")


def _one_condition(condition: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    kind, status, reason = (condition.get(name) or "" for name in ("type", "status", "reason"))
    if kind:
        errors += label_key_errors(kind, f"{path}.type")
    else:
        errors.append(required(f"{path}.type", "is required"))
    if not status:
        errors.append(required(f"{path}.status"))
    elif status not in ("True", "False", "Unknown"):
        errors.append(not_supported(f"{path}.status", status, ("False", "True", "Unknown")))
    if not condition.get("lastTransitionTime"):
        errors.append(required(f"{path}.lastTransitionTime"))
    if not reason:
        errors.append(required(f"{path}.reason"))
    elif not _REASON.fullmatch(reason):
        errors.append(invalid_value(f"{path}.reason", reason, _REASON_TEXT))
    if len(reason.encode()) > _REASON_LIMIT:
        errors.append(too_long(f"{path}.reason", _REASON_LIMIT))
    if len((condition.get("message") or "").encode()) > _MESSAGE_LIMIT:
        errors.append(too_long(f"{path}.message", _MESSAGE_LIMIT))
    return errors
