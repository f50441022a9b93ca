"""The syntax tree of a CEL expression. `at` is the offset of a node's main token.

The parser builds the tree, `facts.py` walks it.
"""

from dataclasses import dataclass

Value = int | float | str | bytes | bool | None


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant."""

    at: int
    value: Value


@dataclass(frozen=True, slots=True)
class Name:
    """A variable, a type, or the namespace of a function."""

    at: int
    name: str


@dataclass(frozen=True, slots=True)
class Select:
    """`operand.field`, or with `optional` `operand.?field`."""

    at: int
    operand: "Node"
    field: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Index:
    """`operand[key]`, or with `optional` `operand[?key]`."""

    at: int
    operand: "Node"
    key: "Node"
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """`function(arguments)`, or a member's `target.function(arguments)`."""

    at: int
    target: "Node | None"
    function: str
    arguments: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Unary:
    """`!operand` or `-operand`."""

    at: int
    operator: str
    operand: "Node"


@dataclass(frozen=True, slots=True)
class Binary:
    """A comparison, `in`, or an arithmetic operation."""

    at: int
    operator: str
    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class Logic:
    """`&&` or `||` with two or more operands. Their order is irrelevant: CEL ignores an error if another operand decides."""

    at: int
    operator: str
    operands: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Ternary:
    """`condition ? yes : no`."""

    at: int
    condition: "Node"
    yes: "Node"
    no: "Node"


@dataclass(frozen=True, slots=True)
class ListOf:
    """`[items]`."""

    at: int
    items: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class MapOf:
    """`{key: value}`, or a message `Type{field: value}` without its field names."""

    at: int
    parts: tuple["Node", ...]


Node = Literal | Name | Select | Index | Call | Unary | Binary | Logic | Ternary | ListOf | MapOf
