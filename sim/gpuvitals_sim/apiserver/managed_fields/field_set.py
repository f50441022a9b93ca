"""Sets of field paths, and their `fieldsV1` form in `metadata.managedFields`.

Place in the chain: the data type of server-side apply. A path is a tuple of elements as `fieldsV1` writes them:
`f:name` a field, `k:{"type":"Ready"}` a list item by key, `v:"x"` a member of a set.
"""

import json
from collections.abc import Iterable
from typing import Any

from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.apiserver.merge_schema import MergeSchema

Path = tuple[str, ...]
Fields = frozenset[Path]
NO_FIELDS: Fields = frozenset()


def item_element(item: Any, schema: MergeSchema) -> str:
    """The path element of one item of a set or of a list merged by key."""
    if schema.list_type == "set" or not isinstance(item, dict):
        return "v:" + _compact(item)
    keys = {name: item.get(name, schema.defaults.get(name)) for name in sorted(schema.keys)}
    return "k:" + _compact({name: value for name, value in keys.items() if value is not None})


def fields_of(value: Any, schema: MergeSchema) -> Fields:
    """Every field that a configuration names, which its applier will own."""
    found: set[Path] = set()
    _collect(value, schema, (), found)
    return frozenset(found)


def duplicate_items(value: Any, schema: MergeSchema, path: str = "") -> list[str]:
    """Errors of lists merged by key in which a key appears twice."""
    if isinstance(value, dict):
        return [
            text
            for name, part in value.items()
            for text in duplicate_items(part, schema.child(name), f"{path}.{name}")
        ]
    if not isinstance(value, list) or schema.list_type != "map":
        return []
    texts, seen = [], set()
    for item in value:
        element = item_element(item, schema)
        if element in seen:
            texts.append(f"{path}: duplicate entries for key {path_text((element,))}")
        seen.add(element)
        texts += duplicate_items(item, schema.items, f"{path}{path_text((element,))}")
    return texts


def decode_fields(fields_v1: Obj) -> Fields:
    """The set of a `fieldsV1` object."""
    found: set[Path] = set()

    def walk(node: Obj, path: Path) -> None:
        for element, below in node.items():
            if element == ".":
                found.add(path)
            elif below:
                walk(below, (*path, element))
            else:
                found.add((*path, element))

    walk(fields_v1, ())
    return frozenset(found)


def encode_fields(fields: Fields) -> Obj:
    """The `fieldsV1` object of a set, keys in order."""
    root: Obj = {}
    for path in sorted(fields):
        node = root
        for element in path:
            node = node.setdefault(element, {})
        node["."] = {}
    return _tidy(root)


def below(fields: Iterable[Path], element: str) -> Fields:
    """The paths under one element, without it; the element itself is not among them."""
    return frozenset(path[1:] for path in fields if len(path) > 1 and path[0] == element)


def without_branches(fields: Fields, branches: Iterable[Path]) -> Fields:
    """The set without these paths and everything under them."""
    cut = tuple(branches)
    return frozenset(path for path in fields if not any(path[: len(branch)] == branch for branch in cut))


def with_parents(fields: Fields, schema: MergeSchema) -> Fields:
    """The set plus every enclosing field that is part of the type (keys of open maps are not)."""
    result = set(fields)
    for path in fields:
        here = schema
        for depth, element in enumerate(path):
            if element.startswith("f:"):
                name = element[2:]
                if here.is_field(name):
                    result.add(path[: depth + 1])
                here = here.child(name)
            else:
                here = here.items
    return frozenset(result)


def path_text(path: Path) -> str:
    """The path as conflict messages show it: `.status.conditions[type="Ready"].status`."""
    text = ""
    for element in path:
        kind, _, rest = element.partition(":")
        if kind == "f":
            text += f".{rest}"
        elif kind == "k":
            keys = json.loads(rest)
            text += "[" + ",".join(f"{name}={_compact(value)}" for name, value in sorted(keys.items())) + "]"
        else:
            text += f"[={rest}]"
    return text


def _collect(value: Any, schema: MergeSchema, path: Path, found: set[Path]) -> None:
    if isinstance(value, dict):
        if schema.whole:
            found.add(path)
            return
        for name, part in value.items():
            below_path = (*path, f"f:{name}")
            _collect(part, schema.child(name), below_path, found)
            if part is None or part == {} or not schema.is_field(name):
                found.add(below_path)
    elif isinstance(value, list):
        if schema.list_type == "atomic":
            found.add(path)
            return
        for item in value:
            item_path = (*path, item_element(item, schema))
            _collect(item, schema.items, item_path, found)
            found.add(item_path)
    else:
        found.add(path)


def _tidy(node: Obj) -> Obj:
    """The object with single members as `{}`; the dot stays only beside children."""
    return {
        element: {} if below == {} or set(below) == {"."} else _tidy(below)
        for element, below in sorted(node.items())
    }


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
