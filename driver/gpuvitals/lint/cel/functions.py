"""Functions, macros and types of CEL and of Kubernetes' CEL libraries, with their result types.

Source: google/cel-spec doc/langdef.md; kubernetes/apiserver pkg/cel/library.
"""

from gpuvitals.lint.cel.values import Meaning, Typed, Unknown

TYPES = frozenset(
    [
        "bool",
        "bytes",
        "double",
        "dyn",
        "int",
        "list",
        "map",
        "null_type",
        "string",
        "timestamp",
        "duration",
        "type",
        "uint",
    ]
)
"""Names of types, which are no variables."""
ORDERING = frozenset(["compareTo", "isGreaterThan", "isLessThan"])
"""Methods that compare versions and quantities."""
LOOPS = frozenset(
    [
        "all",
        "exists",
        "exists_one",
        "existsOne",
        "filter",
        "map",
        "optMap",
        "optFlatMap",
        "transformList",
        "transformMap",
    ]
)
"""Macros with an own variable."""
_BOOLEAN = frozenset(
    [
        "all",
        "contains",
        "endsWith",
        "exists",
        "existsOne",
        "exists_one",
        "has",
        "hasValue",
        "isGreaterThan",
        "isInteger",
        "isLessThan",
        "isQuantity",
        "isSemver",
        "matches",
        "startsWith",
    ]
)
"""Functions that return a bool."""
_INTEGRAL = frozenset(
    ["asInteger", "compareTo", "indexOf", "int", "lastIndexOf", "major", "minor", "patch", "sign", "size"]
)
"""Functions that return an int."""


def result_type(function: str) -> Meaning:
    """The result type of a function, Unknown if it depends on the arguments or the function is unknown."""
    if function in _BOOLEAN:
        return Typed("bool")
    return Typed("int") if function in _INTEGRAL else Unknown()
