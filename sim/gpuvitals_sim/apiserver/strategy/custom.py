"""The rules of custom resources, from the schema of their definition: prune, default, validate.

Place in the chain: `table.py` makes one `Rules` per served version. Supported: type, properties, required, enum,
minimum, maximum, lengths, pattern, items, additionalProperties, nullable, default, preserve-unknown-fields,
int-or-string. CEL rules (`x-kubernetes-validations`) are not evaluated.
Source: kubernetes/apiextensions-apiserver pkg/apiserver/schema, pkg/apiserver/validation.
"""

import re
from collections.abc import Mapping
from typing import Any

from gpuvitals_sim.apiserver.errors import (
    FieldError,
    invalid_value,
    late,
    not_supported,
    required,
    too_long,
    too_many,
    type_invalid,
)
from gpuvitals_sim.apiserver.json_types import Obj, clone
from gpuvitals_sim.apiserver.kinds import Kind
from gpuvitals_sim.apiserver.strategy.rules import Rules

Schema = Mapping[str, Any]

_KEPT = ("apiVersion", "kind", "metadata")


def custom_rules(kind: Kind) -> Rules:
    """The rules that a custom resource's schema implies."""
    schema = kind.schema

    def default(obj: Obj) -> None:
        _fill(obj, schema)

    return Rules(
        default=default,
        validate_create=lambda obj: schema_errors(obj, schema),
        validate_update=lambda new, _old, _subresource: schema_errors(new, schema),
    )


def drop_unknown(obj: Obj, schema: Schema) -> list[str]:
    """Removes the fields that are not in the schema from the object in place; returns their paths."""
    kept = {name: obj.pop(name) for name in _KEPT if name in obj}
    unknown: list[str] = []
    if schema:
        _prune(obj, schema, "", unknown)
    obj |= kept
    return unknown


def schema_errors(obj: Obj, schema: Schema) -> list[FieldError]:
    """All errors of an object."""
    body = {name: value for name, value in obj.items() if name not in _KEPT}
    present = [name for name in schema.get("required") or () if name not in _KEPT]
    return _errors(body, {**schema, "required": present}, "")


def _prune(value: Any, schema: Schema, path: str, unknown: list[str]) -> None:
    if isinstance(value, list):
        for place, item in enumerate(value):
            _prune(item, schema.get("items") or {}, f"{path}[{place}]", unknown)
        return
    if not isinstance(value, dict):
        return
    properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
    keeps_unknown = bool(schema.get("x-kubernetes-preserve-unknown-fields")) or bool(additional)
    for name in list(value):
        below = _join(path, name)
        part = properties.get(name) or (additional if isinstance(additional, dict) else None)
        if value[name] is None and part is not None and not part.get("nullable"):
            del value[name]
            continue
        if name in properties:
            _prune(value[name], properties[name], below, unknown)
        elif isinstance(additional, dict):
            _prune(value[name], additional, below, unknown)
        elif not keeps_unknown:
            unknown.append(below)
            del value[name]


def _fill(value: Any, schema: Schema) -> None:
    """Fills in the schema's defaults."""
    if isinstance(value, list):
        for item in value:
            _fill(item, schema.get("items") or {})
        return
    if not isinstance(value, dict):
        return
    for name, part in (schema.get("properties") or {}).items():
        if "default" in part and (name not in value or (value[name] is None and not part.get("nullable"))):
            value[name] = clone(part["default"])
        if name in value:
            _fill(value[name], part)
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        for item in value.values():
            _fill(item, additional)


def _errors(value: Any, schema: Schema, path: str) -> list[FieldError]:
    if value is None and schema.get("nullable"):
        return []
    wanted = "integer,string" if schema.get("x-kubernetes-int-or-string") else schema.get("type")
    if wanted and not any(_is_type(value, name) for name in wanted.split(",")):
        shown = _type_name(value)
        text = f'{path} in body must be of type {wanted}: "{shown}"'
        return [type_invalid(path or "<nil>", shown, text)]
    errors = _enum_errors(value, schema, path)
    if isinstance(value, dict):
        return errors + _object_errors(value, schema, path)
    if isinstance(value, list):
        return errors + _list_errors(value, schema, path)
    if isinstance(value, str):
        return errors + _string_errors(value, schema, path)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return errors + _number_errors(value, schema, path)
    return errors


def _enum_errors(value: Any, schema: Schema, path: str) -> list[FieldError]:
    choices = schema.get("enum")
    return (
        [not_supported(path, value, (str(item) for item in choices))]
        if choices and value not in choices
        else []
    )


def _object_errors(value: Obj, schema: Schema, path: str) -> list[FieldError]:
    properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
    errors = [required(_join(path, name)) for name in schema.get("required") or () if name not in value]
    for name, item in value.items():
        part = properties.get(name) or (additional if isinstance(additional, dict) else None)
        if part is not None:
            errors += _errors(item, part, _join(path, name))
    if (limit := schema.get("maxProperties")) is not None and len(value) > limit:
        errors.append(late(too_many(path, len(value), limit)))
    return errors


def _list_errors(value: list[Any], schema: Schema, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if (limit := schema.get("maxItems")) is not None and len(value) > limit:
        errors.append(late(too_many(path, len(value), limit)))
    if (least := schema.get("minItems")) is not None and len(value) < least:
        errors.append(invalid_value(path, value, f"{path} in body should have at least {least} items"))
    for place, item in enumerate(value):
        errors += _errors(item, schema.get("items") or {}, f"{path}[{place}]")
    return errors


def _string_errors(value: str, schema: Schema, path: str) -> list[FieldError]:
    """The first error of a string."""
    if (limit := schema.get("maxLength")) is not None and len(value) > limit:
        return [late(too_long(path, limit))]
    if (least := schema.get("minLength")) is not None and len(value) < least:
        return [invalid_value(path, value, f"{path} in body should be at least {least} chars long")]
    pattern = schema.get("pattern")
    if pattern and not re.search(pattern, value):
        return [invalid_value(path, value, f"{path} in body should match '{pattern}'")]
    return []


def _number_errors(value: float, schema: Schema, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and value < low:
        errors.append(invalid_value(path, value, f"{path} in body should be greater than or equal to {low}"))
    if high is not None and value > high:
        errors.append(invalid_value(path, value, f"{path} in body should be less than or equal to {high}"))
    return errors


def _is_type(value: Any, wanted: str) -> bool:
    if isinstance(value, bool):
        return wanted == "boolean"
    if wanted == "number":
        return isinstance(value, int | float)
    if wanted == "integer":
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    kinds: dict[str, type] = {"object": dict, "array": list, "string": str}
    return wanted in kinds and isinstance(value, kinds[wanted])


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    names = ((dict, "object"), (list, "array"), (str, "string"), (int, "integer"))
    return next((name for kind, name in names if isinstance(value, kind)), "number")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
