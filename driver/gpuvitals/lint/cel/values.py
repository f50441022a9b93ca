"""Static meanings of subexpressions of a selector.

`facts.py` computes them, the rules use them.
"""

from dataclasses import dataclass

from gpuvitals.lint.cel.tree import Value


@dataclass(frozen=True, slots=True)
class Device:
    """`device`."""


@dataclass(frozen=True, slots=True)
class Domains:
    """`device.attributes` or `device.capacity`; `which` is the field."""

    which: str


@dataclass(frozen=True, slots=True)
class Domain:
    """One domain of attributes or capacities; `name` is None if it is computed. `optional`: accessed with `?`."""

    which: str
    name: str | None
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A read of one key. `guarded`: the expression handles its absence. `optional`: the value is an optional.

    `filtered`: the read is evaluated only for devices of a known driver.
    """

    which: str
    domain: str
    key: str
    at: int
    guarded: bool
    optional: bool = False
    filtered: bool = False


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal value."""

    value: Value


@dataclass(frozen=True, slots=True)
class Constants:
    """A list of literal values."""

    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Driver:
    """`device.driver`."""


@dataclass(frozen=True, slots=True)
class Typed:
    """A value with a known type only: `bool`, `int`, `string`, `list`, `map`, `optional`."""

    name: str


@dataclass(frozen=True, slots=True)
class Missing:
    """A path that begins with a field that `device` does not have."""

    path: str
    at: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """Any other value."""


Meaning = Device | Domains | Domain | Read | Constant | Constants | Driver | Typed | Missing | Unknown
