"""One selector: checked as the API server does at create, evaluated as the scheduler does.

Place in the chain: the allocator calls `matches` per device, the embedded API server `compile_errors`. Messages are
those of Kubernetes. Not simulated: the estimate of an expression's cost.
Source: kubernetes/dynamic-resource-allocation cel/compile.go and cel/errors.go.
"""

import re
import threading
from functools import lru_cache
from typing import Any

from gpuvitals_sim.cel.collections import LISTS, SETS
from gpuvitals_sim.cel.device import CelDevice
from gpuvitals_sim.cel.environment import DEVICE_TYPE, checker, evaluator
from gpuvitals_sim.cel.functions import MEMBERS
from gpuvitals_sim.cel.syntax import with_default_domains

HINT = (
    "consider using CEL optional chaining (.? followed by orValue()) "
    "or guarding the check with has() for optional fields"
)
_MISSING_BRACKET = re.compile(r"invalid regular expression: missing (.): (.*)$")
_BAD_INDEX = re.compile(r"Index error: index=(-?\d+) size=\d+$")
_BAD_CONVERSION = re.compile(r"cannot convert (string) to (\w+)$")
_OVERLOAD = re.compile(r": (?:\((\w+)\)\.)?([\w.]+)\((.*)\)")
_NAMED = (*LISTS, *SETS, "quantity", "isQuantity", "semver", "isSemver")
_WORDS = {
    "divide by zero": "division by zero",
    "int64 out of uint64 range": "unsigned integer overflow",
    "String to Timestamp conversion failed": "type conversion error from 'string' to 'google.protobuf.Timestamp'",
    "String to Duration conversion failed": "type conversion error from 'string' to 'google.protobuf.Duration'",
}
_TO_BOOL = {
    "int": "unsupported type conversion from 'int' to bool",
    "string": "unsupported native conversion from string to 'bool'",
    "kubernetes.Semver": "type conversion error from 'Semver' to 'bool'",
}
_MISSING = re.compile(r'Key not found in map : "?(.*?)"?$')
_STATUS = re.compile(r"^[A-Z_]+: ")
_IN_STRUCT = re.compile(rf"( not found in struct '{re.escape(DEVICE_TYPE)}')$", re.MULTILINE)
_MEMBER_CALL = re.compile(
    rf"(found no matching overload for '(?:{'|'.join(MEMBERS)})' applied to ')\(([\w.]+)(?:, )?(.*)\)'"
)
_LOCK = threading.Lock()


class CompileError(ValueError):
    """The expression does not compile; the message is the API server's."""


class CelError(Exception):
    """Evaluation failed on a device: it is neither a match nor a mismatch."""


class Selector:
    """A compiled expression. Raises CompileError."""

    def __init__(self, expression: str) -> None:
        with _LOCK:
            _check(expression)
            try:
                parsed = evaluator().compile(expression, disable_check=True)
                self._program = evaluator().deserialize(with_default_domains(parsed.serialize()))
            except RuntimeError as error:
                raise CompileError(f"compilation failed: {_compile_text(str(error))}") from error

    def matches(self, device: CelDevice) -> bool:
        """Whether the device matches. Raises CelError."""
        try:
            result = self._program.eval(device.activation)
            kind, value = str(result.type()), result.value()
        except RuntimeError as error:
            raise CelError(_runtime_text(str(error))) from error
        if kind == "ERROR":
            raise CelError(_runtime_text(str(value)))
        if kind != "BOOL":
            raise CelError(_not_bool(_result_type(kind, value)))
        return bool(value)


@lru_cache(maxsize=1024)
def compiled(expression: str) -> Selector:
    """The selector, cached in this process. Raises CompileError."""
    return Selector(expression)


def compile_errors(expression: str) -> str | None:
    """The error with which an API server refuses the expression, or None.

    For example `compilation failed: ERROR: <input>:1:7: undefined field 'health'` and two lines that point at it.
    """
    try:
        compiled(expression)
    except CompileError as error:
        return str(error)
    return None


def _check(expression: str) -> None:
    try:
        result = checker().compile(expression).return_type()
    except RuntimeError as error:
        raise CompileError(f"compilation failed: {_compile_text(str(error))}") from error
    if str(result) not in ("BOOL", "DYN"):
        raise CompileError(f"must evaluate to bool or the unknown type, not {_type_name(str(result))}")


def _compile_text(text: str) -> str:
    """The library's report without status codes and without consequential errors."""
    body = _STATUS.sub("", text).removesuffix(" [INVALID_ARGUMENT]")
    issues = [issue for issue in re.split(r"(?m)^(?=ERROR: )", body) if issue]
    own = [issue for issue in issues if "'*error*'" not in issue]
    text = _IN_STRUCT.sub("", "".join(own or issues)).rstrip("\n")
    return _MEMBER_CALL.sub(r"\1\2.(\3)'", text)


def _runtime_text(text: str) -> str:
    """The library's run-time error in the words of cel-go."""
    bare = _STATUS.sub("", text[1:-1] if text.startswith('"') else text)
    missing = _MISSING.search(bare)
    if missing is not None:
        return f"no such key: {missing[1]}. {HINT}"
    if bare.startswith("No matching overloads found"):
        return _no_overload(bare)
    if bare in _WORDS:
        return _WORDS[bare]
    for pattern, words in (
        (_BAD_INDEX, r"index out of bounds: \1"),
        (_BAD_CONVERSION, r"type conversion error from '\1' to '\2'"),
        (_MISSING_BRACKET, r"error parsing regexp: missing closing \1: `\2`"),
    ):
        if pattern.match(bare):
            return pattern.sub(words, bare)
    return bare


def _no_overload(text: str) -> str:
    """The error of a missing overload; functions of Kubernetes show their name and arguments."""
    found = _OVERLOAD.search(text)
    if found is None or found[2] not in _NAMED:
        return "no such overload"
    arguments = ", ".join(part for part in (found[1], found[3]) if part)
    return f"no such overload: {found[2]}({arguments.replace('int64', 'int')})"


def _result_type(kind: str, value: Any) -> str:
    """The type's name; the library sees quantities and versions as maps."""
    if kind.startswith("MAP"):
        keys = {str(key) for key in value}
        return {"{'quantity'}": "kubernetes.Quantity", "{'semver'}": "kubernetes.Semver"}.get(
            str(keys), "map"
        )
    return _type_name(kind)


def _not_bool(kind: str) -> str:
    why = f": {_TO_BOOL[kind]}" if kind in _TO_BOOL else ""
    return f"CEL result of type {kind} could not be converted to bool{why}"


def _type_name(name: str) -> str:
    """`MAP<STRING, INT>` as `map(string, int)`."""
    if name.startswith("kubernetes."):
        return name
    return name.lower().replace("<", "(").replace(">", ")").replace("dyn", "google.protobuf.Any")
