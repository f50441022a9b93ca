"""The fields that kinds have, and their JSON types: unknown ones are lost, wrong types refused.

Place in the chain: decoding a body. A server stores only fields it knows; with `fieldValidation=Strict` an unknown
one is an error, else the answer carries a warning. Custom resources have their own schema (`custom.py`).
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from gpuvitals.sim.apiserver.jsontypes import Obj
from gpuvitals.sim.apiserver.kinds import Kind
from gpuvitals.sim.apiserver.strategy.fieldrows import KINDS, TYPES
from gpuvitals.sim.apiserver.strategy.scalars import (
    MalformedError,
    canonical_micro_time,
    canonical_quantity,
    canonical_time,
)

_ROOT = "apiVersion kind metadata:ObjectMeta"
_WORD = re.compile(r"(?P<name>\w+)(?:(?P<any>\*)|:(?P<one>\w+)|\[(?P<list>\w*)\]|<(?P<map>\w*)>)?")
_SCALARS = {
    "": "string",
    "i": "int64",
    "n": "int32",
    "b": "bool",
    "t": "Time",
    "u": "MicroTime",
    "q": "Quantity",
}
_CANONICAL = {"t": canonical_time, "u": canonical_micro_time, "q": canonical_quantity}
_JSON_NAMES = ((bool, "bool"), (dict, "object"), (list, "array"), (str, "string"), (int | float, "number"))
_SCHEMA_NAMES = {"int64": "numeric (int or float)", "int32": "numeric (int or float)", "bool": "boolean"}


class WrongTypeError(Exception):
    """A field holds another JSON type than its kind says."""

    def __init__(self, value: object, path: str, known: "Field") -> None:
        super().__init__(path)
        self.path = path
        self._known = known
        self._given = next((name for kind, name in _JSON_NAMES if isinstance(value, kind)), "null")

    def json_text(self) -> str:
        """As the JSON decoder puts it."""
        shown = re.sub(r"\[\d+\]", "", self.path)
        where = f"Go struct field {self._known.struct}.{shown}"
        return f"json: cannot unmarshal {self._given} into {where} of type {self._known.go_type}"

    def schema_text(self) -> str:
        """As server-side apply puts it."""
        shapes = {"object": "map", "map": "map", "list": "list"}
        wanted = shapes.get(self._known.form) or _SCHEMA_NAMES.get(self._known.go_type, "string")
        return f".{self.path}: expected {wanted}, got {self._given}"


class MalformedFieldError(Exception):
    """A time or quantity that is none; the text is the decoder's."""


@dataclass(frozen=True, slots=True)
class Field:
    """One known field: its form, what its values are (a scalar's letter or a type's name), whose field it is."""

    form: Literal["object", "list", "map", "any", "scalar"]
    type: str = ""
    struct: str = ""

    @property
    def go_type(self) -> str:
        """What the real server calls the type."""
        one = _SCALARS.get(self.type) or f"v1.{self.type}"
        return {"list": f"[]{one}", "map": f"map[string]{one}"}.get(self.form, one)

    @property
    def item(self) -> "Field":
        """One item of this list or map."""
        return Field("scalar" if self.type in _SCALARS else "object", self.type, self.struct)


@cache
def known_fields(kind: Kind) -> Field | None:
    """What is known about a built-in kind; None for a custom one."""
    name = f"{kind.plural}.{kind.group}" if kind.group else kind.plural
    return None if kind.custom else Field("object", f"={name}")


@cache
def fields_of(type_name: str) -> dict[str, Field]:
    """The fields of a type of the table, by name; `=pods` are those of a kind."""
    text = f"{_ROOT} {KINDS[type_name[1:]]}" if type_name.startswith("=") else TYPES[type_name]
    return {word["name"]: _field(word, type_name) for word in _WORD.finditer(text)}


def keep_known(obj: Obj, known: Field) -> list[str]:
    """Take unknown fields out of the object in place, and write times and quantities as the server does.

    Returns the paths of the unknown ones. Raises WrongTypeError, MalformedFieldError.
    """
    unknown: list[str] = []
    _walk_object(obj, known, "", unknown)
    return unknown


def _field(word: re.Match[str], struct: str) -> Field:
    if word["any"]:
        return Field("any", struct=struct)
    if word["list"] is not None:
        return Field("list", word["list"], struct)
    if word["map"] is not None:
        return Field("map", word["map"], struct)
    one = word["one"] or ""
    return Field("scalar" if one in _SCALARS else "object", one, struct)


def _walked(value: Any, known: Field, path: str, unknown: list[str]) -> Any:
    """The value as it is stored."""
    if value is None or known.form == "any":
        return value
    match known.form:
        case "object":
            _walk_object(value, known, path, unknown)
        case "list":
            if not isinstance(value, list):
                raise WrongTypeError(value, path, known)
            inside = known.item
            for place, item in enumerate(value):
                value[place] = _walked(item, inside, f"{path}[{place}]", unknown)
        case "map":
            if not isinstance(value, dict):
                raise WrongTypeError(value, path, known)
            inside = known.item
            for key, item in value.items():
                value[key] = _walked(item, inside, f"{path}.{key}", unknown)
        case _:
            return _scalar(value, known, path)
    return value


def _walk_object(value: Any, known: Field, path: str, unknown: list[str]) -> None:
    if not isinstance(value, dict):
        raise WrongTypeError(value, path, known)
    fields = fields_of(known.type)
    for name in list(value):
        below = f"{path}.{name}" if path else name
        if name in fields:
            value[name] = _walked(value[name], fields[name], below, unknown)
        else:
            unknown.append(below)
            del value[name]


def _scalar(value: Any, known: Field, path: str) -> Any:
    match known.type:
        case "i" | "n":
            fits = isinstance(value, int) and not isinstance(value, bool)
        case "b":
            fits = isinstance(value, bool)
        case "q":
            fits = isinstance(value, str | int | float)
        case _:
            fits = isinstance(value, str)
    if not fits:
        raise WrongTypeError(value, path, known)
    canonical = _CANONICAL.get(known.type)
    if canonical is None:
        return value
    try:
        return canonical(str(value))
    except MalformedError as error:
        raise MalformedFieldError(str(error)) from error
