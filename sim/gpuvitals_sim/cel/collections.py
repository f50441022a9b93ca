"""The functions that Kubernetes adds to CEL for patterns in strings, for lists and for sets.

Place in the chain: rows of the table in `functions.py`. Patterns are Python's and not RE2's; they differ in rare constructs.
Source: kubernetes/apiserver pkg/cel/library/regex.go and lists.go; google/cel-go ext/sets.go.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

from cel_expr_python import cel

Type = cel.Type

Row = tuple[str, bool, list[Any], Any, Callable[..., Any]]
"""Name, whether it is a member function, types of parameters and result, and the function."""

LISTS = ("sum", "min", "max", "isSorted")
SETS = ("sets.contains", "sets.intersects", "sets.equivalent")

_INT64 = 2**63


def collection_rows(*, checked: bool) -> list[Row]:
    """The functions, declared for checking or for evaluation."""
    text, texts = Type.STRING, Type.List(Type.STRING)
    rows: list[Row] = [
        ("find", True, [text, text], text, _find),
        ("findAll", True, [text, text], texts, _find_all),
        ("findAll", True, [text, text, Type.INT], texts, _find_all),
    ]
    both = [Type.LIST, Type.LIST]
    rows += [
        (name, False, both, Type.BOOL, do)
        for name, do in zip(SETS, (_contains, _intersects, _is_equivalent), strict=True)
    ]
    numbers = (Type.INT, Type.DOUBLE, Type.UINT)
    ordered = (*numbers, Type.STRING, Type.BOOL)
    for name, kinds, do in (("sum", numbers, _sum), ("min", ordered, _min), ("max", ordered, _max)):
        rows += (
            [(name, True, [Type.List(kind)], kind, do) for kind in kinds]
            if checked
            else [(name, True, [Type.LIST], Type.DYN, do)]
        )
    return [*rows, ("isSorted", True, [Type.LIST], Type.BOOL, _is_sorted)]


def _find(text: str, pattern: str) -> str:
    found = _pattern(pattern).search(text)
    return found[0] if found else ""


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found = [match[0] for match in _pattern(pattern).finditer(text)]
    return found if limit < 0 else found[:limit]


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        reason = str(error)
        if error.msg == "unterminated character set":
            reason = f"missing closing ]: `{text[error.pos :]}`"
        raise ValueError(f"Illegal regex: error parsing regexp: {reason}") from error


def _contains(whole: Iterable[object], part: Iterable[object]) -> bool:
    known = list(whole)
    return all(value in known for value in part)


def _intersects(left: Iterable[object], right: Iterable[object]) -> bool:
    known = list(right)
    return any(value in known for value in left)


def _is_equivalent(left: Iterable[object], right: Iterable[object]) -> bool:
    first, second = list(left), list(right)
    return _contains(first, second) and _contains(second, first)


def _sum(values: Iterable[Any]) -> Any:
    found = list(values)
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in found):
        raise ValueError("no such overload: sum(list)")
    total = sum(found)
    if isinstance(total, int) and not -_INT64 <= total < _INT64:
        raise ValueError("integer overflow")
    return total


def _min(values: Iterable[Any]) -> Any:
    return min(_comparable("min", values))


def _max(values: Iterable[Any]) -> Any:
    return max(_comparable("max", values))


def _is_sorted(values: Iterable[Any]) -> bool:
    found = list(values)
    return not found or found == sorted(_comparable("isSorted", found))


def _comparable(name: str, values: Iterable[Any]) -> list[Any]:
    found = list(values)
    if not found:
        raise ValueError(f"{name} called on empty list")
    kinds = {"number" if isinstance(value, int | float) else type(value).__name__ for value in found}
    if len(kinds) > 1 or not kinds <= {"number", "str"}:
        raise ValueError(f"no such overload: {name}(list)")
    return found
