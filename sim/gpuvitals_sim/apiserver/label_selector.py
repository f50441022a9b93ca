"""Label selectors: their text parsed into requirements, with the real server's refusals.

Place in the chain: `selectors.py` matches objects with the requirements.
Source: kubernetes/apimachinery pkg/labels/selector.go.
"""

import re
from dataclasses import dataclass
from typing import NoReturn

from gpuvitals_sim.apiserver.errors import bad_request, invalid_value
from gpuvitals_sim.apiserver.strategy.names import label_value_complaints, qualified_name_complaints

_TOKEN = re.compile(r"==|!=|[=!<>(),]|[^\s=!<>(),]+")
_SYMBOLS = frozenset(("==", "!=", "=", "!", "<", ">", "(", ")", ",", ""))
_OPERATORS = ("in", "notin", "=", "==", "!=", "<", ">")
_END = "',' or 'end of string'"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term. `operator` is exists, !, in, notin, =, !=, < or >."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


def requirements(text: str) -> list[Requirement]:
    """The terms of a selector. Raises ApiError 400."""
    return _Reader(_TOKEN.findall(text)).everything()


class _Reader:
    """Reads tokens; the empty one is the end."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._place = 0

    def everything(self) -> list[Requirement]:
        found: list[Requirement] = []
        while (token := self._peek()) != "":
            if token != "!" and token in _SYMBOLS:
                raise bad_request(f"found '{token}', expected: !, identifier, or 'end of string'")
            found.append(self._requirement())
            if (token := self._next()) not in (",", ""):
                raise bad_request(f"found '{token}', expected: {_END}")
            if token == "," and (after := self._peek()) != "!" and after in _SYMBOLS:
                raise bad_request(f"found '{after}', expected: identifier after ','")
        return found

    def _requirement(self) -> Requirement:
        negated = self._peek() == "!"
        if negated:
            self._next()
        key = self._next()
        if key in _SYMBOLS:
            _refuse(f"found '{key}', expected: identifier")
        for complaint in qualified_name_complaints(key):
            _refuse(str(invalid_value("<nil>", key, complaint)))
        if negated or self._peek() in (",", ""):
            return Requirement(key, "!" if negated else "exists")
        operator = self._next()
        if operator not in _OPERATORS:
            _refuse(f"found '{operator}', expected: in, notin, =, ==, !=, gt, lt")
        values = self._set() if operator in ("in", "notin") else (self._value(),)
        _check_values(key, operator, values)
        return Requirement(key, operator.replace("==", "="), values)

    def _value(self) -> str:
        return "" if self._peek() in _SYMBOLS else self._next()

    def _set(self) -> tuple[str, ...]:
        if (token := self._next()) != "(":
            _refuse(f"found '{token}' expected: '('")
        values = [self._value()]
        while (token := self._next()) == ",":
            values.append(self._value())
        if token != ")":
            _refuse(f"found '{token}', expected: ',' or ')'")
        return tuple(values)

    def _peek(self) -> str:
        return self._tokens[self._place] if self._place < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        self._place += 1
        return token


def _check_values(key: str, operator: str, values: tuple[str, ...]) -> None:
    if operator in ("<", ">") and not re.fullmatch(r"[+-]?[0-9]+", values[0]):
        text = "for 'Gt', 'Lt' operators, the value must be an integer"
        _refuse(str(invalid_value("values[0]", values[0], text)))
    for place, value in enumerate(values):
        for complaint in label_value_complaints(value):
            _refuse(str(invalid_value(f"values[{place}][{key}]", value, complaint)))


def _refuse(text: str) -> NoReturn:
    raise bad_request(f"unable to parse requirement: {text}")
