"""The API server's validation rules for a device of a ResourceSlice. Pure.

One device that breaks a rule would make the server refuse the whole slice, and with it the faults of every other GPU:
such a device is left out before the write. Source: kubernetes/kubernetes pkg/apis/resource/validation/validation.go (1.37).
"""

import re

from gpuvitals.inventory.device import MAX_KEYS, MAX_STRING, AttributeValue, Device, Taint, Version

MAX_TAINTS = 4
"""Taints of a device: the limit of 1.34, the lowest of all versions. Source: kubernetes/api resource/v1/types.go."""

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,31}", re.ASCII)
_QUALIFIED = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", re.ASCII)
_SEMVER = re.compile(r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)", re.ASCII)
_QUANTITY = re.compile(r"[0-9]{1,19}(k|Ki|Mi?|Gi?|Ti?|Pi?)?", re.ASCII)
_MAX_DOMAIN = 63
_MAX_PREFIX = 253
_INT64 = range(-(2**63), 2**63)


def invalid(device: Device) -> str:
    """The API server's rule that the device breaks, as text; empty for a valid device."""
    if _LABEL.fullmatch(device.name) is None:
        return f"name {device.name[:80]!a} is not a DNS label"
    total = len(device.attributes) + len(device.capacity)
    if total > MAX_KEYS:
        return f"{total} attributes and capacities, the API server takes {MAX_KEYS}"
    for key, value in device.attributes:
        why = _bad_key(key) or _bad_value(value)
        if why:
            return f"attribute {key[:100]!a} {why}"
    for key, count in device.capacity:
        why = _bad_key(key) or ("" if _QUANTITY.fullmatch(count) else "is not a quantity")
        if why:
            return f"capacity {key[:100]!a} {why}"
    return _bad_taints(device.taints)


def _bad_key(key: str) -> str:
    domain, slash, name = key.rpartition("/")
    if slash and (len(domain) > _MAX_DOMAIN or _SUBDOMAIN.fullmatch(domain) is None):
        return "has a domain that is not a DNS subdomain of at most 63 characters"
    return "" if _IDENTIFIER.fullmatch(name) else "is not a C identifier of at most 32 characters"


def _bad_value(value: AttributeValue) -> str:
    match value:
        case bool():
            return ""
        case int():
            return "" if value in _INT64 else "is not a 64-bit integer"
        case Version():
            is_version = _SEMVER.fullmatch(value.text) and len(value.text) <= MAX_STRING
            return "" if is_version else "is not a semantic version"
        case str():
            return _bad_text(value)


def _bad_text(value: str) -> str:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return "is not text that UTF-8 can carry"
    return "" if size <= MAX_STRING else f"has {size} bytes, more than {MAX_STRING}"


def _bad_taints(taints: tuple[Taint, ...]) -> str:
    if len(taints) > MAX_TAINTS:
        return f"{len(taints)} taints, more than {MAX_TAINTS}"
    for taint in taints:
        prefix, slash, name = taint.key.rpartition("/")
        if slash and (len(prefix) > _MAX_PREFIX or _SUBDOMAIN.fullmatch(prefix) is None):
            return f"taint {taint.key[:100]!a} has a prefix that is not a DNS subdomain"
        if _QUALIFIED.fullmatch(name) is None:
            return f"taint {taint.key[:100]!a} is not a qualified name"
        if taint.value and _QUALIFIED.fullmatch(taint.value) is None:
            return f"taint {taint.key[:100]!a} has the value {taint.value[:80]!a}, which is not a label value"
    return ""
