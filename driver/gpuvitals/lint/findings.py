"""Findings of the linter, and the list of its rules.

Rules return a Problem with an offset, the linter converts it into a Finding with a line.
"""

from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """A FINDING is a mistake. A HINT is a mistake on some clusters only."""

    FINDING = "finding"
    HINT = "hint"


RULES = {
    "syntax": "the expression is not valid CEL",
    "no-such-field": "`device` has no such field, or the name is undefined: the API server rejects the claim",
    "not-bool": "the expression, or an operand that must be a boolean, has another type",
    "unknown-attribute": "gpuvitals publishes no attribute with this name",
    "missing-key": "some devices do not have the attribute, and reading an absent attribute fails the pod's scheduling",
    "fraction": "a whole number is compared with a fraction",
    "always": "the comparison has the same result for every device",
    "type": "a value is compared with a value of another type",
    "unknown-value": "the attribute never has this value",
    "driver-filter": "the expression reads attributes on devices of every driver",
    "all-tainted": "`allocationMode: All` without a selector on health fails with the first tainted device",
    "toleration": "the request tolerates a gpuvitals taint without selecting the intended device",
    "unknown-taint": "gpuvitals sets no taint with this key or value",
    "nvlink-none": "`active` excludes models without NVLink",
    "reference": "a pod names a claim, a template or a request that does not exist",
    "unused-claim": "a pod has a claim that no container uses",
}
"""Every rule with its description. docs/guides/claims.md has the same list."""


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Finding:
    """One mistake. `field` is the path in the object, `text` is the mistake and its correction."""

    file: str
    line: int
    field: str
    rule: str
    text: str
    level: str = Level.FINDING.value

    def __str__(self) -> str:
        """The finding as one line of text."""
        hint = "hint: " if self.level == Level.HINT.value else ""
        return f"{self.file}:{self.line}: [{self.rule}] {self.field}: {hint}{self.text}"


@dataclass(frozen=True, slots=True)
class Problem:
    """A finding without its line; `at` is the offset in the expression."""

    rule: str
    text: str
    at: int = 0
    level: Level = Level.FINDING


class BadInput(ValueError):
    """The file can't be read by the linter. `line` is 1-based, 0 if unknown."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line
