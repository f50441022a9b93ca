"""The functions that Kubernetes adds to CEL for quantities and versions, and the table of all added functions.

Place in the chain: declared with their own types for the check, and with maps for the evaluation, because the library
passes no values of own types to Python functions. A quantity is then `{"quantity": "80"}`.
Source: kubernetes/apiserver pkg/cel/library/quantity.go and semverlib.go.
"""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

from cel_expr_python import cel
from semver import Version

from gpuvitals_sim.cel.collections import Row, collection_rows
from gpuvitals_sim.cel.quantity import parse_quantity
from gpuvitals_sim.cel.semver import parse_semver

Type = cel.Type
CelMap = dict[str, Any]

MEMBERS = (
    "sign", "isInteger", "asInteger", "asApproximateFloat", "add", "sub", "major", "minor", "patch",
    "compareTo", "isLessThan", "isGreaterThan",
)  # fmt: skip
"""The member functions."""

SAME = "gv_same"
AMONG = "gv_among"
"""The replacements of `==`, and of `in` with a list of constants, for a left side that is a map."""

_INT64 = 2**63
_QUANTITY = "quantity"
_SEMVER = "semver"


def quantity_value(text: str) -> CelMap:
    """The evaluator's value of a quantity: equal amounts are equal maps. Raises ValueError."""
    return _quantity(parse_quantity(text))


def semver_value(text: str, normalize: bool = False) -> CelMap:
    """The evaluator's value of a version. Raises ValueError."""
    return {_SEMVER: str(parse_semver(text, normalize))}


def declarations(*, checked: bool) -> list[cel.FunctionDecl]:
    """The functions, declared for checking with types of their own or for evaluation with maps."""
    quantity = Type.AbstractType("kubernetes.Quantity") if checked else Type.MAP
    semver = Type.AbstractType("kubernetes.Semver") if checked else Type.MAP
    rows = [
        *_quantity_rows(quantity),
        *_semver_rows(semver),
        *_shared_rows(quantity, semver, checked),
        *collection_rows(checked=checked),
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


def _quantity_rows(quantity: Any) -> list[Row]:
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


def _semver_rows(semver: Any) -> list[Row]:
    return [
        ("semver", False, [Type.STRING], semver, semver_value),
        ("semver", False, [Type.STRING, Type.BOOL], semver, semver_value),
        ("isSemver", False, [Type.STRING], Type.BOOL, lambda text: _parses(parse_semver, text)),
        ("isSemver", False, [Type.STRING, Type.BOOL], Type.BOOL, _is_semver),
        ("major", True, [semver], Type.INT, lambda value: _version(value).major),
        ("minor", True, [semver], Type.INT, lambda value: _version(value).minor),
        ("patch", True, [semver], Type.INT, lambda value: _version(value).patch),
    ]


def _shared_rows(quantity: Any, semver: Any, checked: bool) -> list[Row]:
    """Functions of both types; for evaluation the two overloads are one."""
    rows: list[Row] = []
    for kind in (quantity, semver) if checked else (quantity,):
        rows += [
            ("compareTo", True, [kind, kind], Type.INT, partial(_compare, "compareTo")),
            ("isLessThan", True, [kind, kind], Type.BOOL, lambda a, b: _compare("isLessThan", a, b) < 0),
            (
                "isGreaterThan",
                True,
                [kind, kind],
                Type.BOOL,
                lambda a, b: _compare("isGreaterThan", a, b) > 0,
            ),
        ]
    if not checked:
        for name in ("compareTo", "isLessThan", "isGreaterThan"):
            rows += [
                (name, True, [Type.MAP, other], Type.BOOL, partial(_no_overload, name)) for other in _OTHERS
            ]
        rows.append((AMONG, False, [Type.MAP, Type.LIST], Type.BOOL, _among))
        rows += [(SAME, False, [Type.MAP, other], Type.BOOL, _same) for other in (*_OTHERS, Type.MAP)]
    return rows


_OTHERS = (Type.INT, Type.STRING, Type.BOOL, Type.DOUBLE)
_CEL_NAMES = {bool: "bool", int: "int", float: "double", str: "string"}


def _no_overload(name: str, value: CelMap, other: object) -> bool:
    raise ValueError(f"no such overload: {name}({_kind(value)}, {_kind(other)})")


def _kind(value: object) -> str:
    if isinstance(value, dict):
        return "kubernetes.Quantity" if _QUANTITY in value else "kubernetes.Semver"
    return _CEL_NAMES[type(value)]


def _same(value: CelMap, other: object) -> bool:
    """The result of `==` for a map. A quantity or a version can't be compared with another type. Raises ValueError."""
    for key in (_QUANTITY, _SEMVER):
        if set(value) == {key} and not (isinstance(other, dict) and set(other) == {key}):
            raise ValueError("no such overload")
    return value == other


def _quantity(amount: Fraction) -> CelMap:
    return {_QUANTITY: str(amount)}


def _amount(value: CelMap) -> Fraction:
    if _QUANTITY not in value:
        raise ValueError("no such overload")
    return Fraction(value[_QUANTITY])


def _version(value: CelMap) -> Version:
    if _SEMVER not in value:
        raise ValueError("no such overload")
    return parse_semver(value[_SEMVER])


def _among(value: CelMap, constants: list[object]) -> bool:
    """The result of `in` with constants. Kubernetes looks the value up by its hash, and a version has none."""
    if set(value) == {_SEMVER}:
        raise ValueError("internal error: runtime error: hash of unhashable type cel.Semver")
    return value in list(constants)


def _compare(name: str, left: CelMap, right: CelMap) -> int:
    if set(left) != set(right):
        _no_overload(name, left, right)
    if _SEMVER in left:
        return _version(left).compare(_version(right))
    return _sign(_amount(left) - _amount(right))


def _as_integer(value: CelMap) -> int:
    amount = _amount(value)
    if amount.denominator != 1 or not -_INT64 <= amount < _INT64:
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
