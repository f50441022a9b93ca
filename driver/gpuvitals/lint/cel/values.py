"""What a part of a selector stands for, as far as the text alone tells.

Place in the chain: `facts.py` computes these; rules see them in the facts.
"""

from dataclasses import dataclass

from gpuvitals.lint.cel.tree import Value


@dataclass(frozen=True, slots=True)
class Device:
    """`device`."""


@dataclass(frozen=True, slots=True)
class Domains:
    """`device.attributes` or `device.capacity`, as `which` says."""

    which: str


@dataclass(frozen=True, slots=True)
class Domain:
    """One domain of them; `name` is None where it is computed. `optional`: what is read from it may be absent."""

    which: str
    name: str | None
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """One key of a device. `guarded`: absence is provided for. `optional`: the value is still wrapped.

    `filtered`: it is read only where the device's driver is known.
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
    """A value written down."""

    value: Value


@dataclass(frozen=True, slots=True)
class Constants:
    """A list whose items are all written down."""

    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Driver:
    """`device.driver`."""


@dataclass(frozen=True, slots=True)
class Typed:
    """Something of which only the type is known: `bool`, `int`, `string`, `list`, `map`, `optional`."""

    name: str


@dataclass(frozen=True, slots=True)
class Missing:
    """A field that `device` does not have, with what follows it."""

    path: str
    at: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """Anything else."""


Meaning = Device | Domains | Domain | Read | Constant | Constants | Driver | Typed | Missing | Unknown
