"""Keeps checkpoint, CDI files and API server in step, while nobody calls.

The kubelet says nothing for a running pod, and nothing about a claim that went away while the plugin was down. So:
files are compared with the checkpoint when either changes and on a timer; claims are compared with the API server, and
one that is gone in several checks in a row is released.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from gpuvitals.durable import Stamps
from gpuvitals.inventory.naming import Naming
from gpuvitals.kubeletplugin.claims.claim_queue import ClaimQueue, Operation
from gpuvitals.kubeletplugin.claims.plan import same_allocation
from gpuvitals.kubeletplugin.claims.preparer import Preparer, Store
from gpuvitals.kubeletplugin.directory import StorageError
from gpuvitals.kubeletplugin.held_claim import HeldClaim
from gpuvitals.kubeletplugin.outcome import RefusedError
from gpuvitals.kubeletplugin.ports import (
    ClaimNotFoundError,
    ClaimSource,
    ClaimUnavailableError,
    PluginEvent,
    PluginPorts,
)
from gpuvitals.kubeletplugin.settings import Limits
from gpuvitals.model.ids import ClaimUid, NodeName
from gpuvitals.observability.logs import keys

_TURN_SECONDS = 1.0

log = logging.getLogger(__name__)

Stamp = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileContext:
    """What the reconciler is constructed with. `changed` is called when what is prepared may have changed."""

    naming: Naming
    node: NodeName
    limits: Limits
    sources: Callable[[], PluginPorts | None]
    publishing: Callable[[], bool]
    emit: Callable[[PluginEvent], None]
    changed: Callable[[], None]


class Reconciler:
    """One thread that looks every `watch_seconds` and works where there is a difference or the time has come."""

    def __init__(
        self, store: Store, turns: ClaimQueue, preparer: Preparer, context: ReconcileContext
    ) -> None:
        self._store = store
        self._turns = turns
        self._preparer = preparer
        self._context = context
        self._stop = threading.Event()
        self._seen: tuple[Stamps, Stamp] | None = None
        self._told: frozenset[str] = frozenset()
        self._gone: dict[ClaimUid, int] = {}
        # A daemon: it may be waiting for the API server, and what it leaves undone the next agent finds at its start.
        self._thread = threading.Thread(target=self._run, name="kubeletplugin-reconcile", daemon=True)

    def start(self) -> None:
        """The first comparison happens at once, in the reconciler's own thread."""
        self._thread.start()

    def stop(self, deadline_seconds: float) -> None:
        """Ends after the comparison at hand, which is waited for until the deadline."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(deadline_seconds)

    def compare_files(self) -> None:
        """Makes the CDI files what the checkpoint says, and removes those that belong to nobody."""
        problems: list[str] = []
        try:
            busy = self._turns.active()
            held = self._store.checkpoint.read().claims
            idle = tuple(entry for entry in held if entry.claim.uid not in busy)
            for problem in self._store.cdi.reconcile(idle):
                problems.append(problem.message)
                self._tell(PluginEvent(reason="CdiFileMissing", message=problem.message, claim=problem.claim))
            removed = self._store.cdi.sweep(self._known, self._context.limits.orphan_grace_seconds)
            if removed:
                log.info("orphaned cdi files removed", extra=keys(files=removed))
        except (RefusedError, StorageError) as error:
            problems.append(str(error))
            self._tell(PluginEvent(reason="StorageFailed", message=str(error)))
        self._told = frozenset(problems)

    def check_claims(self, claims: ClaimSource) -> None:
        """Counts the claims that the API server does not have any more, and releases those that stay gone."""
        counts: dict[ClaimUid, int] = {}
        for held in self._store.checkpoint.read().claims:
            if self._stop.is_set():
                return
            gone = self._is_gone(held, claims)
            if gone is None:
                counts[held.claim.uid] = self._gone.get(held.claim.uid, 0)
            elif gone:
                counts[held.claim.uid] = self._gone.get(held.claim.uid, 0) + 1
                if counts[held.claim.uid] >= self._context.limits.stale_checks:
                    self._collect(held)
                    del counts[held.claim.uid]
        self._gone = counts

    def _run(self) -> None:
        next_claims = time.monotonic() + self._context.limits.claim_check_seconds
        next_files = 0.0
        while True:
            now = time.monotonic()
            try:
                if self._differs() or now >= next_files:
                    self._context.changed()
                    self.compare_files()
                    next_files = now + self._context.limits.reconcile_seconds
                sources = self._context.sources()
                if now >= next_claims and sources is not None and self._context.publishing():
                    next_claims = now + self._context.limits.claim_check_seconds
                    self.check_claims(sources.claims)
            except RefusedError as error:
                self._tell(PluginEvent(reason=error.refusal.code.value, message=error.refusal.message))
            if self._stop.wait(self._context.limits.watch_seconds):
                return

    def _stamps(self) -> tuple[Stamps, Stamp]:
        return self._store.checkpoint.stamps(), self._store.cdi.stamp()

    def _differs(self) -> bool:
        """Whether a file has come, gone or changed since the last look, by whichever hand.

        The stamps are those from before the comparison: what changes during it is looked at again.
        """
        stamps, seen = self._stamps(), self._seen
        self._seen = stamps
        return stamps != seen

    def _known(self) -> set[ClaimUid]:
        """Claims whose file must stay: prepared ones and those that a call is at work on."""
        busy = self._turns.active()
        held = self._store.checkpoint.read().claims
        return {entry.claim.uid for entry in held} | set(busy)

    def _is_gone(self, held: HeldClaim, claims: ClaimSource) -> bool | None:
        """Whether the API server denies the claim what is prepared for it; None where it can't be asked."""
        try:
            claim = claims.allocated(held.claim.namespace, held.claim.name)
        except ClaimNotFoundError:
            return True
        except ClaimUnavailableError:
            return None
        return not same_allocation(claim, held, self._context.naming, self._context.node)

    def _collect(self, held: HeldClaim) -> None:
        with self._turns.turn(held.claim.uid, Operation.UNPREPARE, _TURN_SECONDS):
            self._preparer.release(held.claim)
        message = (
            f"claim {held.claim.namespace}/{held.claim.name} ({held.claim.uid}) is gone from the API server or "
            f"allocated elsewhere, and was never unprepared; released after {self._context.limits.stale_checks} checks"
        )
        log.warning("stale claim released", extra=keys(claim=held.claim.uid))
        self._context.emit(PluginEvent(reason="StaleClaimReleased", message=message))
        self._context.changed()

    def _tell(self, event: PluginEvent) -> None:
        """Once for as long as the problem lasts."""
        if event.message not in self._told:
            log.warning("reconcile", extra=keys(reason=event.reason, detail=event.message))
            self._context.emit(event)
