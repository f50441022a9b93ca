"""The fields of kinds and their JSON types: unknown fields are dropped, wrong types refused.

Place in the chain: decoding a body. A server stores only known fields; with `fieldValidation=Strict` an unknown one is
an error, otherwise the answer has a warning. Custom resources have their own schema (`custom.py`).
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from gpuvitals_sim.apiserver.json_types import Obj, go_text
from gpuvitals_sim.apiserver.kinds import BUILT_IN, Kind
from gpuvitals_sim.apiserver.strategy.field_table import KINDS, TYPES
from gpuvitals_sim.apiserver.strategy.scalars import (
    MalformedError,
    canonical_micro_time,
    canonical_quantity,
    canonical_time,
)

_KIND_NAMES = {f"{kind.plural}.{kind.group}" if kind.group else kind.plural: kind.name for kind in BUILT_IN}
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
_BOUNDS = {"i": 2**63, "n": 2**31}
_JSON_NAMES = ((bool, "bool"), (dict, "object"), (list, "array"), (str, "string"), (int | float, "number"))
_SCHEMA_NAMES = {"int64": "numeric (int or float)", "int32": "numeric (int or float)", "bool": "boolean"}


class WrongTypeError(Exception):
    """A field holds another JSON type than its kind declares."""

    def __init__(self, value: object, path: str, known: "Field") -> None:
        super().__init__(path)
        self.path = path
        self._known = known
        self._value = value
        self._given = next((name for kind, name in _JSON_NAMES if isinstance(value, kind)), "null")

    def json_text(self) -> str:
        """The text of the JSON decoder, without indexes of lists and keys of maps."""
        given = self._given
        if given == "number" and self._known.type in _BOUNDS:
            given = f"number {self._value}"
        shown = re.sub(r"\[[^\]]*\]|\{[^}]*\}", "", self.path)
        where = f"Go struct field {self._known.struct}.{shown}"
        return f"json: cannot unmarshal {given} into {where} of type {self._known.go_type}"

    def schema_text(self) -> str:
        """The text of server-side apply."""
        shapes = {"object": "map", "map": "map", "list": "list"}
        wanted = shapes.get(self._known.form) or _SCHEMA_NAMES.get(self._known.go_type, "string")
        match wanted:
            case "string":
                given = f"&value.valueUnstructured{{Value:{go_text(self._value)}}}"
            case "map" | "list" | "boolean":
                given = f"&{{{go_text(self._value)}}}"
            case _:
                given = self._given
        return f".{_plain(self.path)}: expected {wanted}, got {given}"


class MalformedFieldError(Exception):
    """A malformed time or quantity; the text is that of the real decoder."""


@dataclass(frozen=True, slots=True)
class Field:
    """One known field: its form, its value type (a scalar's letter or a type's name), and the type that has it."""

    form: Literal["object", "list", "map", "any", "scalar"]
    type: str = ""
    struct: str = ""

    @property
    def go_type(self) -> str:
        """The Go name of the type."""
        one = _SCALARS.get(self.type) or f"v1.{self.type}"
        return {"list": f"[]{one}", "map": f"map[string]{one}"}.get(self.form, one)

    @property
    def item(self) -> "Field":
        """One item of this list or map."""
        return Field("scalar" if self.type in _SCALARS else "object", self.type, self.struct)


@cache
def known_fields(kind: Kind) -> Field | None:
    """The fields of a built-in kind; None for a custom one."""
    name = f"{kind.plural}.{kind.group}" if kind.group else kind.plural
    return None if kind.custom else Field("object", f"={name}")


@cache
def fields_of(type_name: str) -> dict[str, Field]:
    """The fields of a type of the table, by name; `=pods` are those of a kind."""
    text = f"{_ROOT} {KINDS[type_name[1:]]}" if type_name.startswith("=") else TYPES[type_name]
    struct = _KIND_NAMES.get(type_name[1:], type_name)
    return {word["name"]: _field(word, struct) for word in _WORD.finditer(text)}


def keep_known(obj: Obj, known: Field) -> list[str]:
    """Removes unknown fields from the object in place, and formats the others as the server does.

    Times and quantities become canonical; nulls, empty lists and empty maps are removed. Returns the paths of the
    unknown fields. Raises WrongTypeError, MalformedFieldError.
    """
    unknown: list[str] = []
    _walk_object(obj, known, "", unknown)
    return [_plain(path) for path in unknown]


def _plain(path: str) -> str:
    """A path for messages; internally `{key}` marks the keys of maps."""
    return re.sub(r"\{([^}]*)\}", r".\1", path)


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
                value[key] = _walked(item, inside, f"{path}{{{key}}}", unknown)
                if value[key] is None and inside.type == "":
                    value[key] = ""
        case _:
            return _scalar(value, known, path)
    return value


def _walk_object(value: Any, known: Field, path: str, unknown: list[str]) -> None:
    if not isinstance(value, dict):
        raise WrongTypeError(value, path, known)
    fields = fields_of(known.type)
    for name in list(value):
        below = f"{path}.{name}" if path else name
        if name not in fields:
            unknown.append(below)
            del value[name]
            continue
        field = fields[name]
        value[name] = _walked(value[name], field, below, unknown)
        if value[name] is None or (field.form in ("list", "map") and not value[name]):
            del value[name]


def _scalar(value: Any, known: Field, path: str) -> Any:
    match known.type:
        case "i" | "n":
            bound = _BOUNDS[known.type]
            fits = isinstance(value, int) and not isinstance(value, bool) and -bound <= value < bound
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
