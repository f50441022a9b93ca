"""The metadata of a stored slice: separates our part from that of other clients, which our writes preserve. Pure.

A PUT replaces the whole object, so it has to repeat the labels, annotations, finalizers and owner references of others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_ONLY_STORED = frozenset({"managedFields", "selfLink"})
_RECREATED = ("labels", "annotations", "ownerReferences")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOwner:
    """The Node that owns the slices, so that they are deleted with it."""

    name: str
    uid: str


def owner_uid(references: Sequence[Mapping[str, Any]], node: str) -> str:
    """The UID in our owner reference; empty unless there is exactly one, in the form in which we write it."""
    own = [entry for entry in references if _is_own(entry, node)]
    if len(own) != 1 or bool(own[0].get("controller")) is _has_controller(references, node):
        return ""
    return str(own[0].get("uid", ""))


def foreign_metadata(stored: Mapping[str, Any], annotation: str, node: str) -> dict[str, Any]:
    """All stored metadata without our annotation, our owner reference, and the fields that only the server writes."""
    foreign = {key: value for key, value in stored.items() if key not in _ONLY_STORED}
    notes = {key: value for key, value in (stored.get("annotations") or {}).items() if key != annotation}
    owners = [entry for entry in stored.get("ownerReferences") or [] if not _is_own(entry, node)]
    for key, rest in (("annotations", notes), ("ownerReferences", owners)):
        foreign.pop(key, None)
        if rest:
            foreign[key] = rest
    return foreign


def recreated_metadata(foreign: Mapping[str, Any]) -> dict[str, Any]:
    """The foreign metadata of a deleted slice that its successor gets.

    Finalizers are left out: they were removed, or the old slice would still exist. `blockOwnerDeletion` is left out too:
    it needs a right on the owner, without which the server refuses the create.
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
    """The metadata to write. An object has at most one controller: beside another one, ours is a plain owner."""
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
    """Whether another object is the slice's controller."""
    return any(bool(entry.get("controller")) and not _is_own(entry, node) for entry in references)
