"""Who may act on a claim now, and which devices are spoken for. In memory; the checkpoint speaks between processes."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.kubeletplugin.prepared import HeldDevice, excludes
from gpuvitals.kubeletplugin.refusal import RefusalCode, RefusedError
from gpuvitals.model.ids import ClaimUid


class Operation(Enum):
    """What the kubelet asked for."""

    PREPARE = "prepare"
    UNPREPARE = "unprepare"


class Turn:
    """One call's place in its claim's queue."""

    def __init__(self, turns: "ClaimTurns", uid: ClaimUid, operation: Operation) -> None:
        self._turns = turns
        self.uid = uid
        self.operation = operation

    def superseded(self) -> bool:
        """Whether the kubelet has asked for the opposite since: its last intent wins."""
        return self._turns.is_superseded(self)


class ClaimTurns:
    """Serialises calls claim by claim, in the order of their arrival. Different claims never wait for each other."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queues: dict[ClaimUid, deque[Turn]] = {}

    @contextmanager
    def turn(self, uid: ClaimUid, operation: Operation, wait_seconds: float) -> Iterator[Turn]:
        """The claim's turn, waited for. Raises RefusedError(Busy) where it does not come in time."""
        mine = Turn(self, uid, operation)
        until = time.monotonic() + wait_seconds
        with self._changed:
            queue = self._queues.setdefault(uid, deque())
            queue.append(mine)
            self._changed.notify_all()
        try:
            with self._changed:
                if not self._changed.wait_for(lambda: queue[0] is mine, until - time.monotonic()):
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

    def is_superseded(self, turn: Turn) -> bool:
        """Whether a later call in the queue wants the opposite of this one."""
        with self._changed:
            queue = tuple(self._queues.get(turn.uid, ()))
        later = queue[queue.index(turn) + 1 :]
        return bool(later) and later[-1].operation is not turn.operation

    def active(self) -> frozenset[ClaimUid]:
        """The claims that calls are at work on."""
        with self._changed:
            return frozenset(self._queues)

    def pause(self, turn: Turn, stop: threading.Event, wait_seconds: float) -> None:
        """Waits until something may have changed: a wake-up, a superseding call, the stop or the time."""
        with self._changed:
            queue = self._queues[turn.uid]
            if queue[-1].operation is turn.operation and not stop.is_set():
                self._changed.wait(wait_seconds)

    def wake(self) -> None:
        """Ends every pause, because what it waits for may be there."""
        with self._changed:
            self._changed.notify_all()


class Reservations:
    """Devices of preparations in flight: taken before anything slow, given back when the checkpoint has them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[ClaimUid, tuple[ClaimRef, tuple[HeldDevice, ...]]] = {}

    @contextmanager
    def taken(self, claim: ClaimRef, devices: tuple[HeldDevice, ...]) -> Iterator[None]:
        """Reserves the devices for the block. Raises RefusedError(DeviceInUse) where another call has one."""
        with self._lock:
            for holder, theirs in self._taken.values():
                for device in devices:
                    if any(excludes(device, other) for other in theirs):
                        raise RefusedError(
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
