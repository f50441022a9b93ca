"""Whether a kubelet is connected: slices published without one would attract pods that can't start."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gpuvitals.kubeletplugin.ports import PluginListener
from gpuvitals.kubeletplugin.telemetry import TelemetryBuffer


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationStatus:
    """The kubelet's last report about the registration. `registered` is None before the first report."""

    registered: bool | None = None
    error: str = ""


class KubeletConnection:
    """Derives the connection state from the registration and the health streams. Thread safe.

    A kubelet that opens health streams counts as connected while one is open, and for `recent_seconds` after; one that
    opens none (its feature gate is off) counts as connected from its registration on.
    """

    def __init__(self, recent_seconds: float, telemetry: TelemetryBuffer, listener: PluginListener) -> None:
        """`listener.kubelet_changed` is called after each change."""
        self._recent_seconds = recent_seconds
        self._telemetry = telemetry
        self._listener = listener
        self._lock = threading.Lock()
        self._status = RegistrationStatus()
        self._streams = 0
        self._streams_since_status = False
        self._last_activity = 0.0

    def set_status(self, status: RegistrationStatus) -> None:
        """Records the kubelet's report about the registration."""
        with self._lock:
            self._status = status
            self._streams_since_status = self._streams > 0
            self._last_activity = time.monotonic()
        self._notify()

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Counts a health stream as open for the block."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def streams(self) -> int:
        """The number of open health streams."""
        with self._lock:
            return self._streams

    def status(self) -> RegistrationStatus:
        """The kubelet's last report about the registration."""
        with self._lock:
            return self._status

    def connected(self) -> bool:
        """Whether a kubelet is connected now."""
        with self._lock:
            if not self._status.registered:
                return False
            if self._streams > 0 or not self._streams_since_status:
                return True
            return time.monotonic() - self._last_activity < self._recent_seconds

    def _count(self, change: int) -> None:
        with self._lock:
            self._streams += change
            self._streams_since_status = True
            self._last_activity = time.monotonic()
        self._notify()

    def _notify(self) -> None:
        # The count is read again: of two changes at the same time, the later one must be reported last.
        self._telemetry.streams(self.streams())
        self._listener.kubelet_changed()
