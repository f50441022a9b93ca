"""The facts of a selector: reads, comparisons, conditions, unknown fields and undefined names.

The rules use these facts, not the syntax tree.
"""

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from gpuvitals.lint.cel.functions import LOOPS, ORDERING, TYPES, result_type
from gpuvitals.lint.cel.parser import parsed
from gpuvitals.lint.cel.proofs import HasKey, OfDriver, Proof, proofs
from gpuvitals.lint.cel.tokens import SyntaxProblem
from gpuvitals.lint.cel.tree import (
    Binary,
    Call,
    Index,
    ListOf,
    Literal,
    Logic,
    MapOf,
    Name,
    Node,
    Select,
    Ternary,
    Unary,
    Value,
)
from gpuvitals.lint.cel.values import (
    Constant,
    Constants,
    Device,
    Domain,
    Domains,
    Driver,
    Meaning,
    Missing,
    Read,
    Typed,
    Unknown,
)

RELATIONS = ("==", "!=", "<", "<=", ">", ">=")
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_NOTHING: frozenset[Proof] = frozenset()


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison of a key with a constant: a relation with the key on the left, `in`, `orValue` or an ordering method."""

    read: Read
    operator: str
    value: Value
    at: int


@dataclass(frozen=True, slots=True)
class Condition:
    """An expression that must be a boolean: the whole selector (`whole`) or an operand of `&&`, `||`, `!` or `?:`."""

    meaning: Meaning
    at: int
    whole: bool


@dataclass(slots=True)
class Facts:
    """All facts of one expression. `drivers`: the possible drivers of a device that it selects."""

    reads: list[Read] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    conditions: list[Condition] = field(default_factory=list)
    missing: dict[int, Missing] = field(default_factory=dict)
    names: list[Name] = field(default_factory=list)
    drivers: frozenset[str] = frozenset()


def facts(text: str) -> Facts:
    """The facts of an expression. Raises SyntaxProblem."""
    try:
        tree = parsed(text)
        walker = _Walker()
        meaning = walker.walk(tree, _Scope())
        walker.facts.conditions.append(Condition(meaning, tree.at, whole=True))
        known = proofs(tree, True, lambda node: _Walker().walk(node, _Scope()))
    except RecursionError as error:
        raise SyntaxProblem("nested too deeply to be read", 0) from error
    walker.facts.drivers = frozenset(proof.name for proof in known if isinstance(proof, OfDriver))
    return walker.facts


@dataclass(frozen=True, slots=True)
class _Scope:
    """Bound names, and the facts known about the device at this point."""

    names: Mapping[str, Meaning] = field(default_factory=dict)
    known: frozenset[Proof] = _NOTHING

    def bind(self, name: str, meaning: Meaning) -> "_Scope":
        return _Scope({**self.names, name: meaning}, self.known)

    def with_proofs(self, more: frozenset[Proof]) -> "_Scope":
        return _Scope(self.names, self.known | more)


class _Walker:
    """Walks a syntax tree and collects its facts."""

    def __init__(self) -> None:
        self.facts = Facts()

    def walk(self, node: Node, scope: _Scope) -> Meaning:
        """The meaning of the node. Records the facts of the node and its operands."""
        match node:
            case Literal(value=value):
                return Constant(value)
            case Name():
                return self._name(node, scope)
            case Select():
                return self._select(node, scope)
            case Index():
                return self._index(node, scope)
            case Call():
                return self._call(node, scope)
            case Unary(operand=operand):
                inner = self.walk(operand, scope)
                if node.operator == "!":
                    self.facts.conditions.append(Condition(inner, operand.at, whole=False))
                    return Typed("bool")
                return Unknown()
            case Binary():
                return self._binary(node, scope)
            case Logic():
                return self._logic(node, scope)
            case Ternary():
                return self._ternary(node, scope)
            case ListOf(items=items):
                inside = [self.walk(item, scope) for item in items]
                values = [item.value for item in inside if isinstance(item, Constant)]
                return Constants(tuple(values)) if len(values) == len(inside) else Typed("list")
            case MapOf(parts=parts):
                for part in parts:
                    self.walk(part, scope)
                return Typed("map")

    def _name(self, node: Name, scope: _Scope) -> Meaning:
        if node.name in scope.names:
            return scope.names[node.name]
        if node.name == "device":
            return Device()
        if node.name not in TYPES:
            self.facts.names.append(node)
        return Unknown()

    def _select(self, node: Select, scope: _Scope) -> Meaning:
        owner = self.walk(node.operand, scope)
        match owner:
            case Device():
                return self._device_field(node)
            case Missing(path=path, at=at):
                return self._miss(f"{path}.{node.field}", at)
            case Domains(which=which):
                return Domain(which, node.field, node.optional)
            case Domain():
                return self._read(owner, node.field, node, scope)
            case _:
                return Unknown()

    def _device_field(self, node: Select) -> Meaning:
        match node.field:
            case "attributes" | "capacity":
                return Domains(node.field)
            case "driver":
                return Driver()
            case "allowMultipleAllocations":
                return Typed("bool")
            case _:
                return self._miss(f"device.{node.field}", node.at)

    def _miss(self, path: str, at: int) -> Meaning:
        found = Missing(path, at)
        self.facts.missing[at] = found
        return found

    def _index(self, node: Index, scope: _Scope) -> Meaning:
        owner, key = self.walk(node.operand, scope), self.walk(node.key, scope)
        name = key.value if isinstance(key, Constant) and isinstance(key.value, str) else None
        match owner:
            case Device():
                return self._miss(f'device["{name}"]' if name else "device[...]", node.at)
            case Missing(path=path, at=at):
                return self._miss(f"{path}[...]", at)
            case Domains(which=which):
                return Domain(which, name, node.optional)
            case Domain() if name is not None:
                return self._read(owner, name, node, scope)
            case _:
                return Unknown()

    def _read(self, owner: Domain, key: str, node: Select | Index, scope: _Scope) -> Meaning:
        if owner.name is None:
            return Unknown()
        optional = owner.optional or node.optional
        found = Read(
            which=owner.which,
            domain=owner.name,
            key=key,
            at=node.at,
            guarded=optional or HasKey(owner.which, owner.name, key) in scope.known,
            optional=optional,
            filtered=any(isinstance(proof, OfDriver) for proof in scope.known),
        )
        self.facts.reads.append(found)
        return found

    def _binary(self, node: Binary, scope: _Scope) -> Meaning:
        left, right = self.walk(node.left, scope), self.walk(node.right, scope)
        if node.operator == "in":
            if isinstance(left, Read) and isinstance(right, Constants):
                for value in right.items:
                    self._compare(left, "in", value, node.at)
        elif node.operator in RELATIONS:
            if isinstance(left, Read) and isinstance(right, Constant):
                self._compare(left, node.operator, right.value, node.at)
            elif isinstance(right, Read) and isinstance(left, Constant):
                self._compare(right, _FLIPPED.get(node.operator, node.operator), left.value, node.at)
        else:
            return Unknown()
        return Typed("bool")

    def _compare(self, read: Read, operator: str, value: Value, at: int) -> None:
        self.facts.comparisons.append(Comparison(read, operator, value, at))

    def _logic(self, node: Logic, scope: _Scope) -> Meaning:
        """Walks each operand with the facts that the others prove, since CEL ignores an error if another operand decides."""
        truth = node.operator == "&&"
        shown = [self._proofs(operand, truth, scope) for operand in node.operands]
        before = list(accumulate(shown[:-1], operator.or_, initial=_NOTHING))
        behind = list(accumulate(reversed(shown[1:]), operator.or_, initial=_NOTHING))[::-1]
        for operand, earlier, later in zip(node.operands, before, behind, strict=True):
            meaning = self.walk(operand, scope.with_proofs(earlier | later))
            self.facts.conditions.append(Condition(meaning, operand.at, whole=False))
        return Typed("bool")

    def _ternary(self, node: Ternary, scope: _Scope) -> Meaning:
        condition = self.walk(node.condition, scope)
        self.facts.conditions.append(Condition(condition, node.condition.at, whole=False))
        yes = self.walk(node.yes, scope.with_proofs(self._proofs(node.condition, True, scope)))
        no = self.walk(node.no, scope.with_proofs(self._proofs(node.condition, False, scope)))
        return yes if yes == no else Unknown()

    def _proofs(self, node: Node, truth: bool, scope: _Scope) -> frozenset[Proof]:
        return proofs(node, truth, lambda part: _Walker().walk(part, scope))

    def _call(self, node: Call, scope: _Scope) -> Meaning:
        if node.target is None:
            return self._function(node, scope)
        match node:
            case Call(target=Name(name="cel"), function="bind", arguments=(Name(name=name), value, body)):
                return self.walk(body, scope.bind(name, self.walk(value, scope)))
            case Call(target=Name(name=name)) if name not in scope.names and name != "device":
                self._walk_all(node.arguments, scope)
                return result_type(node.function)
        target = self.walk(node.target, scope)
        if node.function in LOOPS and len(node.arguments) > 1:
            return self._loop(node, scope)
        given = [self.walk(argument, scope) for argument in node.arguments]
        if isinstance(target, Read):
            return self._method(node, target, given)
        return result_type(node.function)

    def _function(self, node: Call, scope: _Scope) -> Meaning:
        match node:
            case Call(function="has", arguments=(Select() as select,)):
                tested = Select(select.at, select.operand, select.field, optional=True)
                self.walk(tested, scope)
            case _:
                self._walk_all(node.arguments, scope)
        return result_type(node.function)

    def _loop(self, node: Call, scope: _Scope) -> Meaning:
        """Walks the body of a macro, whose variables have an unknown meaning."""
        inside, bodies = scope, []
        for place, argument in enumerate(node.arguments):
            if isinstance(argument, Name) and place < len(node.arguments) - 1:
                inside = inside.bind(argument.name, Unknown())
            else:
                bodies.append(argument)
        self._walk_all(tuple(bodies), inside)
        return result_type(node.function)

    def _method(self, node: Call, target: Read, given: list[Meaning]) -> Meaning:
        constants = [one.value for one in given if isinstance(one, Constant)]
        if node.function == "orValue" and target.optional:
            for value in constants:
                self._compare(target, "orValue", value, node.at)
            return _unwrapped(target)
        if node.function == "value" and target.optional:
            return _unwrapped(target)
        if node.function in ORDERING:
            for value in constants:
                self._compare(target, node.function, value, node.at)
        return result_type(node.function)

    def _walk_all(self, nodes: tuple[Node, ...], scope: _Scope) -> None:
        for node in nodes:
            self.walk(node, scope)


def _unwrapped(read: Read) -> Read:
    return Read(
        which=read.which,
        domain=read.domain,
        key=read.key,
        at=read.at,
        guarded=True,
        filtered=read.filtered,
    )
