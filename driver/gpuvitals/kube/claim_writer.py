"""Writes our entries into the status of the claims that are prepared on this node.

Level-triggered: it keeps the desired entries of each claim. It applies a claim again only when they have changed, when a
read of the claim shows other entries, and some time after this instance took over from another one.
"""

import logging
import threading
import time
from collections.abc import Mapping
from typing import Protocol
from zlib import crc32

from gpuvitals.inventory.claims import ClaimEntry, ClaimRef
from gpuvitals.kube.cause_log import CauseLog
from gpuvitals.kube.claim_reader import StoredEntries
from gpuvitals.kube.claim_schedule import ClaimSchedule
from gpuvitals.kube.claim_status import apply_call, is_shown
from gpuvitals.kube.errors import ApiError, Invalid, NoSuchObject, Refused
from gpuvitals.kube.transport import Transport
from gpuvitals.kube.write_priority import SliceWritePriority
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals.stoppable_thread import StoppableThread

log = logging.getLogger(__name__)

_IDLE_SECONDS = 30.0
_SPREAD_SECONDS = 30.0


class ClaimListener(Protocol):
    """Receives the writer's failures, on its thread. Must not block."""

    def claim_status_refused(self, reason: str) -> None:
        """The API server refuses a status. Once for each cause, for as long as a claim fails for it."""
        ...


class ClaimStatusWriter:
    """Writes on a thread of its own. `node` spreads the rechecks of a fleet.

    This instance is the one that writes, until `set_active` changes that. Thread safe.
    """

    def __init__(
        self,
        transport: Transport,
        metrics: NodeMetrics,
        listener: ClaimListener | None = None,
        priority: SliceWritePriority | None = None,
        node: str = "",
    ) -> None:
        # The same share for the same node, so that two instances of it agree.
        self._spread_seconds = crc32(node.encode()) / 2**32 * _SPREAD_SECONDS
        self._priority = priority or SliceWritePriority()
        self._transport = transport
        self._metrics = metrics
        self._listener = listener
        self._announced: frozenset[str] = frozenset()
        self._changed = threading.Condition()
        self._schedule = ClaimSchedule()
        self._observed: dict[str, tuple[StoredEntries, float]] = {}
        self._is_active = True
        self._failures = CauseLog(log, "claim status not written")
        self._foreign = CauseLog(log, "claim shows other entries than were written, applied again")
        self._refusals = CauseLog(log, "claim status refused", level=logging.ERROR)
        # A daemon: a write that outlives the stop deadline can't be recalled, and no local state depends on it.
        self._thread = StoppableThread(self._run, name="claims", daemon=True)

    def start(self) -> None:
        """Starts to write."""
        self._thread.start()

    def stop(self, deadline_seconds: float) -> None:
        """Stops; stored entries stay."""
        self._thread.stopping.set()
        with self._changed:
            self._changed.notify()
        self._thread.stop(deadline_seconds)

    def show(self, entries: Mapping[ClaimRef, tuple[ClaimEntry, ...]], *, urgent: bool = True) -> None:
        """Replaces the desired entries of all claims. Returns at once. Entries that are not urgent wait a moment."""
        with self._changed:
            if self._is_active:
                self._schedule.show(entries, time.monotonic(), is_urgent=urgent)
                self._changed.notify()

    def set_active(self, active: bool) -> None:
        """Records whether this instance is the one that writes. An inactive one drops its waiting writes.

        After a take-over every claim is applied again: the previous instance may still have a write in flight.
        """
        with self._changed:
            if active is self._is_active:
                return
            self._is_active = active
            self._schedule = ClaimSchedule()
            self._observed.clear()
            if active:
                self._schedule.taken_over(time.monotonic(), self._spread_seconds)
            self._changed.notify()

    def observe(self, uid: str, stored: StoredEntries) -> None:
        """Compares the stored status of a claim that was read with the written one. Returns at once."""
        with self._changed:
            if self._is_active:
                self._observed[uid] = (stored, time.monotonic())
                self._changed.notify()

    def _run(self) -> None:
        while not self._thread.stopping.is_set():
            with self._changed:
                self._compare_observed()
                now = time.monotonic()
                chosen = self._schedule.next(now)
                if chosen is None:
                    self._changed.wait(self._schedule.wait_seconds(now, _IDLE_SECONDS))
                    continue
            self._priority.wait()
            self._write(*chosen)

    def _compare_observed(self) -> None:
        """Applies a claim again if a read shows other entries: another client has changed ours."""
        for uid, (stored, at) in self._observed.items():
            settled = self._schedule.settled(uid, at)
            if settled is not None and not is_shown(settled[1], stored):
                self._foreign.happened("", claim=uid)
                self._schedule.differs(settled[0], time.monotonic())
        self._observed.clear()

    def _write(self, claim: ClaimRef, body: bytes) -> None:
        try:
            self._transport.request(apply_call(claim, body))
        except ApiError as error:
            self._metrics.claim_writes.labels(code=str(error.status)).inc()
            if _is_gone(error):
                log.debug(
                    "claim does not accept a status any more", extra=keys(claim=claim.uid, error=str(error))
                )
                self._done(claim, body)
            else:
                self._not_written(claim, body, error)
            return
        self._metrics.claim_writes.labels(code="200").inc()
        self._done(claim, body)

    def _done(self, claim: ClaimRef, body: bytes) -> None:
        with self._changed:
            self._schedule.done(claim, body, time.monotonic())

    def _not_written(self, claim: ClaimRef, body: bytes, error: ApiError) -> None:
        self._metrics.api_retries.labels(code=str(error.status)).inc()
        with self._changed:
            seconds = self._schedule.failed(claim, body, error, time.monotonic())
            causes = self._schedule.causes
        if isinstance(error, Invalid):
            self._refusals.failed(error, claim=claim.uid, fields=list(error.fields))
        else:
            self._failures.failed(error, claim=claim.uid, again_in=round(seconds, 1))
        is_new = error.cause not in self._announced
        self._announced = self._announced & causes
        if isinstance(error, (Refused, Invalid)) and is_new:
            self._announced |= {error.cause}
            if self._listener is not None:
                self._listener.claim_status_refused(str(error))


def _is_gone(error: ApiError) -> bool:
    """Whether the claim was deleted, was re-created under its name (the UID differs), or no longer holds the device."""
    return isinstance(error, NoSuchObject) or (
        isinstance(error, Invalid)
        and ("metadata.uid" in error.fields or "must be an allocated device" in str(error))
    )
