"""The rules of ResourceSlice: limits, names, attributes, capacities, taints, and immutable fields.

Place in the chain: `table.py` lists `SLICE_RULES`.
Source: kubernetes/kubernetes pkg/apis/resource/validation/validation.go (1.37), kubernetes/api resource/v1.
"""

import re
from typing import Any

from gpuvitals_sim.apiserver.errors import FieldError, invalid_value, late, required, too_long, too_many
from gpuvitals_sim.apiserver.json_types import Obj, dig, same
from gpuvitals_sim.apiserver.strategy.fields import (
    driver_errors,
    items_errors,
    label_errors,
    list_errors,
    pool_errors,
    unique_errors,
)
from gpuvitals_sim.apiserver.strategy.metadata import IMMUTABLE
from gpuvitals_sim.apiserver.strategy.names import c_identifier_complaints, subdomain_complaints
from gpuvitals_sim.apiserver.strategy.rules import Rules
from gpuvitals_sim.apiserver.strategy.taints import stamp, taint_errors

_DEVICES_LIMIT, _DEVICES_LIMIT_ADVANCED = 128, 64
_TAINTS_LIMIT, _ATTRIBUTES_LIMIT, _VALUES_LIMIT = 16, 32, 48
_VALUE_BYTES, _ID_BYTES = 64, 32
_LIST_TYPES = ("bools", "ints", "strings", "versions")
_TYPES = ("int", "bool", "string", "version", "ints", "bools", "strings", "versions")
_UNION_TEXT = ", ".join(f"`{name}`" for name in _TYPES)
_NODE_CHOICE = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"

_NUMBER, _PRE = r"(0|[1-9]\d*)", r"(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
_SEMVER = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-{_PRE}(\.{_PRE})*)?(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?", re.ASCII
)


def _default(slice_: Obj) -> None:
    for device in dig(slice_, "spec", "devices") or ():
        for taint in (device.get("taints") or ()) if isinstance(device, dict) else ():
            stamp(taint)


def _drop_gated(slice_: Obj) -> None:
    """Drops the fields of feature gates that are off by default in 1.37."""
    spec = slice_.get("spec") or {}
    for name in ("partitionTypeAttribute", "skipNodeOperations"):
        spec.pop(name, None)
    for device in spec.get("devices") or ():
        device.pop("nodeAllocatableResources", None)
        for attribute in (device.get("attributes") or {}).values():
            for name in _LIST_TYPES:
                attribute.pop(name, None)


def _create_errors(slice_: Obj) -> list[FieldError]:
    return _spec_errors(slice_.get("spec") or {}, None)


def _update_errors(new: Obj, old: Obj, _subresource: str) -> list[FieldError]:
    return _spec_errors(new.get("spec") or {}, old["spec"])


def _spec_errors(spec: Obj, old: Obj | None) -> list[FieldError]:
    errors = driver_errors(spec.get("driver") or "", "spec.driver") + _pool_errors(spec.get("pool") or {})
    if old is not None:
        errors += _immutable_errors(spec, old)
    errors += _node_errors(spec)
    if "sharedCounters" in spec and "devices" in spec:
        errors.append(invalid_value("spec", "", "only one of `sharedCounters` or `devices` is allowed"))
    return errors + _devices_errors(spec, old)


def _pool_errors(pool: Obj) -> list[FieldError]:
    errors = pool_errors(pool.get("name") or "", "spec.pool.name")
    count, generation = pool.get("resourceSliceCount") or 0, pool.get("generation") or 0
    if count <= 0:
        errors.append(invalid_value("spec.pool.resourceSliceCount", count, "must be greater than zero"))
    if generation < 0:
        text = "must be greater than or equal to zero"
        errors.append(invalid_value("spec.pool.generation", generation, text))
    return errors


def _immutable_errors(spec: Obj, old: Obj) -> list[FieldError]:
    return [
        invalid_value("spec." + ".".join(path), dig(spec, *path), IMMUTABLE)
        for path in (("pool", "name"), ("driver",), ("nodeName",))
        if dig(spec, *path) != dig(old, *path)
    ]


def _node_errors(spec: Obj) -> list[FieldError]:
    errors: list[FieldError] = []
    chosen = []
    if "nodeName" in spec:
        if spec["nodeName"]:
            chosen.append("`nodeName`")
            texts = subdomain_complaints(spec["nodeName"])
            errors += [invalid_value("spec.nodeName", spec["nodeName"], text) for text in texts]
        else:
            text = "must be either unset or set to a non-empty string"
            errors.append(invalid_value("spec.nodeName", "", text))
    if "nodeSelector" in spec:
        chosen.append("`nodeSelector`")
        terms = dig(spec, "nodeSelector", "nodeSelectorTerms") or []
        if len(terms) != 1:
            text = "must have exactly one node selector term"
            errors.append(invalid_value("spec.nodeSelector.nodeSelectorTerms", terms, text))
    for name in ("allNodes", "perDeviceNodeSelection"):
        if spec.get(name):
            chosen.append(f"`{name}`")
        elif name in spec:
            errors.append(invalid_value(f"spec.{name}", False, "must be either unset or set to true"))
    if not chosen:
        errors.append(required("spec", _NODE_CHOICE))
    elif len(chosen) > 1:
        text = f"{_NODE_CHOICE}, but multiple fields are set"
        errors.append(invalid_value("spec", "{" + ", ".join(chosen) + "}", text))
    return errors


def _devices_errors(spec: Obj, old: Obj | None) -> list[FieldError]:
    devices = spec.get("devices") or []
    limit = _DEVICES_LIMIT_ADVANCED if any(map(_is_advanced, devices)) else _DEVICES_LIMIT
    if len(devices) > limit:
        return [too_many("spec.devices", len(devices), limit)]
    before = {device.get("name"): device for device in (old or {}).get("devices") or ()}

    def check(device: Obj, path: str) -> list[FieldError]:
        return _device_errors(device, before.get(device.get("name")), path)

    errors = items_errors(devices, "spec.devices", check)
    return errors + unique_errors(devices, "spec.devices", lambda device: device.get("name") or "")


def _is_advanced(device: Obj) -> bool:
    attributes = (device.get("attributes") or {}).values()
    has_lists = any(name in attribute for attribute in attributes for name in _LIST_TYPES)
    return bool(device.get("taints") or device.get("consumesCounters") or has_lists)


def _device_errors(device: Obj, old: Obj | None, path: str) -> list[FieldError]:
    attributes, capacity = device.get("attributes") or {}, device.get("capacity") or {}
    errors = label_errors(device.get("name") or "", f"{path}.name")
    total = len(attributes) + len(capacity)
    if total > _ATTRIBUTES_LIMIT:
        text = f"the total number of attributes and capacities must not exceed {_ATTRIBUTES_LIMIT}"
        errors.append(invalid_value(path, total, text))
    for key, attribute in attributes.items():
        errors += _key_errors(key, f"{path}.attributes")
        errors += _attribute_errors(attribute, f"{path}.attributes[{_shortened(key)}]")
    if old is None or not same(old.get("capacity"), device.get("capacity")):
        for key, value in capacity.items():
            errors += _key_errors(key, f"{path}.capacity")
            errors += _capacity_errors(value, device, f"{path}.capacity[{_shortened(key)}]")
    if old is None or not same(old.get("taints"), device.get("taints")):
        errors += list_errors(device.get("taints") or [], f"{path}.taints", _TAINTS_LIMIT, taint_errors)
    return errors


def _key_errors(key: str, path: str) -> list[FieldError]:
    parts = key.split("/")
    if len(parts) > 2:
        return []
    errors: list[FieldError] = []
    if len(parts) == 2:
        errors += driver_errors(parts[0], path) if parts[0] else [_empty(path, "domain")]
        if not parts[1]:
            return [*errors, _empty(path, "name")]
    name = parts[-1]
    if len(name) > _ID_BYTES:
        errors.append(too_long(path, _ID_BYTES))
    return errors + [invalid_value(path, name, text) for text in c_identifier_complaints(name)]


def _empty(path: str, what: str) -> FieldError:
    return invalid_value(path, "", f"the {what} must not be empty")


def _attribute_errors(attribute: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    given = [name for name in _TYPES if name in attribute]
    for name in given:
        values = attribute[name] if name in _LIST_TYPES else [attribute[name]]
        if not values:
            errors.append(invalid_value(f"{path}.{name}", values, "must not be empty if specified"))
        for place, value in enumerate(values):
            where = f"{path}.{name}" + (f"[{place}]" if name in _LIST_TYPES else "")
            errors += _value_errors(value, name, where)
    if len(given) != 1:
        shown = "{" + ", ".join(given) + "}" if given else ""
        exactly = "exactly " if given else ""
        errors.append(late(invalid_value(path, shown, f"must specify {exactly}one of: {_UNION_TEXT}")))
    return errors


def _value_errors(value: Any, kind: str, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if kind.startswith("version") and not _SEMVER.fullmatch(value):
        errors.append(invalid_value(path, value, "must be a string compatible with semver.org spec 2.0.0"))
    if kind.startswith(("string", "version")) and len(value.encode()) > _VALUE_BYTES:
        errors.append(too_long(path, _VALUE_BYTES))
    return errors


def _capacity_errors(value: Obj, device: Obj, path: str) -> list[FieldError]:
    if "requestPolicy" in value and not device.get("allowMultipleAllocations"):
        return [
            FieldError(
                reason="FieldValueForbidden",
                field=f"{path}.requestPolicy",
                body="Forbidden: allowMultipleAllocations must be true",
            )
        ]
    return []


def _shortened(key: str) -> str:
    limit = 63 + 1 + _ID_BYTES
    if len(key) <= limit:
        return key
    left = limit - 3
    return key[: (left + 1) // 2] + "..." + key[-(left // 2) :]


SLICE_RULES = Rules(
    prepare_create=_drop_gated,
    prepare_update=lambda new, _old, _subresource: _drop_gated(new),
    default=_default,
    validate_create=_create_errors,
    validate_update=_update_errors,
)
