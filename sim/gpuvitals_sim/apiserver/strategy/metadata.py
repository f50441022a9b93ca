"""The rules of `metadata`, common to every kind: fields that the server fills in, checks, and keeps.

Place in the chain: the verbs call these around the kind's own rules.
Source: kubernetes/apimachinery pkg/api/validation/objectmeta.go, kubernetes/apiserver pkg/registry/rest.
"""

import secrets
import uuid
from typing import Any

from gpuvitals_sim.apiserver.errors import FieldError, forbidden_field, invalid_value, required, too_long
from gpuvitals_sim.apiserver.json_types import Obj, timestamp
from gpuvitals_sim.apiserver.kinds import Kind
from gpuvitals_sim.apiserver.strategy.names import (
    label_complaints,
    label_value_complaints,
    qualified_name_complaints,
)
from gpuvitals_sim.apiserver.strategy.rules import Rules

IMMUTABLE = "field is immutable"
ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"

_SYSTEM_FIELDS = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink")
_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_NOT_QUALIFIED = "name is neither a standard finalizer name nor is it fully qualified"
_LENIENT_FINALIZERS = (
    "events", "leases.coordination.k8s.io", "poddisruptionbudgets.policy",
    "customresourcedefinitions.apiextensions.k8s.io",
)  # fmt: skip
_ANNOTATIONS_LIMIT_BYTES = 256 * 1024


def fill_system_fields(metadata: Obj) -> None:
    """Fills in a new object's UID and time, and a name from generateName if none is given."""
    for name in _SYSTEM_FIELDS:
        metadata.pop(name, None)
    metadata["uid"] = str(uuid.uuid4())
    metadata["creationTimestamp"] = timestamp()
    base = metadata.get("generateName")
    if base and not metadata.get("name"):
        metadata["name"] = base[:58] + "".join(secrets.choice(_SUFFIX_LETTERS) for _ in range(5))


def keep_system_fields(new: Obj, old: Obj) -> None:
    """Restores the fields that an update can't change: creation time, deletion time, grace period, generation."""
    new.setdefault("uid", old["uid"])
    for name in ("creationTimestamp", "generation", "deletionTimestamp"):
        if name in old:
            new[name] = old[name]
        else:
            new.pop(name, None)
    if "deletionGracePeriodSeconds" in old:
        new.setdefault("deletionGracePeriodSeconds", old["deletionGracePeriodSeconds"])


def keep_for_status(new: Obj, old: Obj) -> None:
    """Restores the metadata that a write to the status subresource of some kinds can't change."""
    for name in ("labels", "annotations", "finalizers", "ownerReferences", "deletionTimestamp", "generation"):
        if name in old:
            new[name] = old[name]
        else:
            new.pop(name, None)


def merge_owners(metadata: Obj) -> None:
    """Removes duplicate owner references."""
    owners = metadata.get("ownerReferences")
    if isinstance(owners, list):
        metadata["ownerReferences"] = list({owner.get("uid"): owner for owner in reversed(owners)}.values())[
            ::-1
        ]


def metadata_errors(kind: Kind, rules: Rules, metadata: Obj) -> list[FieldError]:
    """All errors of an object's metadata."""
    return [
        *_name_errors(rules, metadata),
        *_namespace_errors(kind, metadata),
        *_label_errors(metadata.get("labels") or {}),
        *_annotation_errors(metadata.get("annotations") or {}),
        *_owner_errors(metadata.get("ownerReferences") or []),
        *_finalizer_errors(kind, metadata.get("finalizers") or []),
    ]


def metadata_update_errors(new: Obj, old: Obj) -> list[FieldError]:
    """Errors of metadata changes that no update may make."""
    errors = [
        invalid_value(f"metadata.{name}", new.get(name), IMMUTABLE)
        for name in ("name", "namespace", "uid")
        if new.get(name) != old.get(name)
    ]
    if new.get("deletionGracePeriodSeconds") != old.get("deletionGracePeriodSeconds"):
        value = new.get("deletionGracePeriodSeconds")
        errors.append(invalid_value("metadata.deletionGracePeriodSeconds", value, IMMUTABLE))
    if "deletionTimestamp" in old:
        extra = sorted(set(new.get("finalizers") or []) - set(old.get("finalizers") or []))
        if extra:
            listed = "[]string{" + ", ".join(f'"{name}"' for name in extra) + "}"
            text = f"no new finalizers can be added if the object is being deleted, found new finalizers {listed}"
            errors.append(forbidden_field("metadata.finalizers", text))
    return errors


def _name_errors(rules: Rules, metadata: Obj) -> list[FieldError]:
    errors = []
    base, name = metadata.get("generateName"), metadata.get("name")
    if base:
        errors += [
            invalid_value("metadata.generateName", base, text)
            for text in rules.name_complaints(_without_dash(base))
        ]
    if not name:
        return [*errors, required("metadata.name", "name or generateName is required")]
    return errors + [invalid_value("metadata.name", name, text) for text in rules.name_complaints(name)]


def _without_dash(base: str) -> str:
    """A generateName as it is checked: a trailing dash is valid, since a suffix follows."""
    return base[:-2] + "a" if len(base) > 1 and base.endswith("-") else base


def _namespace_errors(kind: Kind, metadata: Obj) -> list[FieldError]:
    namespace = metadata.get("namespace")
    if not kind.namespaced:
        return [forbidden_field("metadata.namespace", "not allowed on this type")] if namespace else []
    if not namespace:
        return [required("metadata.namespace")]
    return [invalid_value("metadata.namespace", namespace, text) for text in label_complaints(namespace)]


def _label_errors(labels: dict[str, Any]) -> list[FieldError]:
    errors = []
    for key, value in labels.items():
        errors += [invalid_value("metadata.labels", key, text) for text in qualified_name_complaints(key)]
        errors += [
            invalid_value("metadata.labels", value, text) for text in label_value_complaints(str(value))
        ]
    return errors


def _annotation_errors(annotations: dict[str, Any]) -> list[FieldError]:
    errors = []
    for key in annotations:
        errors += [
            invalid_value("metadata.annotations", key, text)
            for text in qualified_name_complaints(key.lower())
        ]
    size = sum(len(key.encode()) + len(str(value).encode()) for key, value in annotations.items())
    if size > _ANNOTATIONS_LIMIT_BYTES:
        errors.append(too_long("metadata.annotations", _ANNOTATIONS_LIMIT_BYTES))
    return errors


def _owner_errors(owners: list[Obj]) -> list[FieldError]:
    errors = []
    for place, owner in enumerate(owners):
        path = f"metadata.ownerReferences[{place}]"
        errors += [
            required(f"{path}.{name}", "must not be empty")
            for name in ("apiVersion", "kind", "name", "uid")
            if not owner.get(name)
        ]
    controllers = [f"{owner.get('kind')}/{owner.get('name')}" for owner in owners if owner.get("controller")]
    if len(controllers) > 1:
        text = 'Only one reference can have Controller set to true. Found "true" in references for '
        detail = f"{text}{controllers[0]} and {controllers[1]}"
        errors.append(invalid_value("metadata.ownerReferences", owners, detail))
    return errors


def _is_lenient(kind: Kind) -> bool:
    """Whether the kind accepts finalizers without a domain; the real server validates such kinds by other code."""
    return kind.custom or kind.store_id in _LENIENT_FINALIZERS


def _finalizer_errors(kind: Kind, finalizers: list[str]) -> list[FieldError]:
    errors = []
    for name in finalizers:
        errors += [
            invalid_value("metadata.finalizers", name, text) for text in qualified_name_complaints(name)
        ]
    errors += [
        invalid_value(f"metadata.finalizers[{place}]", name, _NOT_QUALIFIED)
        for place, name in enumerate(finalizers)
        if "/" not in name and name not in (ORPHAN, FOREGROUND, "kubernetes") and not _is_lenient(kind)
    ]
    if ORPHAN in finalizers and FOREGROUND in finalizers:
        text = f"finalizer {ORPHAN} and {FOREGROUND} cannot be both set"
        errors.append(invalid_value("metadata.finalizers", finalizers, text))
    return errors
