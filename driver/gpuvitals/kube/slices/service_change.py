"""The effect of a changed slice on the use of its devices, which decides whether its write may wait. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec

from gpuvitals.decode_error import decoded

_FAILED = "failed"
_UNKNOWN = "/unknown"
_HEALTHY = "Healthy"
_FAULTY_STATES = frozenset({"Degraded", "Unhealthy"})


class ChangeKind(Enum):
    """The kind of difference between two published pools."""

    SERVICE = "service"
    """A device is added or removed, leaves service or returns to it."""
    FAULT = "fault"
    """A device stays in service, and its reported fault appears, changes or ends."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ShownHealth:
    """A device's health attributes as selectors read them; empty for attributes that it lacks."""

    grade: str = ""
    state: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DeviceUse:
    """The facts that decide about the use of a device: the taints that keep claims away, and its health."""

    barriers: frozenset[tuple[str, str]] = frozenset()
    health: ShownHealth = ShownHealth()


def shown_health(attributes: Mapping[str, Any]) -> ShownHealth:
    """The health attributes of a device on the wire, in any domain."""
    texts = {}
    for key, value in attributes.items():
        domain, _, name = key.rpartition("/")
        if domain and isinstance(value, dict) and isinstance(value.get("string"), str):
            texts[name] = value["string"]
    return ShownHealth(texts.get("class", ""), texts.get("state", ""), texts.get("reason", ""))


UNSEEN = DeviceUse(health=ShownHealth("unknown", "Unknown", ""))
"""A device that is withdrawn because it could not be read. It counts as present when a write may wait."""


def withdrawn_unseen(note: str) -> frozenset[str]:
    """The devices that a node report lists as withdrawn in state Unknown; none for an unreadable report."""
    if '"Unknown"' not in note:
        return frozenset()
    try:
        report = decoded(_REPORT, note.encode())
    except (msgspec.DecodeError, UnicodeEncodeError):
        return frozenset()
    return frozenset(entry.device for entry in report.withdrawn if entry.state == "Unknown")


def barrier(key: str, effect: str) -> frozenset[tuple[str, str]]:
    """A taint as a barrier; empty for a taint that keeps no claim away.

    The taint of an unreadable GPU is no barrier either: it is no evidence of a fault, and a monitor that fails and
    recovers every few seconds must not cause a write each time.
    """
    is_barrier = effect != "None" and not key.endswith(_UNKNOWN)
    return frozenset({(key, effect)}) if is_barrier else frozenset()


def kind_of_change(before: Mapping[str, DeviceUse], after: Mapping[str, DeviceUse]) -> ChangeKind:
    """The kind of the weightiest change of any device."""
    if before.keys() != after.keys():
        return ChangeKind.SERVICE
    kinds = {_kind(before[name], use) for name, use in after.items()}
    for kind in (ChangeKind.SERVICE, ChangeKind.FAULT):
        if kind in kinds:
            return kind
    return ChangeKind.OTHER


def _kind(before: DeviceUse, after: DeviceUse) -> ChangeKind:
    was_failed, is_failed = before.health.grade == _FAILED, after.health.grade == _FAILED
    if before.barriers != after.barriers or was_failed is not is_failed:
        return ChangeKind.SERVICE
    was, now = before.health, after.health
    if (was.state, was.reason) == (now.state, now.reason):
        return ChangeKind.OTHER
    is_fault = now.state in _FAULTY_STATES or (was.state in _FAULTY_STATES and now.state == _HEALTHY)
    return ChangeKind.FAULT if is_fault else ChangeKind.OTHER


class _Withdrawn(msgspec.Struct):
    device: str = ""
    state: str = ""


class _Report(msgspec.Struct):
    withdrawn: list[_Withdrawn] = []


_REPORT = msgspec.json.Decoder(_Report)
