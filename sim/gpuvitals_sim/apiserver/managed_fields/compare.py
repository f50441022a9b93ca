"""The difference between two versions of an object, as field paths.

Place in the chain: the fields that a write added, changed and removed decide their owners.
"""

from dataclasses import dataclass, field
from typing import Any

from gpuvitals_sim.apiserver.json_types import Obj, same
from gpuvitals_sim.apiserver.managed_fields.field_set import Fields, Path, item_element
from gpuvitals_sim.apiserver.merge_schema import MergeSchema

_MISSING = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The paths at which a new version differs from the old one."""

    added: Fields
    changed: Fields
    removed: Fields

    @property
    def touched(self) -> Fields:
        """The paths that the writer of the new version has set."""
        return self.added | self.changed


def compare(old: Obj, new: Obj, schema: MergeSchema) -> Difference:
    """The difference between two versions of one object."""
    walk = _Walk()
    walk.visit(old, new, schema, ())
    return Difference(
        added=frozenset(walk.added), changed=frozenset(walk.changed), removed=frozenset(walk.removed)
    )


@dataclass(slots=True)
class _Walk:
    added: set[Path] = field(default_factory=set)
    changed: set[Path] = field(default_factory=set)
    removed: set[Path] = field(default_factory=set)

    def visit(self, old: Any, new: Any, schema: MergeSchema, path: Path) -> None:
        if old is new:
            return
        old, new = _null_as_empty(old, new), _null_as_empty(new, old)
        present = old if new is _MISSING else new
        if isinstance(present, dict) and _is(old, dict) and not schema.whole and _filled(old, new):
            left, right = _entries(old), _entries(new)
            for name in {**left, **right}:
                below = (*path, f"f:{name}")
                self.visit(left.get(name, _MISSING), right.get(name, _MISSING), schema.child(name), below)
        elif (
            isinstance(present, list)
            and _is(old, list)
            and schema.list_type != "atomic"
            and _filled(old, new)
        ):
            lefts, rights = _by_element(old, schema), _by_element(new, schema)
            for element in {**lefts, **rights}:
                pair = lefts.get(element, _MISSING), rights.get(element, _MISSING)
                self.visit(*pair, schema.items, (*path, element))
        elif old is not _MISSING and new is not _MISSING:
            if not same(old, new):
                self.changed.add(path)
            return
        if old is _MISSING:
            self.added.add(path)
        elif new is _MISSING:
            self.removed.add(path)


def _null_as_empty(value: Any, other: Any) -> Any:
    """Reads a null as an empty map or list if the other value is a filled one."""
    if value is None and isinstance(other, dict | list) and other:
        return type(other)()
    return value


def _is(value: Any, kind: type) -> bool:
    return value is _MISSING or isinstance(value, kind)


def _filled(old: Any, new: Any) -> bool:
    """Two empty values are compared as one leaf, which keeps `{}` apart from nothing."""
    return bool(old is not _MISSING and old) or bool(new is not _MISSING and new)


def _entries(value: Any) -> Obj:
    return {} if value is _MISSING else value


def _by_element(value: Any, schema: MergeSchema) -> dict[str, Any]:
    return {} if value is _MISSING else {item_element(item, schema): item for item in value}
