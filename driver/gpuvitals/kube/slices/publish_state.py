"""The desired pool and the conditions under which it is written, with the wake-ups of the writing thread."""

import threading
from dataclasses import dataclass

from gpuvitals.kube.slices.ports import PoolSource
from gpuvitals.kube.write_priority import SliceWritePriority


@dataclass(frozen=True, slots=True)
class DesiredPool:
    """A pool to publish, with the revision of its snapshot."""

    source: PoolSource
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The state that one comparison works on. `is_active`: this process is the one that writes."""

    desired: DesiredPool | None
    kubelet_connected: bool
    is_active: bool


class PublishState:
    """Set by any thread; the waits are the writing thread's. `priority` is held from a new pool until it is stored."""

    def __init__(self, stopping: threading.Event, priority: SliceWritePriority) -> None:
        self.stopping = stopping
        self._priority = priority
        self._changed = threading.Condition()
        self._is_dirty = False
        self._desired: DesiredPool | None = None
        self._tried: DesiredPool | None = None
        self._kubelet_connected = False
        self._is_active = True
        self._stored_revision = -1

    @property
    def is_pending(self) -> bool:
        """Whether the newest pool is not stored yet."""
        desired = self._desired
        return desired is not None and self.is_new(desired)

    def is_new(self, desired: DesiredPool) -> bool:
        """Whether a pool was never stored."""
        return desired.revision > self._stored_revision

    def set_desired(self, desired: DesiredPool) -> None:
        """Replaces the desired pool."""
        with self._changed:
            self._desired = desired
            self._priority.begin()
            self._is_dirty = True
            self._changed.notify()

    def set_kubelet_connected(self, connected: bool) -> None:
        """Records whether a kubelet serves this driver."""
        with self._changed:
            self._is_dirty = self._is_dirty or (connected and not self._kubelet_connected)
            self._kubelet_connected = connected
            self._changed.notify()

    def set_active(self, active: bool) -> None:
        """Records whether this process is the one that writes."""
        with self._changed:
            self._is_dirty = self._is_dirty or (active and not self._is_active)
            self._is_active = active
            self._changed.notify()

    def stored_changed(self) -> None:
        """Requests a comparison, since the stored slices have changed."""
        with self._changed:
            self._is_dirty = True
            self._changed.notify()

    def stop(self) -> None:
        """Ends every wait. The caller has set `stopping`."""
        with self._changed:
            self._changed.notify()
        self._priority.end()

    def take(self) -> Target:
        """The state to compare now."""
        with self._changed:
            self._is_dirty = False
            self._tried = self._desired
            return Target(
                desired=self._desired,
                kubelet_connected=self._kubelet_connected,
                is_active=self._is_active,
            )

    def complete(self, desired: DesiredPool) -> bool:
        """Records that a pool is stored. Returns whether it is the first time for its revision."""
        with self._changed:
            if self._desired is desired:
                self._priority.end()
        is_first = self.is_new(desired)
        if is_first:
            self._stored_revision = desired.revision
        return is_first

    def wait_for_work(self, seconds: float) -> None:
        """Waits until a comparison is requested, at most so long."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_dirty or self.stopping.is_set(), seconds)
            self._is_dirty = False

    def wait_for_newer_pool(self, seconds: float) -> None:
        """Waits until there is a pool that was not tried yet, at most so long.

        It may have come while the attempt that failed was under way.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self.stopping.is_set() or self._desired is not self._tried, seconds
            )

    def wait_for_any_change(self, seconds: float) -> None:
        """Waits until anything changes, at most so long. Claims and events need not wait for a write that comes later."""
        with self._changed:
            self._priority.end()
            self._changed.wait_for(
                lambda: (
                    self.stopping.is_set()
                    or self._is_dirty
                    or not self._is_active
                    or self._desired is not self._tried
                ),
                seconds,
            )
