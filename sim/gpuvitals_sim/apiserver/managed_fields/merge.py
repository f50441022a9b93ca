"""Merges an applied configuration into a live object, and removes fields from it.

Place in the chain: the two changes that server-side apply makes to an object.
"""

from typing import Any

from gpuvitals_sim.apiserver.json_types import clone
from gpuvitals_sim.apiserver.managed_fields.field_set import Fields, below, item_element
from gpuvitals_sim.apiserver.merge_schema import MergeSchema


def merged(live: Any, config: Any, schema: MergeSchema) -> Any:
    """The live value merged with the configuration; lists with keys merge item by item."""
    if isinstance(config, dict) and not schema.whole:
        base = live if isinstance(live, dict) else {}
        result = dict(base)
        for name, part in config.items():
            result[name] = merged(base.get(name), part, schema.child(name))
        return result
    if isinstance(config, list) and schema.list_type != "atomic":
        return _merged_list(live if isinstance(live, list) else [], config, schema)
    return clone(config)


def removed(value: Any, fields: Fields, schema: MergeSchema) -> Any:
    """The value without these fields; a map or list that loses all it had becomes None."""
    if isinstance(value, dict) and not schema.whole:
        kept = {
            name: _cut(part, f"f:{name}", fields, schema.child(name))
            for name, part in value.items()
            if (f"f:{name}",) not in fields
        }
        return kept or (None if value else value)
    if isinstance(value, list) and schema.list_type != "atomic":
        elements = [(item, item_element(item, schema)) for item in value]
        items = [
            _cut(item, element, fields, schema.items)
            for item, element in elements
            if (element,) not in fields
        ]
        return items or (None if value else value)
    return value


def _cut(value: Any, element: str, fields: Fields, schema: MergeSchema) -> Any:
    inner = below(fields, element)
    return removed(value, inner, schema) if inner else value


def _merged_list(live: list[Any], config: list[Any], schema: MergeSchema) -> list[Any]:
    """Both lists in one; live order, except that items which both have follow the order of the configuration."""
    left = [item_element(item, schema) for item in live]
    right = [item_element(item, schema) for item in config]
    known, wanted = dict(zip(left, live, strict=True)), dict(zip(right, config, strict=True))
    shared = iter([element for element in right if element in known])
    following = next(shared, None)
    result: list[Any] = []
    done: set[str] = set()
    at_left = at_right = 0
    while at_left < len(left) or at_right < len(right):
        if at_left < len(left) and at_right < len(right):
            element = left[at_left]
            if element != right[at_right] and element in wanted and element != following:
                at_left += 1
                continue
        if at_left < len(left) and left[at_left] not in wanted:
            result.append(live[at_left])
            at_left += 1
            continue
        if at_left < len(left) and (
            left[at_left] in done or (at_right < len(right) and left[at_left] == right[at_right])
        ):
            at_left += 1
        if at_right < len(right):
            element = right[at_right]
            result.append(merged(known.get(element), wanted[element], schema.items))
            done.add(element)
            at_right += 1
            following = next(shared, None) if element == following else following
    return result
