"""The functions that Kubernetes adds to CEL: for quantities, versions, patterns in strings, lists and sets.

Place in the chain: declared with their own types where an expression is checked, and with maps where it is evaluated,
because the library hands values of own types to no Python function. A quantity is `{"quantity": "80"}` there.
Source: kubernetes/apiserver pkg/cel/library/quantity.go, semverlib.go, regex.go and lists.go.
"""

import re
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

from cel_expr_python import cel

from gpuvitals.sim.cel.quantity import parse_quantity
from gpuvitals.sim.cel.semver import Semver, parse_semver

Type = cel.Type
CelMap = dict[str, Any]

MEMBERS = (
    "sign", "isInteger", "asInteger", "asApproximateFloat", "add", "sub", "major", "minor", "patch",
    "compareTo", "isLessThan", "isGreaterThan",
)  # fmt: skip
"""The functions that are called on a value."""

_QUANTITY = "quantity"
_SEMVER = "semver"


def quantity_value(text: str) -> CelMap:
    """A quantity as the evaluator holds it: equal amounts are equal maps. Raises ValueError."""
    return _quantity(parse_quantity(text))


def semver_value(text: str, normalize: bool = False) -> CelMap:
    """A version as the evaluator holds it. Raises ValueError."""
    return {_SEMVER: str(parse_semver(text, normalize))}


def declarations(*, checked: bool) -> list[cel.FunctionDecl]:
    """The functions: with types of their own to check with, else to evaluate with."""
    quantity = Type.AbstractType("kubernetes.Quantity") if checked else Type.MAP
    semver = Type.AbstractType("kubernetes.Semver") if checked else Type.MAP
    rows = [
        *_quantity_rows(quantity),
        *_semver_rows(semver),
        *_shared_rows(quantity, semver, checked),
        *_pattern_rows(),
        *_list_rows(),
        *_set_rows(),
    ]
    found: dict[str, list[cel.Overload]] = {}
    for name, is_member, parameters, result, function in rows:
        overloads = found.setdefault(name, [])
        overloads.append(
            cel.Overload(
                f"gv_{name.replace('.', '_')}_{len(overloads)}",
                result,
                parameters,
                is_member=is_member,
                impl=function,
            )
        )
    return [cel.FunctionDecl(name, overloads) for name, overloads in found.items()]


_Row = tuple[str, bool, list[Any], Any, Callable[..., Any]]


def _quantity_rows(quantity: Any) -> list[_Row]:
    return [
        ("quantity", False, [Type.STRING], quantity, quantity_value),
        ("isQuantity", False, [Type.STRING], Type.BOOL, lambda text: _parses(parse_quantity, text)),
        ("sign", True, [quantity], Type.INT, lambda value: _sign(_amount(value))),
        ("isInteger", True, [quantity], Type.BOOL, lambda value: _amount(value).denominator == 1),
        ("asInteger", True, [quantity], Type.INT, _as_integer),
        ("asApproximateFloat", True, [quantity], Type.DOUBLE, lambda value: float(_amount(value))),
        ("add", True, [quantity, quantity], quantity, lambda a, b: _quantity(_amount(a) + _amount(b))),
        ("add", True, [quantity, Type.INT], quantity, lambda a, b: _quantity(_amount(a) + b)),
        ("sub", True, [quantity, quantity], quantity, lambda a, b: _quantity(_amount(a) - _amount(b))),
        ("sub", True, [quantity, Type.INT], quantity, lambda a, b: _quantity(_amount(a) - b)),
    ]


def _semver_rows(semver: Any) -> list[_Row]:
    return [
        ("semver", False, [Type.STRING], semver, semver_value),
        ("semver", False, [Type.STRING, Type.BOOL], semver, semver_value),
        ("isSemver", False, [Type.STRING], Type.BOOL, lambda text: _parses(parse_semver, text)),
        ("isSemver", False, [Type.STRING, Type.BOOL], Type.BOOL, _is_semver),
        ("major", True, [semver], Type.INT, lambda value: _version(value).major),
        ("minor", True, [semver], Type.INT, lambda value: _version(value).minor),
        ("patch", True, [semver], Type.INT, lambda value: _version(value).patch),
    ]


def _shared_rows(quantity: Any, semver: Any, checked: bool) -> list[_Row]:
    """Functions that both types have; evaluated, the two overloads would be one."""
    rows: list[_Row] = []
    for kind in (quantity, semver) if checked else (quantity,):
        rows += [
            ("compareTo", True, [kind, kind], Type.INT, _compare),
            ("isLessThan", True, [kind, kind], Type.BOOL, lambda a, b: _compare(a, b) < 0),
            ("isGreaterThan", True, [kind, kind], Type.BOOL, lambda a, b: _compare(a, b) > 0),
        ]
    if not checked:
        for name in ("compareTo", "isLessThan", "isGreaterThan"):
            rows += [(name, True, [Type.MAP, other], Type.BOOL, _no_overload(name)) for other in _OTHERS]
    return rows


def _pattern_rows() -> list[_Row]:
    return [
        ("find", True, [Type.STRING, Type.STRING], Type.STRING, _find),
        ("findAll", True, [Type.STRING, Type.STRING], Type.List(Type.STRING), _find_all),
        ("findAll", True, [Type.STRING, Type.STRING, Type.INT], Type.List(Type.STRING), _find_all),
    ]


def _list_rows() -> list[_Row]:
    return [
        ("sum", True, [Type.LIST], Type.DYN, sum),
        ("min", True, [Type.LIST], Type.DYN, min),
        ("max", True, [Type.LIST], Type.DYN, max),
        ("isSorted", True, [Type.LIST], Type.BOOL, lambda values: list(values) == sorted(values)),
    ]


def _set_rows() -> list[_Row]:
    both = [Type.LIST, Type.LIST]
    return [
        ("sets.contains", False, both, Type.BOOL, _contains_all),
        ("sets.intersects", False, both, Type.BOOL, lambda a, b: any(value in list(b) for value in a)),
        (
            "sets.equivalent",
            False,
            both,
            Type.BOOL,
            lambda a, b: _contains_all(a, b) and _contains_all(b, a),
        ),
    ]


def _contains_all(whole: Iterable[object], part: Iterable[object]) -> bool:
    known = list(whole)
    return all(value in known for value in part)


_OTHERS = (Type.INT, Type.STRING, Type.BOOL, Type.DOUBLE)
_CEL_NAMES = {bool: "bool", int: "int", float: "double", str: "string"}


def _no_overload(name: str) -> Callable[[CelMap, object], bool]:
    def fail(value: CelMap, other: object) -> bool:
        kind = "kubernetes.Quantity" if _QUANTITY in value else "kubernetes.Semver"
        raise ValueError(f"no such overload: {name}({kind}, {_CEL_NAMES[type(other)]})")

    return fail


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
        raise ValueError(f"error parsing regexp: {error}") from error


def _quantity(amount: Fraction) -> CelMap:
    return {_QUANTITY: str(amount)}


def _amount(value: CelMap) -> Fraction:
    if _QUANTITY not in value:
        raise ValueError("no such overload")
    return Fraction(value[_QUANTITY])


def _version(value: CelMap) -> Semver:
    if _SEMVER not in value:
        raise ValueError("no such overload")
    return parse_semver(value[_SEMVER])


def _compare(left: CelMap, right: CelMap) -> int:
    if _SEMVER in left:
        first, second = _version(left).rank, _version(right).rank
        return (first > second) - (first < second)
    return _sign(_amount(left) - _amount(right))


def _as_integer(value: CelMap) -> int:
    amount = _amount(value)
    if amount.denominator != 1:
        raise ValueError("cannot convert value to integer")
    return amount.numerator


def _sign(amount: Fraction) -> int:
    return (amount > 0) - (amount < 0)


def _is_semver(text: str, normalize: bool) -> bool:
    return _parses(lambda wanted: parse_semver(wanted, normalize), text)


def _parses(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True
