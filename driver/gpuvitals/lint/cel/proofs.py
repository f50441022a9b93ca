"""Facts about a device that follow from a condition being true or false: keys that it has, and its driver.

`facts.py` uses them for the operands that are evaluated together with the condition.
"""

from collections.abc import Callable
from dataclasses import dataclass

from gpuvitals.lint.cel.tree import Binary, Call, Index, Literal, Logic, Name, Node, Select, Unary
from gpuvitals.lint.cel.values import Constant, Domain, Driver, Meaning, Read, Unknown

MeaningOf = Callable[[Node], Meaning]


@dataclass(frozen=True, slots=True)
class HasKey:
    """The device has the key."""

    which: str
    domain: str | None
    key: str


@dataclass(frozen=True, slots=True)
class OfDriver:
    """The device is this driver's."""

    name: str


Proof = HasKey | OfDriver


def proofs(node: Node, truth: bool, meaning_of: MeaningOf) -> frozenset[Proof]:
    """The facts that follow if `node` evaluates to `truth`. `meaning_of` returns the meaning of a subexpression."""
    match node:
        case Unary(operator="!", operand=operand):
            return proofs(operand, not truth, meaning_of)
        case Logic(operator=operator, operands=operands):
            if (operator == "&&") is not truth:
                return frozenset()
            return frozenset().union(*(proofs(operand, truth, meaning_of) for operand in operands))
        case Call(target=Name(name="cel"), function="bind", arguments=(_, _, body)):
            return proofs(body, truth, meaning_of)
        case Call(target=None, function="has", arguments=(Select(operand=operand, field=field),)) if truth:
            return _key(_path(operand, meaning_of), field)
        case Call(target=target, function="hasValue", arguments=()) if truth and target is not None:
            return _read(_path(target, meaning_of))
        case Binary(operator="in", left=Literal(value=str(key)), right=right) if truth:
            return _key(_path(right, meaning_of), key)
        case Binary(operator="==" | "!=" as operator, left=left, right=right) if (operator == "==") is truth:
            one, other = _path(left, meaning_of), _path(right, meaning_of)
            return _driver(one, other) | _driver(other, one)
        case _:
            return frozenset()


def _path(node: Node, meaning_of: MeaningOf) -> Meaning:
    """The meaning of a field path or a constant, Unknown for other expressions, which are not evaluated again."""
    return meaning_of(node) if _is_path(node) else Unknown()


def _is_path(node: Node) -> bool:
    while True:
        match node:
            case Select(operand=operand) | Index(operand=operand, key=Literal()):
                node = operand
            case _:
                return isinstance(node, Name | Literal)


def _read(read: Meaning) -> frozenset[Proof]:
    return frozenset({HasKey(read.which, read.domain, read.key)}) if isinstance(read, Read) else frozenset()


def _key(owner: Meaning, key: str) -> frozenset[Proof]:
    return frozenset({HasKey(owner.which, owner.name, key)}) if isinstance(owner, Domain) else frozenset()


def _driver(one: Meaning, other: Meaning) -> frozenset[Proof]:
    if isinstance(one, Driver) and isinstance(other, Constant) and isinstance(other.value, str):
        return frozenset({OfDriver(other.value)})
    return frozenset()
