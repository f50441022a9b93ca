"""The health of devices as reported by plugins, with its expiry.

Place in the chain: the health streams write, the pod status reads. Expiry has no timer: it is found by the next reader or
the next message.
Source: kubernetes/kubernetes pkg/kubelet/cm/dra/healthinfo.go; observed on 1.37.2.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gpuvitals_sim.kubelet.plugin import Report

UNKNOWN = "Unknown"
_MAX_MESSAGE = 1024
_ELLIPSIS = "..."

DeviceKey = tuple[str, str, str]
"""Driver, pool, device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceHealth:
    """Health and message of a device in the pod status."""

    health: str = UNKNOWN
    message: str = ""


@dataclass(frozen=True, slots=True)
class _Entry:
    shown: DeviceHealth
    seen_at: float
    timeout_seconds: float


class HealthCache:
    """Thread safe. `now` is a monotonic clock in seconds."""

    def __init__(self, default_timeout_seconds: float, now: Callable[[], float]) -> None:
        self._default = default_timeout_seconds
        self._now = now
        self._lock = threading.Lock()
        self._entries: dict[DeviceKey, _Entry] = {}

    def update(self, driver: str, reports: Sequence[Report]) -> set[DeviceKey]:
        """Stores one message. Returns the devices whose health has changed."""
        now = self._now()
        with self._lock:
            before = {key: entry.shown for key, entry in self._entries.items()}
            for report in reports:
                self._entries[driver, report.pool, report.device] = _entry(report, now, self._default)
            reported = {(driver, report.pool, report.device) for report in reports}
            for key, entry in self._entries.items():
                if key[0] == driver and key not in reported and _is_stale(entry, now):
                    self._entries[key] = _Entry(DeviceHealth(), entry.seen_at, entry.timeout_seconds)
            return {key for key, entry in self._entries.items() if before.get(key) != entry.shown}

    def clear(self, driver: str) -> None:
        """Makes the health of all devices of the driver Unknown: one of its streams has ended."""
        with self._lock:
            self._entries = {key: entry for key, entry in self._entries.items() if key[0] != driver}

    def look(self, key: DeviceKey) -> DeviceHealth:
        """The health of the device now."""
        with self._lock:
            entry = self._entries.get(key)
        if entry is None or _is_stale(entry, self._now()):
            return DeviceHealth()
        return entry.shown


def _entry(report: Report, now: float, default: float) -> _Entry:
    timeout = report.timeout_seconds if report.timeout_seconds > 0 else default
    return _Entry(DeviceHealth(health=report.health, message=_cut(report.message)), now, timeout)


def _is_stale(entry: _Entry, now: float) -> bool:
    return now - entry.seen_at > entry.timeout_seconds


def _cut(message: str) -> str:
    if len(message) <= _MAX_MESSAGE:
        return message
    return message[: _MAX_MESSAGE - len(_ELLIPSIS)] + _ELLIPSIS
