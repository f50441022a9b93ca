"""Converts decoded JSON into dataclasses field by field: a field that cannot be converted costs itself. Pure."""

import math
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

_LARGEST = 2**53
_FIRST_YEAR, _LAST_YEAR = 1970, 9000


def lenient(raw: object, wanted: Any) -> tuple[Any, list[str]]:
    """`raw` as `wanted`, and the names of the fields that were lost.

    A lost field gets its default. The value is None if a lost field has no default.
    """
    try:
        value = msgspec.convert(raw, wanted)
    except (msgspec.ValidationError, RecursionError):
        value = None
    else:
        if is_sound(value):
            return value, []
    if not (is_dataclass(wanted) and isinstance(wanted, type) and isinstance(raw, dict)):
        return None, [getattr(wanted, "__name__", str(wanted))]
    hints, values, lost = _hints(wanted), {}, []
    for entry in fields(wanted):
        if entry.name not in raw:
            lost += [entry.name] if _is_required(entry) else []
            continue
        part, missing = _part(raw[entry.name], hints[entry.name])
        lost += [f"{entry.name}.{name}" for name in missing]
        if not missing or part is not None or type(None) in get_args(hints[entry.name]):
            values[entry.name] = part
    if any(_is_required(entry) and entry.name not in values for entry in fields(wanted)):
        return None, lost
    try:
        return wanted(**values), lost
    except ValueError:
        return None, [wanted.__name__]


def is_sound(value: object) -> bool:
    """Whether every time in `value` has a time zone and every number is finite and small enough for arithmetic."""
    match value:
        case bool() | str() | None:
            return True
        case int():
            return abs(value) < _LARGEST
        case float():
            return math.isfinite(value) and abs(value) < _LARGEST
        case datetime():
            return _is_sound_time(value)
        case tuple() | frozenset():
            return all(map(is_sound, value))
        case _ if is_dataclass(value) and not isinstance(value, type):
            return all(is_sound(getattr(value, entry.name)) for entry in fields(value))
        case _:
            return True


def _part(raw: object, wanted: Any) -> tuple[Any, list[str]]:
    arguments = get_args(wanted)
    if get_origin(wanted) is tuple and arguments[-1:] == (Ellipsis,) and isinstance(raw, list):
        parts = [lenient(each, arguments[0]) for each in raw]
        kept = tuple(part for part, missing in parts if not missing)
        return kept, [f"[{index}]" for index, (_, missing) in enumerate(parts) if missing]
    if is_dataclass(wanted):
        return lenient(raw, wanted)
    return lenient(raw, wanted)


@cache
def _hints(wanted: type) -> dict[str, Any]:
    return get_type_hints(wanted)


def _is_required(entry: "Field[Any]") -> bool:
    return entry.default is MISSING and entry.default_factory is MISSING


def _is_sound_time(value: datetime) -> bool:
    if value.tzinfo is None:
        return False
    try:
        return _FIRST_YEAR <= value.astimezone(UTC).year <= _LAST_YEAR
    except OverflowError:
        return False
