"""What the linter says: one finding a line, and the list of its rules.

Place in the chain: the rules make problems, the linter gives them their line.
"""

from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """A FINDING is wrong; a HINT is right on some clusters and wrong on others."""

    FINDING = "finding"
    HINT = "hint"


RULES = {
    "syntax": "the expression is no CEL",
    "no-such-field": "`device` has no such field, or the name is not defined: the API server refuses the claim",
    "not-bool": "the expression, or a part that has to be true or false, is another value",
    "unknown-attribute": "gpuvitals publishes no attribute of this name",
    "missing-key": "the attribute is not on every device, and reading what is absent ends the pod's scheduling",
    "fraction": "a whole number is compared with a fraction",
    "always": "the comparison has the same answer for every device",
    "type": "a value is compared with a value of another type",
    "unknown-value": "the attribute never has this value",
    "driver-filter": "attributes are read from devices of every driver",
    "all-tainted": "`allocationMode: All` without a selector on health fails with the first tainted device",
    "toleration": "a taint of ours is tolerated and nothing selects the device that is meant",
    "unknown-taint": "gpuvitals sets no taint of this key or value",
    "nvlink-none": "`active` leaves out the models that have no NVLink",
    "reference": "a pod names a claim, a template or a request that is not there",
    "unused-claim": "a pod has a claim that none of its containers uses",
}
"""Every rule, with what it is about; the guide shows this list."""


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Finding:
    """One thing to change. `field` is the place in the object, `text` says what is wrong and what to write instead."""

    file: str
    line: int
    field: str
    rule: str
    text: str
    level: str = Level.FINDING.value

    def __str__(self) -> str:
        """The line that a person reads."""
        hint = "hint: " if self.level == Level.HINT.value else ""
        return f"{self.file}:{self.line}: [{self.rule}] {self.field}: {hint}{self.text}"


@dataclass(frozen=True, slots=True)
class Problem:
    """A finding before its place is known; `at` is the offset in the expression."""

    rule: str
    text: str
    at: int = 0
    level: Level = Level.FINDING


class BadInput(ValueError):
    """The file is not what the linter reads; `line` is 1-based, 0 where there is none."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line
