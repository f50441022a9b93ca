"""Compares checkpoint, CDI files and API server between calls, and repairs the differences.

The kubelet makes no call for a running pod, nor for a claim that was deleted while the plugin was down. So the CDI
files are compared with the checkpoint when either changes and on a timer, and the claims with the API server; a claim
that is gone in several consecutive checks is released.
"""

import logging
import time
from dataclasses import dataclass

from gpuvitals.durable import Stamps
from gpuvitals.inventory.event import Event, EventSink
from gpuvitals.inventory.naming import Naming
from gpuvitals.kubeletplugin.attached_ports import AttachedPorts
from gpuvitals.kubeletplugin.claims.claim_queue import ClaimQueue
from gpuvitals.kubeletplugin.claims.plan import same_allocation
from gpuvitals.kubeletplugin.claims.preparer import Preparer, Store
from gpuvitals.kubeletplugin.directory import Stamp, StorageError
from gpuvitals.kubeletplugin.held_claim import HeldClaim
from gpuvitals.kubeletplugin.outcome import Operation, RefusedError
from gpuvitals.kubeletplugin.ports import (
    ClaimNotFoundError,
    ClaimSource,
    ClaimUnavailableError,
)
from gpuvitals.kubeletplugin.publisher_lock import PublisherLock
from gpuvitals.kubeletplugin.settings import Limits
from gpuvitals.kubeletplugin.telemetry import PreparedState
from gpuvitals.model.ids import ClaimUid, NodeName
from gpuvitals.observability.logs import keys
from gpuvitals.stoppable_thread import StoppableThread

_ADMISSION_SECONDS = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilerContext:
    """Settings and collaborators of the reconciler. `prepared` is refreshed after each possible change."""

    naming: Naming
    node: NodeName
    limits: Limits
    ports: AttachedPorts
    publisher: PublisherLock
    events: EventSink
    prepared: PreparedState


class Reconciler:
    """One thread. Checks for changes every `watch_seconds`, and repairs on a change or when a timer is due."""

    def __init__(
        self, store: Store, queue: ClaimQueue, preparer: Preparer, context: ReconcilerContext
    ) -> None:
        self._store = store
        self._queue = queue
        self._preparer = preparer
        self._context = context
        self._stamps: tuple[Stamps, Stamp] | None = None
        self._reported: frozenset[str] = frozenset()
        self._missing: dict[ClaimUid, int] = {}
        # A daemon thread: it may be waiting for the API server, and the next agent repairs the rest at its start.
        self._thread = StoppableThread(self._run, name="kubeletplugin-reconcile", daemon=True)

    def start(self) -> None:
        """Starts the thread, which compares the files at once."""
        self._thread.start()

    def stop(self, deadline_seconds: float) -> None:
        """Ends the thread after its current comparison, within the deadline."""
        self._thread.stop(deadline_seconds)

    def compare_files(self) -> None:
        """Restores the CDI files of the prepared claims, and removes files that belong to no claim."""
        problems: list[str] = []
        try:
            busy = self._queue.active()
            held = self._store.checkpoint.read().claims
            idle = tuple(entry for entry in held if entry.claim.uid not in busy)
            for problem in self._store.cdi.reconcile(idle):
                problems.append(problem.message)
                self._report(Event(reason="CdiFileMissing", message=problem.message, claim=problem.claim))
            # The claims are read after the listing, so that a claim prepared meanwhile keeps its file.
            names = self._store.cdi.names()
            removed = self._store.cdi.sweep(
                names, self._live_claims(), self._context.limits.orphan_grace_seconds
            )
            if removed:
                log.info("orphaned cdi files removed", extra=keys(files=removed))
        except (RefusedError, StorageError) as error:
            problems.append(str(error))
            self._report(Event(reason="StorageFailed", message=str(error)))
        self._reported = frozenset(problems)

    def check_claims(self, claims: ClaimSource) -> None:
        """Counts consecutive checks in which a claim is gone from the API server, and releases it at `stale_checks`."""
        counts: dict[ClaimUid, int] = {}
        for held in self._store.checkpoint.read().claims:
            if self._thread.stopping.is_set():
                return
            gone = self._is_gone(held, claims)
            if gone is None:
                counts[held.claim.uid] = self._missing.get(held.claim.uid, 0)
            elif gone:
                counts[held.claim.uid] = self._missing.get(held.claim.uid, 0) + 1
                if counts[held.claim.uid] >= self._context.limits.stale_checks:
                    self._release_stale(held)
                    del counts[held.claim.uid]
        self._missing = counts

    def _run(self) -> None:
        next_claims = time.monotonic() + self._context.limits.claim_check_seconds
        next_files = 0.0
        while True:
            now = time.monotonic()
            try:
                if self._has_changed() or now >= next_files:
                    self._context.prepared.refresh()
                    self.compare_files()
                    next_files = now + self._context.limits.reconcile_seconds
                ports = self._context.ports.ports
                if now >= next_claims and ports is not None and self._context.publisher.publishing():
                    next_claims = now + self._context.limits.claim_check_seconds
                    self.check_claims(ports.claims)
            except RefusedError as error:
                self._report(Event(reason=error.refusal.code.value, message=error.refusal.message))
            if self._thread.stopping.wait(self._context.limits.watch_seconds):
                return

    def _has_changed(self) -> bool:
        """Whether checkpoint or CDI directory have changed since the last call.

        The stamps are taken before the comparison, so that a change during it is noticed at the next call.
        """
        stamps, before = (self._store.checkpoint.stamps(), self._store.cdi.stamp()), self._stamps
        self._stamps = stamps
        return stamps != before

    def _live_claims(self) -> set[ClaimUid]:
        """The claims whose CDI files must stay: prepared ones, and those with a call in progress."""
        busy = self._queue.active()
        held = self._store.checkpoint.read().claims
        return {entry.claim.uid for entry in held} | set(busy)

    def _is_gone(self, held: HeldClaim, claims: ClaimSource) -> bool | None:
        """Whether the API server no longer allocates these devices to the claim; None if it can't be read."""
        try:
            claim = claims.allocated(held.claim.namespace, held.claim.name)
        except ClaimNotFoundError:
            return True
        except ClaimUnavailableError:
            return None
        return not same_allocation(claim, held, self._context.naming, self._context.node)

    def _release_stale(self, held: HeldClaim) -> None:
        with self._queue.admit(held.claim.uid, Operation.UNPREPARE, _ADMISSION_SECONDS):
            self._preparer.release(held.claim)
        message = (
            f"claim {held.claim.namespace}/{held.claim.name} ({held.claim.uid}) is gone from the API server or "
            f"allocated elsewhere, and was never unprepared; released after {self._context.limits.stale_checks} checks"
        )
        log.warning("stale claim released", extra=keys(claim=held.claim.uid))
        self._context.events.emit(Event(reason="StaleClaimReleased", message=message))
        self._context.prepared.refresh()

    def _report(self, event: Event) -> None:
        """Emits the event, unless the previous comparison found the same problem."""
        if event.message not in self._reported:
            log.warning("reconcile", extra=keys(reason=event.reason, detail=event.message))
            self._context.events.emit(event)
