"""Rules about one CEL selector: from the facts of an expression to problems with offsets.

`requests.py` and `classes.py` apply the rules that need the context of the selector.
"""

import math
from collections.abc import Iterator

from gpuvitals.inventory.attributes import semver
from gpuvitals.lint.cel.facts import Comparison, Condition, Facts
from gpuvitals.lint.cel.tree import Value
from gpuvitals.lint.cel.values import Constant, Constants, Domain, Domains, Driver, Missing, Read, Typed
from gpuvitals.lint.findings import Level, Problem
from gpuvitals.lint.vocabulary import STANDARD, Attribute, Kind, Vocabulary, nearest

_ABSENT = {
    Kind.INT: "0",
    Kind.STRING: '""',
    Kind.BOOL: "false",
    Kind.VERSION: 'semver("0.0.0")',
    Kind.QUANTITY: 'quantity("0")',
}
_FIELDS = ("driver", "attributes", "capacity", "allowMultipleAllocations")
_ORDERING = ("compareTo", "isGreaterThan", "isLessThan")


def problems(found: Facts, vocabulary: Vocabulary) -> Iterator[Problem]:
    """The problems of the expression itself, unsorted."""
    yield from _names(found, vocabulary)
    for condition in found.conditions:
        yield from _condition(condition, vocabulary)
    for read in found.reads:
        yield from _read(read, vocabulary)
    for comparison in found.comparisons:
        attribute = _attribute(comparison.read, vocabulary)
        if attribute is not None:
            yield from _comparison(comparison, attribute, vocabulary)


def unfiltered_reads(found: Facts, vocabulary: Vocabulary, *, any_domain: bool) -> Iterator[Problem]:
    """Reads on devices of an unknown driver. Without `any_domain`, only reads of gpuvitals domains."""
    driver = vocabulary.naming.driver
    for read in found.reads:
        if read.guarded or read.filtered or not (any_domain or vocabulary.owns(read.domain)):
            continue
        yield Problem(
            "driver-filter",
            f"reads {attribute_name(read)} on devices of every driver, and a device without it fails the pod's scheduling; "
            f'begin with: device.driver == "{driver}" &&',
            read.at,
        )
        return


def reads_health(found: Facts, vocabulary: Vocabulary) -> bool:
    """Whether the expression reads a health attribute."""
    return any(read.domain == vocabulary.naming.attribute_domain for read in found.reads)


def attribute_name(read: Read) -> str:
    """The attribute in the notation `health/score`."""
    return f"{read.domain}/{read.key}"


def _names(found: Facts, vocabulary: Vocabulary) -> Iterator[Problem]:
    for missing in found.missing.values():
        yield Problem("no-such-field", _no_such_field(missing, vocabulary), missing.at)
    for name in found.names:
        near = nearest(name.name, ("device",))
        yield Problem(
            "no-such-field",
            f"{name.name!r} is undefined; "
            + (f"write {near}" if near else "the only variable of an expression is device"),
            name.at,
        )


def _no_such_field(missing: Missing, vocabulary: Vocabulary) -> str:
    parts = missing.path.split(".")
    attribute = vocabulary.find_in_any_domain("attributes", parts[-1])
    if attribute is not None:
        return (
            f'{missing.path} does not compile; write device.attributes["{attribute.domain}"].{attribute.key}'
        )
    near = nearest(parts[1], _FIELDS) if len(parts) > 1 else None
    instead = f"write device.{near}" if near else "attributes are read as device.attributes[domain].name"
    return f"{missing.path} does not compile; {instead}"


def _condition(condition: Condition, vocabulary: Vocabulary) -> Iterator[Problem]:
    match condition.meaning:
        case Read(optional=True):
            found = "an optional value"
        case Read() as read:
            attribute = _attribute(read, vocabulary)
            if attribute is None or attribute.kind is Kind.BOOL:
                return
            found = f"{attribute.kind.value} ({attribute_name(read)})"
        case Constant(value=bool()):
            return
        case Constant() | Constants():
            found = "a constant"
        case Domain() | Domains():
            found = "a map"
        case Driver():
            found = "a string (device.driver)"
        case Typed(name=name) if name != "bool":
            found = f"a value of type {name}"
        case _:
            return
    subject = "the expression" if condition.whole else "an operand that must be a boolean"
    yield Problem("not-bool", f"{subject} is {found}; compare it with a value", condition.at)


def _read(read: Read, vocabulary: Vocabulary) -> Iterator[Problem]:
    attribute = _attribute(read, vocabulary)
    if attribute is None:
        yield from _unknown(read, vocabulary)
    elif not attribute.always and not read.guarded:
        yield Problem(
            "missing-key",
            f"some devices do not have {attribute_name(read)}, and a device without it fails the pod's scheduling; "
            f"write .?{read.key}.orValue({_ABSENT[attribute.kind]})",
            read.at,
        )


def _unknown(read: Read, vocabulary: Vocabulary) -> Iterator[Problem]:
    if vocabulary.owns(read.domain):
        yield Problem(
            "unknown-attribute", unknown_attribute(read.which, read.domain, read.key, vocabulary), read.at
        )
        return
    naming = vocabulary.naming
    near = nearest(read.domain, (naming.driver, naming.attribute_domain, STANDARD))
    if near is not None and near != read.domain and vocabulary.find(read.which, near, read.key) is not None:
        text = f"{attribute_name(read)} is not published; did you mean {near}/{read.key}?"
        yield Problem("unknown-attribute", text, read.at)


def unknown_attribute(which: str, domain: str, key: str, vocabulary: Vocabulary) -> str:
    """The text about a key that gpuvitals does not publish."""
    text = f"{domain}/{key} is not published as {'a capacity' if which == 'capacity' else 'an attribute'}"
    other = vocabulary.find_in_any_domain(which, key)
    if other is not None:
        return f'{text}; write device.{which}["{other.domain}"].{other.key}'
    near = vocabulary.nearest(which, domain, key)
    return (
        f"{text}; did you mean {domain}/{near}?"
        if near
        else f"{text}; see the list of attributes in docs/guides/claims.md"
    )


def _attribute(read: Read, vocabulary: Vocabulary) -> Attribute | None:
    return vocabulary.find(read.which, read.domain, read.key)


def _comparison(found: Comparison, attribute: Attribute, vocabulary: Vocabulary) -> Iterator[Problem]:
    value = found.value
    match attribute.kind:
        case Kind.VERSION | Kind.QUANTITY:
            yield from _ordered(found, attribute)
        case Kind.INT if _is_number(value):
            yield from _number(found, attribute, value)
        case Kind.STRING if isinstance(value, str):
            yield from _word(found, attribute, value, vocabulary)
        case Kind.BOOL if isinstance(value, bool):
            return
        case _ if found.operator in _ORDERING:
            return
        case _:
            yield _of_another_type(found, attribute)


def _ordered(found: Comparison, attribute: Attribute) -> Iterator[Problem]:
    name, value = _constructor(found, attribute)
    if found.operator == "orValue":
        text = f"the default of {attribute_name(found.read)} is {_type(found.value)}, but the attribute is {attribute.kind.value}"
        yield Problem("type", f"{text}; write orValue({_ABSENT[attribute.kind]})", found.at)
        return
    yield Problem(
        "type",
        f"{attribute_name(found.read)} is {attribute.kind.value} and {_consequence(found)} with {_type(found.value)}; "
        f'write .compareTo({name}("{value}")) and compare the result with 0',
        found.at,
    )


def _constructor(found: Comparison, attribute: Attribute) -> tuple[str, str]:
    """The constructor of the attribute's type, and a valid argument."""
    written = found.value if isinstance(found.value, str) else ""
    if attribute.kind is Kind.QUANTITY:
        return "quantity", written or "40Gi"
    version = semver(written)
    return "semver", version.text if version is not None else "1.2.3"


def _number(found: Comparison, attribute: Attribute, value: Value) -> Iterator[Problem]:
    assert isinstance(value, int | float)
    if isinstance(value, float) and not value.is_integer():
        yield Problem("fraction", _fraction(found, attribute, value), found.at)
    elif found.operator in ("<", "<=", ">", ">=", "==", "!=", "in"):
        answer = _constant_answer(found.operator, value, attribute)
        if answer is not None:
            yield Problem("always", _always(found, attribute, answer), found.at)


def _fraction(found: Comparison, attribute: Attribute, value: float) -> str:
    name = attribute_name(found.read)
    if attribute.highest != 100 or not 0 < value < 1:
        return f"{name} is a whole number, {_written(value)} is not; write {_whole(value)}"
    text = f"{name} is a whole number from 0 to 100; {found.operator} {_written(value)} is "
    effect = "true for every value from 1" if found.operator in (">", ">=") else "probably not intended"
    return f"{text}{effect}; write {found.operator} {round(value * 100)}"


def _constant_answer(operator: str, value: int | float, attribute: Attribute) -> bool | None:
    """The result if it is the same for every possible value, else None."""
    low = attribute.lowest if attribute.lowest is not None else -math.inf
    high = attribute.highest if attribute.highest is not None else math.inf
    match operator:
        case ">" | "<=":
            answer = True if low > value else False if high <= value else None
            return answer if operator == ">" or answer is None else not answer
        case ">=" | "<":
            answer = True if low >= value else False if high < value else None
            return answer if operator == ">=" or answer is None else not answer
        case _:
            return None if low <= value <= high else operator == "!="


def _always(found: Comparison, attribute: Attribute, answer: bool) -> str:
    bounds = "0 to 100" if attribute.highest == 100 else "0 or more"
    result = "true" if answer else "false"
    relation = "is never" if found.operator == "in" else f"{found.operator}"
    return (
        f"{attribute_name(found.read)} is {bounds}, so '{relation} {_written(found.value)}' is {result} for every device; "
        "remove it or write another number"
    )


def _word(found: Comparison, attribute: Attribute, value: str, vocabulary: Vocabulary) -> Iterator[Problem]:
    name = attribute_name(found.read)
    if found.operator in ("==", "!=", "in") and not vocabulary.is_value(attribute, value):
        near = nearest(value, attribute.values)
        instead = f'write "{near}"' if near else f"write one of {', '.join(attribute.values)}"
        yield Problem("unknown-value", f'{name} is never "{value}"; {instead}', found.at)
    of_nvlink = (attribute.domain, attribute.key) == (vocabulary.naming.attribute_domain, "nvlinkStatus")
    if of_nvlink and found.operator == "==" and value == "active":
        yield Problem(
            "nvlink-none",
            f'{name} is "none" on models without NVLink, which this expression excludes; '
            f'to include them, write {found.read.key} in ["active", "none"]',
            found.at,
            Level.HINT,
        )


def _of_another_type(found: Comparison, attribute: Attribute) -> Problem:
    instead = "a number without quotes" if attribute.kind is Kind.INT else "a string in quotes"
    name = attribute_name(found.read)
    if found.operator == "orValue":
        text = f"the default of {name} is {_type(found.value)}, but the attribute is {attribute.kind.value}"
        return Problem("type", f"{text}; write orValue({_ABSENT[attribute.kind]})", found.at)
    return Problem(
        "type",
        f"{name} is {attribute.kind.value} and {_consequence(found)} with {_type(found.value)}; write {instead}",
        found.at,
    )


def _consequence(found: Comparison) -> str:
    match found.operator:
        case "==" | "in":
            return "the comparison is always false"
        case "!=":
            return "the comparison is always true"
        case _:
            return "the comparison fails the pod's scheduling"


def _type(value: Value) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a bool"
        case int() | float():
            return "a number"
        case bytes():
            return "bytes"
        case str():
            return "a string"


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _written(value: Value) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _whole(value: float) -> str:
    return str(round(value)) if math.isfinite(value) else "a whole number"
