"""Tables: the representation that `kubectl get` requests.

Place in the chain: `rendering.py` makes one from an object or a list. Custom resources have their own columns
(`additionalPrinterColumns`) with simple JSON paths.
"""

import re
from functools import lru_cache
from typing import Any

from gpuvitals_sim.apiserver.json_types import Obj, dig
from gpuvitals_sim.apiserver.kinds import Kind
from gpuvitals_sim.apiserver.representation.durations import age
from gpuvitals_sim.apiserver.representation.printer_columns import AGE, NAME, Column, columns_for

_STEP = re.compile(r"\.?(?P<name>(?:\\.|[^.\[\]])+)|\[(?P<inner>[^\]]*)\]")
_FILTER = re.compile(r"^\?\(\s*@\.(?P<key>[^=\s]+)\s*==\s*['\"]?(?P<value>[^'\"]*)['\"]?\s*\)$")


def table(kind: Kind, items: list[Obj], metadata: Obj, include_object: str, *, header: bool = True) -> Obj:
    """A Table of the items; `header` false leaves the column definitions out (later events of a watch)."""
    columns = _columns(kind)
    rows = [
        {
            "cells": [column.cell(item) for column in columns],
            "object": _row_object(kind, item, include_object),
        }
        for item in items
    ]
    definitions = [column.definition() for column in columns] if header else []
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": definitions,
        "rows": rows,
    }


def partial(item: Obj) -> Obj:
    """Only the metadata of an object."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]}


def json_path(obj: Obj, path: str) -> Any:
    """The first value at a path like `.status.conditions[?(@.type=="Ready")].status`, or None."""
    found: list[Any] = [obj]
    for step in _STEP.finditer(path):
        name = step["name"]
        found = [
            value
            for item in found
            for value in (_named(item, name) if name else _chosen(item, step["inner"] or ""))
        ]
    return found[0] if found else None


@lru_cache(maxsize=256)
def _columns(kind: Kind) -> tuple[Column, ...]:
    if not kind.custom:
        return columns_for(kind.store_id)
    if not kind.columns:
        return (NAME, AGE)
    return (NAME, *(_custom(dict(entry)) for entry in kind.columns))


def _custom(entry: Obj) -> Column:
    path, kind = entry["jsonPath"], entry.get("type", "string")

    def cell(obj: Obj) -> Any:
        value = json_path(obj, path)
        if kind == "date":
            return age(value)
        if value is None:
            return None
        return value if kind in ("integer", "number", "boolean") else _as_text(value)

    return Column(
        name=entry["name"],
        cell=cell,
        type=kind,
        format=entry.get("format", ""),
        wide=bool(entry.get("priority")),
        description=entry.get("description", ""),
    )


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _named(item: Any, name: str) -> list[Any]:
    value = dig(item, re.sub(r"\\(.)", r"\1", name))
    return [] if value is None else [value]


def _chosen(item: Any, inner: str) -> list[Any]:
    if isinstance(item, dict):
        return _named(item, inner.strip("'\""))
    if not isinstance(item, list):
        return []
    if inner == "*":
        return item
    if found := _FILTER.match(inner):
        return [entry for entry in item if str(dig(entry, found["key"])) == found["value"]]
    place = int(inner) if inner.lstrip("-").isdigit() else len(item)
    return item[place : place + 1 or None]


def _row_object(kind: Kind, item: Obj, include_object: str) -> Obj | None:
    """Items of a list have no kind of their own, but `kubectl get --sort-by` decodes each row by its kind."""
    if include_object == "None":
        return None
    if include_object == "Object":
        return {"kind": kind.name, "apiVersion": kind.api_version, **item}
    return partial(item)
