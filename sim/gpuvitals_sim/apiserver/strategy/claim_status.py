"""The rules of ResourceClaim: immutable spec, allocation, reservations, device status.

Place in the chain: `table.py` lists `CLAIM_RULES`.
Source: kubernetes/kubernetes pkg/registry/resource/resourceclaim/strategy.go and pkg/apis/resource/validation.
"""

from typing import Any

from gpuvitals_sim.apiserver.errors import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid_value,
    late,
    required,
    too_many,
)
from gpuvitals_sim.apiserver.json_types import Obj, dig, same
from gpuvitals_sim.apiserver.strategy.claims import (
    default_spec,
    immutable_spec_errors,
    opaque_errors,
    raw_errors,
    reference_errors,
    request_names,
    spec_errors,
)
from gpuvitals_sim.apiserver.strategy.fields import (
    condition_errors,
    default_conditions,
    driver_errors,
    items_errors,
    label_errors,
    list_errors,
    pool_errors,
)
from gpuvitals_sim.apiserver.strategy.rules import Rules
from gpuvitals_sim.apiserver.strategy.taints import toleration_errors

_RESERVED_LIMIT, _RESULTS_LIMIT, _CONFIG_LIMIT = 256, 32, 64
_CONDITIONS_LIMIT, _DATA_BYTES = 8, 10 * 1024

DeviceKey = tuple[str, str, str, str]


def device_key(entry: Obj) -> DeviceKey:
    """The key of an allocated device: driver, pool, device and share."""
    driver, pool, device, share = (
        str(entry.get(name) or "") for name in ("driver", "pool", "device", "shareID")
    )
    return driver, pool, device, share


def _allocated(claim: Obj) -> set[DeviceKey]:
    return {device_key(result) for result in dig(claim, "status", "allocation", "devices", "results") or ()}


def _default(claim: Obj) -> None:
    default_spec(claim.setdefault("spec", {}))
    for entry in dig(claim, "status", "devices") or ():
        entry.setdefault("conditions", None)
        default_conditions(entry["conditions"])
    for result in dig(claim, "status", "allocation", "devices", "results") or ():
        for toleration in result.get("tolerations") or ():
            toleration.setdefault("operator", "Equal")


def _prepare_update(new: Obj, old: Obj, subresource: str) -> None:
    """Removes the status of deallocated devices."""
    if subresource != "status" or "status" not in new:
        return
    gone = _allocated(old) - _allocated(new)
    entries = new["status"].get("devices")
    if entries is not None and gone:
        kept = [entry for entry in entries if device_key(entry) not in gone]
        new["status"]["devices"] = kept
        if not kept:
            del new["status"]["devices"]


def _update_errors(new: Obj, old: Obj, subresource: str) -> list[FieldError]:
    if subresource != "status":
        return immutable_spec_errors(new, old, subresource)
    status, before = new.get("status") or {}, old.get("status") or {}
    return [
        *_reservation_errors(status, before, is_going="deletionTimestamp" in new["metadata"]),
        *_devices_errors(new),
        *_allocation_change_errors(new, status, before),
    ]


def _reservation_errors(status: Obj, before: Obj, *, is_going: bool) -> list[FieldError]:
    reserved, path = status.get("reservedFor") or [], "status.reservedFor"
    errors = list_errors(reserved, path, _RESERVED_LIMIT, _consumer_errors)
    seen: set[Any] = set()
    for place, consumer in enumerate(reserved):
        if consumer.get("uid") in seen:
            errors.append(duplicate(f"{path}[{place}]", consumer))
        seen.add(consumer.get("uid"))
    if reserved and status.get("allocation") is None:
        errors.append(forbidden_field(path, "may not be specified when `allocated` is not set"))
    elif is_going and any(consumer not in (before.get("reservedFor") or []) for consumer in reserved):
        text = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
        errors.append(forbidden_field(path, text))
    return errors


def _consumer_errors(consumer: Obj, path: str) -> list[FieldError]:
    return [required(f"{path}.{name}") for name in ("resource", "name", "uid") if not consumer.get(name)]


def _devices_errors(claim: Obj) -> list[FieldError]:
    entries, allocated = dig(claim, "status", "devices") or [], _allocated(claim)
    errors = items_errors(
        entries, "status.devices", lambda entry, path: _device_status_errors(entry, path, allocated)
    )
    seen: set[DeviceKey] = set()
    for place, entry in enumerate(entries):
        key = device_key(entry)
        if key in seen:
            first = {name: entry[name] for name in ("driver", "pool", "device", "shareID") if entry.get(name)}
            shown = {**first, "conditions": entry.get("conditions"), **entry}
            errors.append(late(duplicate(f"status.devices[{place}]", shown)))
        seen.add(key)
    return errors


def _device_status_errors(entry: Obj, path: str, allocated: set[DeviceKey]) -> list[FieldError]:
    errors = driver_errors(entry.get("driver") or "", f"{path}.driver")
    errors += pool_errors(entry.get("pool") or "", f"{path}.pool")
    errors += label_errors(entry.get("device") or "", f"{path}.device")
    if device_key(entry) not in allocated:
        shown = dict(zip(("Driver", "Pool", "Device", "ShareID"), device_key(entry), strict=True))
        errors.append(invalid_value(path, shown, "must be an allocated device in the claim"))
    conditions = entry.get("conditions") or []
    if len(conditions) > _CONDITIONS_LIMIT:
        errors.append(too_many(f"{path}.conditions", len(conditions), _CONDITIONS_LIMIT))
    errors += condition_errors(conditions, f"{path}.conditions")
    if "data" in entry:
        errors += raw_errors(entry["data"], f"{path}.data", _DATA_BYTES)
    return errors


def _allocation_change_errors(claim: Obj, status: Obj, before: Obj) -> list[FieldError]:
    allocation, old = status.get("allocation"), before.get("allocation")
    if allocation is None:
        return []
    if old is not None:
        if same(allocation, old):
            return []
        return [late(invalid_value("status.allocation", None, "field cannot be modified once set"))]
    names = request_names(claim.get("spec") or {})
    devices, path = allocation.get("devices") or {}, "status.allocation.devices"
    errors = list_errors(
        devices.get("results") or [],
        f"{path}.results",
        _RESULTS_LIMIT,
        lambda item, at: _result_errors(item, at, names),
    )
    return errors + list_errors(
        devices.get("config") or [], f"{path}.config", _CONFIG_LIMIT, lambda item, at: opaque_errors(item, at)
    )


def _result_errors(result: Obj, path: str, names: set[str]) -> list[FieldError]:
    errors = reference_errors(result.get("request") or "", f"{path}.request", names)
    errors += driver_errors(result.get("driver") or "", f"{path}.driver")
    errors += pool_errors(result.get("pool") or "", f"{path}.pool")
    errors += label_errors(result.get("device") or "", f"{path}.device")
    return errors + items_errors(result.get("tolerations") or [], f"{path}.tolerations", toleration_errors)


CLAIM_RULES = Rules(
    default=_default,
    prepare_update=_prepare_update,
    validate_create=lambda claim: spec_errors(claim.get("spec") or {}, "spec"),
    validate_update=_update_errors,
)
