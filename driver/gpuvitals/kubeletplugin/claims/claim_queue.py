"""Who may act on a claim now, and which devices are spoken for. In memory; the checkpoint speaks between processes."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum

from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.kubeletplugin.held_claim import HeldDevice, excludes
from gpuvitals.kubeletplugin.outcome import RefusalCode, RefusedError, TransientError
from gpuvitals.model.ids import ClaimUid


class Operation(Enum):
    """What the kubelet asked for."""

    PREPARE = "prepare"
    UNPREPARE = "unprepare"


class Ticket:
    """One call's place in its claim's queue."""

    def __init__(self, uid: ClaimUid, operation: Operation) -> None:
        self.uid = uid
        self.operation = operation
        self.is_superseded = False
        """A preparation that a later release of its claim has overtaken. It must record nothing any more."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How often each cause of a wake-up had come. Taken before an attempt, so that none during it is missed."""

    news: int
    releases: int


class ClaimQueue:
    """Serialises calls claim by claim, in the order of their arrival. Different claims never wait for each other.

    A release does not wait for the preparations before it: it marks them as superseded. The checkpoint refuses them
    then, and what one has recorded before the mark is what the release takes out.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queues: dict[ClaimUid, deque[Ticket]] = {}
        self._mark = Mark(news=0, releases=0)

    @contextmanager
    def turn(self, uid: ClaimUid, operation: Operation, wait_seconds: float) -> Iterator[Ticket]:
        """The claim's turn, waited for. Raises RefusedError(Busy) where it does not come in time."""
        mine = Ticket(uid, operation)
        until = time.monotonic() + wait_seconds
        with self._changed:
            queue = self._queues.setdefault(uid, deque())
            if operation is Operation.UNPREPARE:
                for earlier in queue:
                    earlier.is_superseded = True
            queue.append(mine)
            self._changed.notify_all()
        try:
            with self._changed:
                if not self._changed.wait_for(lambda: _is_next(mine, queue), until - time.monotonic()):
                    raise RefusedError(
                        RefusalCode.BUSY,
                        f"an earlier call for claim {uid} has not ended in {wait_seconds:.0f} s; "
                        "the kubelet asks again",
                    )
            yield mine
        finally:
            with self._changed:
                queue.remove(mine)
                if not queue:
                    del self._queues[uid]
                self._changed.notify_all()

    def active(self) -> frozenset[ClaimUid]:
        """The claims that calls are at work on."""
        with self._changed:
            return frozenset(self._queues)

    def mark(self) -> Mark:
        """The wake-ups until now, for `pause`."""
        return self._mark

    def pause(self, turn: Ticket, wait: "Wait") -> None:
        """Waits until something may have changed: a wake-up since the mark, a superseding call, the stop or the time."""

        def is_over() -> bool:
            if turn.is_superseded or wait.stop.is_set() or self._mark.news != wait.since.news:
                return True
            return wait.for_release and self._mark.releases != wait.since.releases

        with self._changed:
            self._changed.wait_for(is_over, wait.seconds)

    def wake(self) -> None:
        """Ends every pause, because what it waits for may be there."""
        with self._changed:
            self._mark = replace(self._mark, news=self._mark.news + 1)
            self._changed.notify_all()

    def released(self) -> None:
        """Ends the pauses of preparations whose device another claim holds."""
        with self._changed:
            self._mark = replace(self._mark, releases=self._mark.releases + 1)
            self._changed.notify_all()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What ends a pause. `for_release`: a device that is given back is a reason to look again."""

    stop: threading.Event
    since: Mark
    for_release: bool
    seconds: float


def _is_next(turn: Ticket, queue: deque[Ticket]) -> bool:
    """Whether no call before this one is waited for."""
    for earlier in queue:
        if earlier is turn:
            return True
        if turn.operation is Operation.PREPARE or earlier.operation is Operation.UNPREPARE:
            return False
    return False


class Reservations:
    """Devices of preparations in flight: taken before anything slow, given back when the checkpoint has them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[ClaimUid, tuple[ClaimRef, tuple[HeldDevice, ...]]] = {}

    @contextmanager
    def taken(self, claim: ClaimRef, devices: tuple[HeldDevice, ...]) -> Iterator[None]:
        """Reserves the devices for the block. Raises TransientError(DeviceInUse) where another call has one."""
        with self._lock:
            for holder, theirs in self._taken.values():
                for device in devices:
                    if any(excludes(device, other) for other in theirs):
                        raise TransientError(
                            RefusalCode.DEVICE_IN_USE,
                            f"device {device.device} is being prepared for claim "
                            f"{holder.namespace}/{holder.name} ({holder.uid})",
                        )
            self._taken[claim.uid] = (claim, devices)
        try:
            yield
        finally:
            with self._lock:
                del self._taken[claim.uid]
