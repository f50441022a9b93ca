"""Writes our entries into the status of the claims that are prepared here.

Level-triggered: it holds what each claim should show and applies a claim again only when that has changed, when a read
of the claim shows something else, and some time after this instance took over from another one.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from zlib import crc32

from gpuvitals.inventory.claims import ClaimEntry, ClaimRef
from gpuvitals.kube.cause_log import CauseLog
from gpuvitals.kube.claim_reader import StoredEntries, apply_call, is_shown
from gpuvitals.kube.claim_schedule import ClaimSchedule
from gpuvitals.kube.errors import ApiError, Invalid, NoSuchObject, Refused
from gpuvitals.kube.transport import Transport
from gpuvitals.kube.write_priority import RightOfWay
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics

log = logging.getLogger(__name__)

_IDLE_SECONDS = 30.0
_SPREAD_SECONDS = 30.0


class ClaimStatusWriter:
    """One thread. `show` replaces what every claim should show.

    `refused` gets each reason for which the server takes no status, once for as long as a claim fails for it. Until
    `set_active` says otherwise this instance is the one that writes. `node` spreads a fleet.
    """

    def __init__(
        self,
        transport: Transport,
        metrics: NodeMetrics,
        refused: Callable[[str], None] | None = None,
        way: RightOfWay | None = None,
        node: str = "",
    ) -> None:
        # The same share for the same node, so that two instances of it agree.
        self._spread_seconds = crc32(node.encode()) / 2**32 * _SPREAD_SECONDS
        self._way = way or RightOfWay()
        self._transport = transport
        self._metrics = metrics
        self._announce = refused
        self._announced: frozenset[str] = frozenset()
        self._changed = threading.Condition()
        self._schedule = ClaimSchedule()
        self._seen: dict[str, tuple[StoredEntries, float]] = {}
        self._is_active = True
        self._failures = CauseLog(log, "claim status not written")
        self._foreign = CauseLog(log, "claim shows other entries than were written, applied again")
        self._refusals = CauseLog(log, "claim status refused", level=logging.ERROR)
        self._stop = threading.Event()
        # A daemon: a write that outlives the stop deadline can't be called back, and nothing local hangs on it.
        self._thread = threading.Thread(target=self._run, name="claims", daemon=True)

    def start(self) -> None:
        """Starts to write."""
        self._thread.start()

    def stop(self, deadline_seconds: float) -> None:
        """Stops; what is stored stays."""
        self._stop.set()
        with self._changed:
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(deadline_seconds)

    def show(self, entries: Mapping[ClaimRef, tuple[ClaimEntry, ...]], *, urgent: bool = True) -> None:
        """Replaces the desired entries. Returns at once. What is not urgent is written a moment later."""
        with self._changed:
            if self._is_active:
                self._schedule.show(entries, time.monotonic(), is_urgent=urgent)
                self._changed.notify()

    def set_active(self, active: bool) -> None:
        """Tells whether this instance is the one that writes. One that is not drops what waits to be written.

        One that becomes it applies every claim again: the instance before may still have a write on its way.
        """
        with self._changed:
            if active is self._is_active:
                return
            self._is_active = active
            self._schedule = ClaimSchedule()
            self._seen.clear()
            if active:
                self._schedule.taken_over(time.monotonic(), self._spread_seconds)
            self._changed.notify()

    def seen(self, uid: str, stored: StoredEntries) -> None:
        """Takes the status of a claim that somebody here has read. Returns at once."""
        with self._changed:
            if self._is_active:
                self._seen[uid] = (stored, time.monotonic())
                self._changed.notify()

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._changed:
                self._compare_seen()
                now = time.monotonic()
                chosen = self._schedule.next(now)
                if chosen is None:
                    self._changed.wait(self._schedule.wait_seconds(now, _IDLE_SECONDS))
                    continue
            self._way.give()
            self._write(*chosen)

    def _compare_seen(self) -> None:
        """A claim that was read and shows something else is applied again: somebody else wrote our entries."""
        for uid, (stored, at) in self._seen.items():
            settled = self._schedule.settled(uid, at)
            if settled is not None and not is_shown(settled[1], stored):
                self._foreign.happened("", claim=uid)
                self._schedule.differs(settled[0], time.monotonic())
        self._seen.clear()

    def _write(self, claim: ClaimRef, body: bytes) -> None:
        try:
            self._transport.request(apply_call(claim, body))
        except ApiError as error:
            self._metrics.claim_writes.labels(code=str(error.status)).inc()
            if _is_gone(error):
                log.debug("claim takes no status any more", extra=keys(claim=claim.uid, error=str(error)))
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
            if self._announce is not None:
                self._announce(str(error))


def _is_gone(error: ApiError) -> bool:
    """The claim was deleted, was created anew under its name (the UID guard), or no longer holds the device."""
    return isinstance(error, NoSuchObject) or (
        isinstance(error, Invalid)
        and ("metadata.uid" in error.fields or "must be an allocated device" in str(error))
    )
