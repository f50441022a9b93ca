"""Reads a scenario file; errors name file, line and field.

Place in the chain: the entry of untrusted text. A loaded Scenario can be played.
"""

import json
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gpuvitals_sim.scenario.model import Scenario
from gpuvitals_sim.scenario.validation import impossible
from gpuvitals_sim.scenario.yaml_document import Document, DocumentError, Place, read_document

_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One error: 1-based line, 0 without a text; field as `steps[0].do[2].xid.gpu`; message."""

    line: int
    field: str
    message: str


class ScenarioError(ValueError):
    """The scenario can't be played. The message is one line for the first problem; `problems` has all, by line."""

    def __init__(self, source: str, problems: list[Problem]) -> None:
        first = problems[0]
        field = f" {first.field}:" if first.field else ""
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        where = f"{source}:{first.line}" if first.line else source
        super().__init__(f"{where}:{field} {first.message}; the scenario is not run{more}")
        self.source = source
        self.problems = tuple(problems)


def load(path: Path) -> Scenario:
    """The scenario in this file. Raises ScenarioError, also for an unreadable file."""
    try:
        with path.open("rb") as stream:
            body = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ScenarioError(
            str(path), [Problem(line=0, field="", message=str(error.strerror).lower())]
        ) from error
    return parse(body, str(path))


def load_builtin(name: str) -> Scenario:
    """A scenario that ships with the package. Raises ScenarioError if there is none of this name."""
    if name not in builtin_names():
        known = ", ".join(builtin_names())
        raise ScenarioError(name, [Problem(line=0, field="", message=f"no such scenario; there are {known}")])
    return parse((_folder() / f"{name}.yaml").read_bytes(), f"{name}.yaml")


def builtin_names() -> tuple[str, ...]:
    """Names of the scenarios that ship with the package."""
    return tuple(
        sorted(
            entry.name.removesuffix(".yaml") for entry in _folder().iterdir() if entry.name.endswith(".yaml")
        )
    )


def parse(body: bytes, source: str) -> Scenario:
    """The scenario in this text; `source` names it in errors. Raises ScenarioError."""
    if len(body) > _MAX_BYTES:
        raise ScenarioError(source, [Problem(line=0, field="", message=f"larger than {_MAX_BYTES} bytes")])
    try:
        document = read_document(body)
    except DocumentError as error:
        raise ScenarioError(source, [Problem(line=error.line, field="", message=str(error))]) from error
    try:
        scenario = Scenario.model_validate_json(json.dumps(document.value, default=str))
    except ValidationError as error:
        problems = [_problem(document, item["loc"], _message(item)) for item in error.errors()]
        raise ScenarioError(source, sorted(problems, key=_line)) from error
    problems = [_problem(document, place, message) for place, message in impossible(scenario)]
    if problems:
        raise ScenarioError(source, sorted(problems, key=_line))
    return scenario


def _folder() -> Traversable:
    return files("gpuvitals_sim") / "scenarios"


def _line(problem: Problem) -> int:
    return problem.line


def _problem(document: Document, place: Place, message: str) -> Problem:
    line, known = document.locate(place)
    return Problem(line=line, field=_spelled(known), message=message)


def _spelled(place: Place) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in place]
    return "".join(parts).removeprefix(".")


def _message(item: ErrorDetails) -> str:
    if item["type"] == "extra_forbidden":
        return f"unknown field {item['loc'][-1]!r}"
    if item["type"] == "missing":
        return f"field {item['loc'][-1]!r} is missing"
    text = item["msg"].removeprefix("Value error, ")
    given = item["input"]
    seen = f", not {given!r}" if isinstance(given, (str, int, float)) and repr(given) not in text else ""
    return text[:1].lower() + text[1:] + seen
