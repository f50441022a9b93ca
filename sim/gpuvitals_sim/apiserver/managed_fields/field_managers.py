"""`metadata.managedFields`: maintained by every write, evaluated by server-side apply.

Place in the chain: the write pipeline calls `track_write` for create, update and patches, `apply_owned` for an
apply. A writer owns the fields that it set. An applier that changes a field of another manager gets a conflict unless
it forces. A field that it no longer names is removed if it has no other owner.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gpuvitals_sim.apiserver.errors import apply_conflict, bad_request
from gpuvitals_sim.apiserver.json_types import Obj, clone, dig, pruned, same, timestamp
from gpuvitals_sim.apiserver.kinds import Kind
from gpuvitals_sim.apiserver.managed_fields.compare import compare
from gpuvitals_sim.apiserver.managed_fields.field_set import (
    NO_FIELDS,
    Fields,
    Path,
    decode_fields,
    encode_fields,
    fields_of,
    path_text,
    with_parents,
    without_branches,
)
from gpuvitals_sim.apiserver.managed_fields.merge import merged, removed
from gpuvitals_sim.apiserver.merge_schema import MergeSchema, empty_object, merge_schema_of
from gpuvitals_sim.apiserver.request import Target, WriteOptions

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
BEFORE_FIRST_APPLY = "before-first-apply"

_NEVER_OWNED: Fields = frozenset(
    [("f:apiVersion",), ("f:kind",), ("f:metadata",)]
    + [
        ("f:metadata", f"f:{name}")
        for name in ("name", "namespace", "creationTimestamp", "selfLink", "uid", "generation", "managedFields",
                     "resourceVersion")
    ]
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Manager:
    """An owner of fields: one entry of managedFields. Appliers keep one entry through all API versions."""

    name: str
    operation: str
    api_version: str
    subresource: str

    def text(self) -> str:
        """As conflict messages name it."""
        text = f'"{self.name}"' + (f' with subresource "{self.subresource}"' if self.subresource else "")
        return f"{text} using {self.api_version}" if self.operation == "Update" else text


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The fields of a manager, the time of the write, and its API version."""

    fields: Fields
    time: str
    api_version: str


Owners = dict[Manager, Entry]


def track_write(kind: Kind, live: Obj | None, new: Obj, manager: str, subresource: str) -> Obj:
    """The new object with managedFields as a create, update or patch by this manager leaves them."""
    requested = new["metadata"].pop("managedFields", None)
    held = _decode(dig(live, "metadata", "managedFields"))
    owners = held if subresource or not requested else (_decode(requested) or held)
    if (
        not subresource
        and live is not None
        and requested is not None
        and (requested == [] or requested == [{}])
    ):
        owners = {}
    if live is not None and not owners:
        return new
    writer = _manager(kind, manager, "Update", subresource)
    owners = _written(owners, _Change(kind, live or _empty(kind), new, subresource), writer)
    return _with_owners(new, owners)


def apply_owned(target: Target, live: Obj | None, config: Obj, options: WriteOptions) -> Obj:
    """The live object with the configuration applied. Raises ApiError 400, or 409 for another manager's fields."""
    kind = target.kind
    _check_config(kind, config)
    schema = merge_schema_of(kind)
    base = _without_managed(live) if live is not None else {}
    owners = _decode(dig(live, "metadata", "managedFields"))
    if live is not None and not owners:
        first = _manager(kind, BEFORE_FIRST_APPLY, "Update", target.subresource)
        owners = _written(owners, _Change(kind, _empty(kind), base, target.subresource), first)
    applier = _manager(kind, options.field_manager, "Apply", target.subresource)
    last = owners.get(applier)
    named = without_branches(fields_of(config, schema), _reset_fields(kind, target.subresource))
    owners[applier] = Entry(fields=named, time=timestamp(), api_version=kind.api_version)
    result = merged(base, config, schema)
    if last is not None and last.fields:
        result = _pruned(result, owners, last.fields, schema)
    result = _ordered(kind, pruned(result))
    change = _Change(kind, base, result, target.subresource)
    owners = _taken(owners, change, applier, force=options.force)
    owners = _stripped(owners, applier)
    if applier in owners and live is not None and same(pruned(base), result):
        # An apply that changed nothing has no time: a new applier of present values never gets one.
        owners[applier] = replace(owners[applier], time=last.time if last is not None else "")
    if applier.name == "kubectl" and dig(result, "metadata", "annotations", LAST_APPLIED):
        result["metadata"]["annotations"][LAST_APPLIED] = _as_last_applied(config)
    return _with_owners(result, owners)


def _as_last_applied(config: Obj) -> str:
    """The configuration as kubectl's client-side apply stores it, so that users can return to that."""
    noted = clone(config)
    (noted["metadata"].get("annotations") or {}).pop(LAST_APPLIED, None)
    text = json.dumps(noted, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return f"{text}\n"


def same_owners(left: list[Obj], right: list[Obj]) -> bool:
    """Whether two managedFields lists are equal except for their times."""

    def bare(entries: list[Obj]) -> list[Obj]:
        return [{key: value for key, value in entry.items() if key != "time"} for entry in entries or []]

    return same(bare(left), bare(right))


@dataclass(frozen=True, slots=True)
class _Change:
    kind: Kind
    old: Obj
    new: Obj
    subresource: str

    def difference(self) -> tuple[Fields, Fields]:
        """The paths that are set and removed, without those that this subresource can't change."""
        found = compare(self.old, self.new, merge_schema_of(self.kind))
        reset = _reset_fields(self.kind, self.subresource)
        return without_branches(found.touched, reset), without_branches(found.removed, reset)


def _written(owners: Owners, change: _Change, writer: Manager) -> Owners:
    touched, gone = change.difference()
    result = _without(owners, touched | gone)
    mine = touched - _NEVER_OWNED
    if mine:
        before = result[writer].fields if writer in result else NO_FIELDS
        result[writer] = Entry(fields=before | mine, time=timestamp(), api_version=writer.api_version)
    return result


def _taken(owners: Owners, change: _Change, applier: Manager, *, force: bool) -> Owners:
    touched, gone = change.difference()
    others = {manager: entry for manager, entry in owners.items() if manager != applier}
    conflicts = [
        (manager, path) for manager, entry in others.items() for path in sorted(entry.fields & touched)
    ]
    if conflicts and not force:
        raise apply_conflict(
            _conflict_text(conflicts),
            [
                {
                    "reason": "FieldManagerConflict",
                    "message": f"conflict with {manager.text()}",
                    "field": path_text(path),
                }
                for manager, path in conflicts
            ],
        )
    return {**_without(others, touched | gone), applier: owners[applier]}


def _pruned(result: Obj, owners: Owners, last: Fields, schema: MergeSchema) -> Obj:
    """Removes the fields that the applier named last time and no manager names now."""
    everything = with_parents(fields_of(result, schema), schema)
    owned = with_parents(frozenset().union(*(entry.fields for entry in owners.values())), schema)
    last_all = with_parents(last, schema)
    cut = _shrunk(result, last_all, schema)
    cut = _shrunk(result, everything - (with_parents(fields_of(cut, schema), schema) | owned), schema)
    left = with_parents(fields_of(cut, schema), schema)
    return _shrunk(result, (everything - left) & last_all, schema)


def _shrunk(value: Obj, fields: Fields, schema: MergeSchema) -> Obj:
    return removed(value, fields, schema) or {}


def _without(owners: Mapping[Manager, Entry], fields: Fields) -> Owners:
    left = {manager: replace(entry, fields=entry.fields - fields) for manager, entry in owners.items()}
    return {manager: entry for manager, entry in left.items() if entry.fields}


def _stripped(owners: Owners, applier: Manager) -> Owners:
    mine = owners[applier].fields - _NEVER_OWNED
    if mine:
        return {**owners, applier: replace(owners[applier], fields=mine)}
    return {manager: entry for manager, entry in owners.items() if manager != applier}


def _check_config(kind: Kind, config: Obj) -> None:
    version, name = config.get("apiVersion"), config.get("kind")
    if not version or not name:
        raise bad_request(f"invalid object type: {version or '/'}, Kind={name or ''}")
    if (version, name) != (kind.api_version, kind.name):
        raise bad_request(f"invalid object type: {version if '/' in version else f'/{version}'}, Kind={name}")
    if dig(config, "metadata", "managedFields") is not None:
        raise bad_request("metadata.managedFields must be nil")


def _reset_fields(kind: Kind, subresource: str) -> tuple[Path, ...]:
    if subresource == "status":
        return (("f:spec",), ("f:metadata",)) if kind.status_keeps_metadata else (("f:spec",),)
    return (("f:status",),) if kind.status else ()


def _conflict_text(conflicts: list[tuple[Manager, Path]]) -> str:
    if len(conflicts) == 1:
        manager, path = conflicts[0]
        return f"Apply failed with 1 conflict: conflict with {manager.text()}: {path_text(path)}"
    by_manager: dict[str, list[str]] = {}
    for manager, path in conflicts:
        by_manager.setdefault(manager.text(), []).append(f"- {path_text(path)}")
    lines = [line for text in sorted(by_manager) for line in (f"conflicts with {text}:", *by_manager[text])]
    return f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines)


def _manager(kind: Kind, name: str, operation: str, subresource: str) -> Manager:
    version = kind.api_version if operation == "Update" else ""
    return Manager(name=name, operation=operation, api_version=version, subresource=subresource)


def _decode(entries: Any) -> Owners:
    owners: Owners = {}
    for entry in entries or ():
        if not entry.get("fieldsV1"):
            continue
        operation = entry.get("operation", "Update")
        manager = Manager(
            name=entry.get("manager", ""),
            operation=operation,
            api_version=entry.get("apiVersion", "") if operation == "Update" else "",
            subresource=entry.get("subresource", ""),
        )
        fields = decode_fields(entry["fieldsV1"])
        owners[manager] = Entry(
            fields=fields, time=entry.get("time", ""), api_version=entry.get("apiVersion", "")
        )
    return owners


def _with_owners(obj: Obj, owners: Owners) -> Obj:
    entries = []
    for manager, entry in owners.items():
        shown: Obj = {
            "manager": manager.name,
            "operation": manager.operation,
            "apiVersion": entry.api_version,
        }
        shown |= {"time": entry.time} if entry.time else {}
        shown |= {"fieldsType": "FieldsV1", "fieldsV1": encode_fields(entry.fields)}
        if manager.subresource:
            shown["subresource"] = manager.subresource
        entries.append(shown)
    order = ("operation", "time", "manager", "apiVersion", "subresource")
    entries.sort(key=lambda shown: [shown.get(name, "") for name in order])
    metadata = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    if entries:
        metadata["managedFields"] = entries
    return {**obj, "metadata": metadata}


def _empty(kind: Kind) -> Obj:
    """The base of a create: an object of the type without any set field."""
    empty: Obj = empty_object(merge_schema_of(kind))
    return empty


def _ordered(kind: Kind, obj: Obj) -> Obj:
    rest = {key: value for key, value in obj.items() if key not in ("kind", "apiVersion", "metadata")}
    return {"kind": kind.name, "apiVersion": kind.api_version, "metadata": obj.get("metadata") or {}, **rest}


def _without_managed(obj: Obj) -> Obj:
    metadata = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    return clone({**obj, "metadata": metadata})
