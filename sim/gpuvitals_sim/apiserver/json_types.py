"""JSON values of API objects, and their common operations: clone, look up, compare, timestamps.

Place in the chain: beneath every other module here. API objects are plain dicts, as on the wire.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

T = TypeVar("T")

Obj = dict[str, Any]
"""One JSON object. Objects in the store are frozen by convention: clone before changing."""


def clone(value: T) -> T:
    """A deep copy of plain JSON, several times faster than `copy.deepcopy`."""
    copied: Any = value
    if isinstance(value, dict):
        copied = {key: clone(item) for key, item in value.items()}
    elif isinstance(value, list):
        copied = [clone(item) for item in value]
    return copied  # type: ignore[no-any-return]  # the copy has the type of the original


def dig(value: Any, *path: str) -> Any:
    """The value at the path of keys, or None if a step is missing or is no object."""
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def same(left: Any, right: Any) -> bool:
    """Whether two JSON values are equal, telling `true` from `1` (Python does not)."""
    if isinstance(left, dict):
        return (
            isinstance(right, dict)
            and left.keys() == right.keys()
            and all(same(item, right[key]) for key, item in left.items())
        )
    if isinstance(left, list):
        return isinstance(right, list) and len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right)


def go_text(value: Any) -> str:
    """The value as Go prints it with `%v`, as some refusals show it."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{go_text(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(go_text, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return "<nil>" if value is None else str(value)


def pruned(value: Any) -> Any:
    """The value as Go's typed objects store it: no nulls in maps."""
    if isinstance(value, dict):
        return {key: pruned(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [pruned(item) for item in value]
    return value


def objects_at(value: Any, path: tuple[str, ...]) -> Iterator[tuple[Obj, str]]:
    """Each (parent, key) at the path; a step that ends in `[]` stands for every item of a list."""
    head, rest = path[0], path[1:]
    if not isinstance(value, dict):
        return
    if not rest:
        if head in value:
            yield value, head
        return
    if head.endswith("[]"):
        for item in value.get(head[:-2]) or []:
            yield from objects_at(item, rest)
    else:
        yield from objects_at(value.get(head), rest)


def timestamp(moment: datetime | None = None) -> str:
    """The moment (now if omitted) as the API writes times: UTC, whole seconds, `Z`."""
    return (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """The aware datetime of an API time. Raises ValueError if it is not RFC 3339."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"time {text!r} has no zone")
    return moment.astimezone(UTC)
