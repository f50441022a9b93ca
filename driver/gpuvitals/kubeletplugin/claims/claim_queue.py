"""Per-claim FIFO of calls, and device reservations. Both are in memory; the checkpoint excludes other processes."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.kubeletplugin.held_claim import HeldDevice, excludes
from gpuvitals.kubeletplugin.outcome import Operation, RefusalCode, RefusedError, TransientError
from gpuvitals.model.ids import ClaimUid


class Ticket:
    """The place of one call in its claim's queue."""

    def __init__(self, uid: ClaimUid, operation: Operation) -> None:
        self.uid = uid
        self.operation = operation
        self.is_superseded = False
        """True for a Prepare once a later Unprepare of its claim has arrived; it must no longer record anything."""


@dataclass(frozen=True, slots=True)
class WakeCounts:
    """Numbers of wake-ups so far. Taken before an attempt, they show whether one came during it."""

    changes: int
    releases: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """The conditions that end a pause. With `for_release`, a released device ends it too."""

    stop: threading.Event
    since: WakeCounts
    for_release: bool
    seconds: float


class ClaimQueue:
    """Serialises the calls of each claim in order of arrival. Calls of different claims never wait for each other.

    An Unprepare does not wait for earlier Prepares: it marks them as superseded, and the checkpoint then refuses them.
    Anything that one of them recorded before is removed by the Unprepare.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queues: dict[ClaimUid, deque[Ticket]] = {}
        self._counts = WakeCounts(changes=0, releases=0)

    @contextmanager
    def admit(self, uid: ClaimUid, operation: Operation, wait_seconds: float) -> Iterator[Ticket]:
        """Queues the call, waits until it is its turn, and runs the block. Raises RefusedError (Busy) on timeout."""
        ticket = Ticket(uid, operation)
        until = time.monotonic() + wait_seconds
        with self._changed:
            queue = self._queues.setdefault(uid, deque())
            if operation is Operation.UNPREPARE:
                for earlier in queue:
                    earlier.is_superseded = True
            queue.append(ticket)
            self._changed.notify_all()
        try:
            with self._changed:
                if not self._changed.wait_for(lambda: _is_next(ticket, queue), until - time.monotonic()):
                    raise RefusedError(
                        RefusalCode.BUSY,
                        f"an earlier call for claim {uid} has not finished within {wait_seconds:.0f} s; "
                        "the kubelet retries",
                    )
            yield ticket
        finally:
            with self._changed:
                queue.remove(ticket)
                if not queue:
                    del self._queues[uid]
                self._changed.notify_all()

    def active(self) -> frozenset[ClaimUid]:
        """The claims with calls in progress."""
        with self._changed:
            return frozenset(self._queues)

    def wake_counts(self) -> WakeCounts:
        """The wake-ups so far, for `Wait.since`."""
        return self._counts

    def pause(self, ticket: Ticket, wait: Wait) -> None:
        """Waits for a wake-up after `wait.since`, an Unprepare of the claim, the stop event or the time limit."""

        def is_over() -> bool:
            if ticket.is_superseded or wait.stop.is_set() or self._counts.changes != wait.since.changes:
                return True
            return wait.for_release and self._counts.releases != wait.since.releases

        with self._changed:
            self._changed.wait_for(is_over, wait.seconds)

    def wake(self) -> None:
        """Ends all pauses, because a new snapshot or port may let a waiting Prepare succeed."""
        with self._changed:
            self._counts = replace(self._counts, changes=self._counts.changes + 1)
            self._changed.notify_all()

    def wake_for_release(self) -> None:
        """Ends the pauses of Prepares that wait for a device held by another claim."""
        with self._changed:
            self._counts = replace(self._counts, releases=self._counts.releases + 1)
            self._changed.notify_all()


class Reservations:
    """Devices of Prepares in progress. A device is reserved before any slow step, until the checkpoint records it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reserved: dict[ClaimUid, tuple[ClaimRef, tuple[HeldDevice, ...]]] = {}

    @contextmanager
    def reserve(self, claim: ClaimRef, devices: tuple[HeldDevice, ...]) -> Iterator[None]:
        """Reserves the devices for the block. Raises TransientError (DeviceInUse) if another call holds one of them."""
        with self._lock:
            for holder, reserved in self._reserved.values():
                for device in devices:
                    if any(excludes(device, other) for other in reserved):
                        raise TransientError(
                            RefusalCode.DEVICE_IN_USE,
                            f"device {device.device} is being prepared for claim "
                            f"{holder.namespace}/{holder.name} ({holder.uid})",
                        )
            self._reserved[claim.uid] = (claim, devices)
        try:
            yield
        finally:
            with self._lock:
                del self._reserved[claim.uid]


def _is_next(ticket: Ticket, queue: deque[Ticket]) -> bool:
    """Whether the call may run: a Prepare waits for every earlier call, an Unprepare for earlier Unprepares only."""
    for earlier in queue:
        if earlier is ticket:
            return True
        if ticket.operation is Operation.PREPARE or earlier.operation is Operation.UNPREPARE:
            return False
    return False
