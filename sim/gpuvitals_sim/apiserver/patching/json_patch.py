"""JSON patch (RFC 6902): a list of operations on paths of a document.

Place in the chain: PATCH with `application/json-patch+json`. Strict as the real server's library: `add` to a
missing parent, `remove` of a missing value and a failed `test` are refused; `replace` of a missing key sets it, and
`test` reads a missing key as null. Libraries that differ here: ADR 059.
"""

from typing import Any

from gpuvitals_sim.apiserver.errors import bad_request, unprocessable
from gpuvitals_sim.apiserver.json_types import clone, same

_REFUSED = object()
_OPERATIONS = ("add", "remove", "replace", "move", "copy", "test")


def apply_json_patch(document: Any, patch: Any) -> Any:
    """The patched copy. Raises ApiError 400 for a malformed patch, 422 for one that does not fit."""
    if not isinstance(patch, list) or not all(isinstance(step, dict) for step in patch):
        shown = {dict: "object", str: "string", bool: "bool"}.get(type(patch), "value")
        raise bad_request(
            f"error decoding patch: json: cannot unmarshal {shown} into Go value of type []jsonPatchOp"
        )
    document = clone(document)
    for step in patch:
        document = _apply(document, step)
    return document


def _apply(document: Any, step: dict[str, Any]) -> Any:
    operation, path = step.get("op"), step.get("path")
    if operation not in _OPERATIONS or not isinstance(path, str):
        raise unprocessable()
    tokens = _tokens(path)
    match operation:
        case "test":
            if not same(_read(document, tokens, missing=None), step.get("value")):
                raise unprocessable()
        case "remove":
            _remove(document, tokens)
        case "replace":
            return _put(document, tokens, clone(step.get("value")), replace=True)
        case "add":
            return _put(document, tokens, clone(step.get("value")), replace=False)
        case _:
            source = _tokens(str(step.get("from", "")))
            value = clone(_read(document, source))
            if operation == "move":
                _remove(document, source)
            return _put(document, tokens, value, replace=False)
    return document


def _tokens(pointer: str) -> list[str]:
    if pointer == "":
        return []
    if not pointer.startswith("/"):
        raise unprocessable()
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/")]


def _read(document: Any, tokens: list[str], *, missing: object = _REFUSED) -> Any:
    """The value at the path; `missing` is returned for a missing last key."""
    for place, token in enumerate(tokens):
        if isinstance(document, dict) and token in document:
            document = document[token]
        elif isinstance(document, dict) and place == len(tokens) - 1 and missing is not _REFUSED:
            return missing
        elif isinstance(document, list):
            document = document[_index(document, token, len(document) - 1)]
        else:
            raise unprocessable()
    return document


def _put(document: Any, tokens: list[str], value: Any, *, replace: bool) -> Any:
    if not tokens:
        return value
    parent, last = _read(document, tokens[:-1]), tokens[-1]
    if isinstance(parent, dict):
        parent[last] = value
    elif isinstance(parent, list):
        if replace:
            parent[_index(parent, last, len(parent) - 1)] = value
        else:
            parent.insert(len(parent) if last == "-" else _index(parent, last, len(parent)), value)
    else:
        raise unprocessable()
    return document


def _remove(document: Any, tokens: list[str]) -> None:
    if not tokens:
        raise unprocessable()
    parent, last = _read(document, tokens[:-1]), tokens[-1]
    if isinstance(parent, dict) and last in parent:
        del parent[last]
    elif isinstance(parent, list):
        del parent[_index(parent, last, len(parent) - 1)]
    else:
        raise unprocessable()


def _index(items: list[Any], token: str, highest: int) -> int:
    if not (token.isdigit() and (token == "0" or token[0] != "0")) or int(token) > highest:
        raise unprocessable()
    return int(token)
