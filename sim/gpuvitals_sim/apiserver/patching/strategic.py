"""Strategic merge patch: like a merge patch, but lists of the built-in kinds merge by key.

Place in the chain: PATCH with `application/strategic-merge-patch+json`; the default of
kubectl patch and of the official client. Directives: `$patch` (replace, delete, merge), `$deleteFromPrimitiveList/x`,
`$setElementOrder/x`, `$retainKeys`. Custom resources don't take this format (415).
Source: kubernetes/apimachinery pkg/util/strategicpatch.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from gpuvitals_sim.apiserver.errors import ApiError, bad_request
from gpuvitals_sim.apiserver.json_types import Obj, clone, go_text
from gpuvitals_sim.apiserver.merge_schema import MergeSchema

_ORDER = "$setElementOrder/"
_DELETE_PRIMITIVE = "$deleteFromPrimitiveList/"


def apply_strategic_patch(document: Obj, patch: Any, schema: MergeSchema) -> Obj:
    """The patched copy. Raises ApiError: 400 for a value that is no object, 500 for a missing key or unknown directive."""
    if not isinstance(patch, dict):
        raise bad_request("error decoding patch: expected an object")
    merged = _merge_map(document, patch, schema)
    return merged if merged is not None else {}


def _merge_map(current: Any, patch: Obj, schema: MergeSchema) -> Obj | None:
    """The merged map, or None if the patch deletes it."""
    directive = patch.get("$patch", "merge")
    body = {key: value for key, value in patch.items() if key != "$patch"}
    if directive == "delete":
        return None
    if directive == "replace":
        return dict(_without_directives(body))
    if directive != "merge":
        raise ApiError(500, "", f"unknown patch type: {directive} in map: {go_text(patch)}")
    result = dict(current) if isinstance(current, dict) else {}
    retained = body.pop("$retainKeys", None)
    if retained is not None:
        result = {key: value for key, value in result.items() if key in retained}
    for key, value in body.items():
        _merge_field(result, key, value, schema)
    for key, order in body.items():
        if key.startswith(_ORDER):
            _reorder(result, key.removeprefix(_ORDER), order, schema)
    return result


def _merge_field(result: Obj, key: str, value: Any, schema: MergeSchema) -> None:
    if key.startswith(_ORDER):
        return
    if key.startswith(_DELETE_PRIMITIVE):
        name = key.removeprefix(_DELETE_PRIMITIVE)
        result[name] = [item for item in result.get(name) or [] if item not in value]
        return
    child = schema.child(key)
    if value is None:
        result.pop(key, None)
    elif isinstance(value, dict):
        merged = _merge_map(result.get(key), value, child)
        if merged is None:
            result.pop(key, None)
        else:
            result[key] = merged
    elif isinstance(value, list):
        result[key] = _merge_list(result.get(key) or [], value, child)
    else:
        result[key] = value


def _merge_list(current: list[Any], patch: list[Any], schema: MergeSchema) -> list[Any]:
    if not schema.merges:
        return [_without_directives(item) for item in patch]
    if not schema.merge_key:
        place = {item: index for index, item in enumerate(current)}
        return _interleaved([item for item in current if item not in patch], patch, place.get)
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [_without_directives(item) for item in patch if item.get("$patch") != "replace"]
    merged = [_merged_item(current, item, schema) for item in patch]
    key = schema.merge_key
    named = {item[key] for item in patch}
    kept = [item for item in current if item.get(key) not in named]
    order = {item.get(key): place for place, item in enumerate(current)}
    return _interleaved(
        kept, [item for item in merged if item is not None], lambda item: order.get(item[key])
    )


def _merged_item(current: list[Any], item: Any, schema: MergeSchema) -> Obj | None:
    key = schema.merge_key
    if not isinstance(item, dict) or key not in item:
        raise ApiError(500, "", f"map: {go_text(item)} does not contain declared merge key: {key}")
    held: Obj = next((entry for entry in current if entry.get(key) == item[key]), {})
    return _merge_map(held, item, schema.items)


def _interleaved(kept: list[Any], patched: list[Any], place_of: Callable[[Any], int | None]) -> list[Any]:
    """Both lists in one: in their old order, a patched item that is new as early as its own list allows."""
    result: list[Any] = []
    left, right = deque(kept), deque(patched)
    while left and right:
        ours, theirs = place_of(left[0]), place_of(right[0])
        take_kept = ours is not None and theirs is not None and ours < theirs
        result.append(left.popleft() if take_kept else right.popleft())
    return [*result, *left, *right]


def _reorder(result: Obj, name: str, order: list[Any], schema: MergeSchema) -> None:
    items, key = result.get(name), schema.child(name).merge_key
    if not isinstance(items, list):
        return
    wanted = [entry.get(key) if isinstance(entry, dict) else entry for entry in order]
    rank = {value: place for place, value in enumerate(wanted)}

    def place_of(item: Any) -> int:
        return rank.get(item.get(key) if isinstance(item, dict) else item, -1)

    ordered = iter(sorted((item for item in items if place_of(item) >= 0), key=place_of))
    result[name] = [next(ordered) if place_of(item) >= 0 else item for item in items]


def _without_directives(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_directives(item)
            for key, item in value.items()
            if item is not None and not key.startswith("$")
        }
    if isinstance(value, list):
        return [_without_directives(item) for item in value]
    return clone(value)
