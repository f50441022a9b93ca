"""The metadata of a stored slice: which part is ours, and how the rest survives our writes. Pure.

Labels, annotations, finalizers and owner references of others stay through every PUT, which replaces the whole object.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_ONLY_STORED = frozenset({"managedFields", "selfLink"})
_RECREATED = ("labels", "annotations", "ownerReferences")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOwner:
    """The Node that owns the slices, so that they go with it."""

    name: str
    uid: str


def owner_uid(references: Sequence[Mapping[str, Any]], node: str) -> str:
    """The UID under which the Node owns the slice; empty where that is not one reference as we write it."""
    own = [entry for entry in references if _is_own(entry, node)]
    if len(own) != 1 or bool(own[0].get("controller")) is _has_controller(references, node):
        return ""
    return str(own[0].get("uid", ""))


def foreign_metadata(stored: Mapping[str, Any], annotation: str, node: str) -> dict[str, Any]:
    """All stored metadata without our annotation, our owner reference, and what only the server writes."""
    foreign = {key: value for key, value in stored.items() if key not in _ONLY_STORED}
    notes = {key: value for key, value in (stored.get("annotations") or {}).items() if key != annotation}
    owners = [entry for entry in stored.get("ownerReferences") or [] if not _is_own(entry, node)]
    for key, rest in (("annotations", notes), ("ownerReferences", owners)):
        foreign.pop(key, None)
        if rest:
            foreign[key] = rest
    return foreign


def recreated_metadata(foreign: Mapping[str, Any]) -> dict[str, Any]:
    """What of a slice that is gone a new one gets.

    No finalizers: they were removed, or the old slice would still be there. No foreign reference blocks the deletion of
    its owner: that takes a right on the owner, and the create would be refused without it.
    """
    kept = {key: foreign[key] for key in _RECREATED if key in foreign}
    if "ownerReferences" in kept:
        kept["ownerReferences"] = [
            {key: value for key, value in entry.items() if key != "blockOwnerDeletion"}
            for entry in kept["ownerReferences"]
        ]
    return kept


def merged_metadata(
    foreign: Mapping[str, Any], annotations: Mapping[str, str], owner: NodeOwner
) -> dict[str, Any]:
    """The metadata to write. An object has one controller at most: where another has the place, ours is a plain owner."""
    others = foreign.get("ownerReferences", [])
    own = {
        "apiVersion": "v1",
        "kind": "Node",
        "name": owner.name,
        "uid": owner.uid,
        "controller": not _has_controller(others, owner.name),
    }
    return {
        **foreign,
        "annotations": {**foreign.get("annotations", {}), **annotations},
        "ownerReferences": [*others, own],
    }


def _is_own(reference: Mapping[str, Any], node: str) -> bool:
    return (reference.get("apiVersion"), reference.get("kind"), reference.get("name")) == ("v1", "Node", node)


def _has_controller(references: Sequence[Mapping[str, Any]], node: str) -> bool:
    """Whether somebody else is the slice's controller."""
    return any(bool(entry.get("controller")) and not _is_own(entry, node) for entry in references)
