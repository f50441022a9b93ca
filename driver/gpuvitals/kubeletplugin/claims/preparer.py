"""Prepares and unprepares one claim: the plan of `plan`, made true in CDI files and checkpoint.

Order of a first preparation: devices reserved in memory, CDI file durable, checkpoint durable, answer. A crash in
between leaves at most an orphaned file. Unprepare reverses it and needs neither the API server nor the GPU.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.inventory.naming import Naming
from gpuvitals.kubeletplugin.allocated_claim import AllocatedClaim
from gpuvitals.kubeletplugin.cdi.files import CdiFiles
from gpuvitals.kubeletplugin.checkpoint.checkpoint import Checkpoint
from gpuvitals.kubeletplugin.checkpoint.format import State
from gpuvitals.kubeletplugin.claims.claim_queue import ClaimQueue, Mark, Operation, Reservations, Ticket, Wait
from gpuvitals.kubeletplugin.claims.opaque_config import environment
from gpuvitals.kubeletplugin.claims.plan import (
    NodeView,
    PreparePlan,
    in_use,
    invalid_ref,
    plan_prepare,
    same_allocation,
)
from gpuvitals.kubeletplugin.directory import StorageError
from gpuvitals.kubeletplugin.held_claim import HeldClaim, conflict
from gpuvitals.kubeletplugin.outcome import Refusal, RefusalCode, RefusedError, TransientError
from gpuvitals.kubeletplugin.ports import ClaimNotFoundError, ClaimUnavailableError, PluginEvent, PluginPorts
from gpuvitals.kubeletplugin.settings import Limits
from gpuvitals.model.clock import Clock
from gpuvitals.model.ids import ClaimUid, NodeName
from gpuvitals.model.snapshot import Snapshot

AT_ONCE = 4
"""First preparations that are worked on side by side; more would only take each other's processor.

Most of one is waiting, for the API server and for the disk. One that waits for better times holds no place.
"""

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One RPC as the preparer sees it. `arrived` is in seconds since boot; `remaining` until the caller gives up."""

    arrived: float
    active: Callable[[], bool]
    remaining: Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Where prepared claims are made true."""

    checkpoint: Checkpoint
    cdi: CdiFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the preparer is constructed with. `sources` gives None until they are attached."""

    naming: Naming
    node: NodeName
    limits: Limits
    clock: Clock
    stop: threading.Event
    sources: Callable[[], PluginPorts | None]
    snapshot: Callable[[], Snapshot | None]
    emit: Callable[[PluginEvent], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    ref: ClaimRef
    call: Call
    turn: Ticket


class Preparer:
    """Answers for single claims; every failure is a Refusal, none is an exception. Thread safe."""

    def __init__(self, store: Store, turns: ClaimQueue, context: Context) -> None:
        self._store = store
        self._turns = turns
        self._context = context
        self._reservations = Reservations()
        self._confirmed: dict[ClaimUid, float] = {}
        self._places = threading.BoundedSemaphore(AT_ONCE)
        self._parking = threading.BoundedSemaphore(context.limits.max_parked)

    def prepare(self, ref: ClaimRef, call: Call) -> HeldClaim | Refusal:
        """The claim prepared, on disk before this returns; the same answer and no write where it was already."""
        wrong = invalid_ref(ref)
        if wrong is not None:
            return wrong
        try:
            with self._turns.turn(ref.uid, Operation.PREPARE, call.remaining()) as turn:
                attempt = _Attempt(ref=ref, call=call, turn=turn)
                return self._replayed(attempt) or self._first(attempt)
        except RefusedError as refused:
            return refused.refusal

    def unprepare(self, ref: ClaimRef, call: Call) -> Refusal | None:
        """None when the claim is not prepared here any more, also where it never was."""
        if invalid_ref(ref) is not None:
            return None  # no such claim can have been prepared, and nothing may be opened by that name
        try:
            with self._turns.turn(ref.uid, Operation.UNPREPARE, call.remaining()):
                self.release(ref)
        except RefusedError as refused:
            return refused.refusal
        return None

    def release(self, ref: ClaimRef) -> None:
        """Takes the claim out of checkpoint and CDI directory. The caller has its turn. Raises RefusedError."""
        at = self._context.clock.now().at
        kept = self._context.limits.tombstone_seconds

        def released(state: State) -> State:
            without = state.without_claim(ref.uid)
            return state if without == state else without.with_tombstone(ref.uid, at, kept)

        self._store.checkpoint.update(released)
        self._confirmed.pop(ref.uid, None)
        self._discard(ref)
        self._turns.released()

    def _discard(self, ref: ClaimRef) -> None:
        """Removes the claim's CDI file. One that stays is harmless and swept later: no pod may hang for it."""
        try:
            self._store.cdi.remove(ref.uid)
        except StorageError as error:
            message = f"cdi file not removed: {error}; it names no claim any more and is swept later"
            self._context.emit(PluginEvent(reason="CdiFileNotRemoved", message=message, claim=ref))

    def _replayed(self, attempt: _Attempt) -> HeldClaim | None:
        held = self._store.checkpoint.read().find(attempt.ref.uid)
        if held is None:
            return None
        if self._moved(held):
            # no tombstone: this very call goes on to prepare the claim's new devices
            self._store.checkpoint.update(lambda state: state.without_claim(held.claim.uid))
            self._discard(held.claim)
            return None
        self._store.cdi.ensure(held)
        if attempt.turn.is_superseded:
            # Released meanwhile: the file may have been made after the release had removed it.
            self._discard(held.claim)
            raise _superseded(held.claim)
        return held

    def _moved(self, held: HeldClaim) -> bool:
        """Whether the claim was given other devices since, as far as can be told: doubt keeps what is prepared."""
        confirmed = self._confirmed.get(held.claim.uid)
        if confirmed is not None and time.monotonic() - confirmed < self._context.limits.confirmed_seconds:
            return False
        sources = self._context.sources()
        if sources is None:
            return False
        try:
            claim = sources.claims.allocated(held.claim.namespace, held.claim.name)
        except (ClaimNotFoundError, ClaimUnavailableError):
            return False
        if claim.uid != held.claim.uid or not claim.allocated:
            return False
        if not same_allocation(claim, held, self._context.naming, self._context.node):
            return True
        self._confirmed[held.claim.uid] = time.monotonic()
        return False

    def _first(self, attempt: _Attempt) -> HeldClaim | Refusal:
        """The first attempt; where a cause that can pass is in the way, it is waited for in a parking place."""
        since = self._turns.mark()
        try:
            return self._tried(attempt)
        except TransientError as transient:
            refusal = transient.refusal
        if not self._parking.acquire(blocking=False):
            waiting = f"{self._context.limits.max_parked} other claims wait for such a cause already"
            return replace(refusal, message=f"{refusal.message}; not waited for, since {waiting}")
        try:
            return self._waited(attempt, refusal, since)
        finally:
            self._parking.release()

    def _waited(self, attempt: _Attempt, refusal: Refusal, since: Mark) -> HeldClaim | Refusal:
        """Tries until it works, is refused for good, or the time for waiting is over."""
        limits = self._context.limits
        until = time.monotonic() + min(
            limits.transient_wait_seconds, attempt.call.remaining() - limits.deadline_margin_seconds
        )
        pause = _FIRST_PAUSE_SECONDS
        while (left := until - time.monotonic()) > 0:
            wait = Wait(
                stop=self._context.stop,
                since=since,
                for_release=refusal.code is RefusalCode.DEVICE_IN_USE,
                seconds=min(pause * random.uniform(0.5, 1), left),
            )
            self._turns.pause(attempt.turn, wait)
            self._check_wanted(attempt)
            if self._context.stop.is_set():
                raise RefusedError(
                    RefusalCode.STOPPING, "the agent is stopping; its successor is asked again"
                )
            since = self._turns.mark()
            try:
                return self._tried(attempt)
            except TransientError as transient:
                refusal = transient.refusal
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        return refusal

    def _tried(self, attempt: _Attempt) -> HeldClaim:
        with self._place(attempt):
            self._check_wanted(attempt)
            return self._once(attempt)

    @contextmanager
    def _place(self, attempt: _Attempt) -> Iterator[None]:
        wait = attempt.call.remaining() - self._context.limits.deadline_margin_seconds
        if not self._places.acquire(timeout=max(0.0, wait)):
            raise RefusedError(
                RefusalCode.BUSY,
                f"{AT_ONCE} other claims are being prepared for more than {wait:.0f} s; the kubelet asks again",
            )
        try:
            yield
        finally:
            self._places.release()

    def _once(self, attempt: _Attempt) -> HeldClaim:
        sources = self._context.sources()
        if sources is None:
            raise TransientError(RefusalCode.STARTING, "the agent is starting; the kubelet asks again")
        claim = _read_claim(sources, attempt.ref)
        plan = self._plan(attempt.ref, claim, sources)
        held = self._held(plan, claim)
        if not held.devices:
            return held
        with self._reservations.taken(attempt.ref, held.devices):
            self._store.cdi.write(held)
            try:
                self._store.checkpoint.update(lambda state: self._recorded(state, held, attempt))
            except RefusedError:
                self._discard(attempt.ref)
                raise
        self._confirmed[attempt.ref.uid] = time.monotonic()
        return held

    def _plan(self, ref: ClaimRef, claim: AllocatedClaim, sources: PluginPorts) -> PreparePlan:
        snapshot = self._context.snapshot()
        if snapshot is None:
            raise TransientError(
                RefusalCode.STARTING, "the node's GPUs have not been read yet; the kubelet asks again"
            )
        view = NodeView(snapshot=snapshot, naming=self._context.naming, fenced=sources.fenced())
        plan = plan_prepare(ref, claim, self._store.checkpoint.read().claims, view)
        if isinstance(plan, Refusal):
            # Its pod may have been deleted by force: the kubelet releases it within seconds.
            can_pass = plan.code is RefusalCode.DEVICE_IN_USE
            raise (TransientError if can_pass else RefusedError)(plan.code, plan.message)
        return plan

    def _held(self, plan: PreparePlan, claim: AllocatedClaim) -> HeldClaim:
        naming = self._context.naming
        devices = tuple(
            replace(device, env=environment(claim, requests, naming))
            for device, requests in zip(plan.devices, plan.result_requests, strict=True)
        )
        now = self._context.clock.now().time.replace(microsecond=0)
        return HeldClaim(claim=plan.claim, devices=devices, prepared_time=now)

    def _recorded(self, state: State, held: HeldClaim, attempt: _Attempt) -> State:
        """The state with the claim; runs under the checkpoint's lock, so what it checks holds between processes."""
        self._check_wanted(attempt)
        buried = state.buried_at(held.claim.uid)
        if buried is not None and buried > attempt.call.arrived:
            raise _superseded(held.claim)
        found = conflict(held.claim.uid, held.devices, state.claims)
        if found is not None:
            raise TransientError(RefusalCode.DEVICE_IN_USE, in_use(found))
        return state.with_claim(held)

    def _check_wanted(self, attempt: _Attempt) -> None:
        if attempt.turn.is_superseded or not attempt.call.active():
            raise _superseded(attempt.ref)


def _read_claim(sources: PluginPorts, ref: ClaimRef) -> AllocatedClaim:
    try:
        return sources.claims.allocated(ref.namespace, ref.name)
    except ClaimNotFoundError as error:
        raise RefusedError(
            RefusalCode.CLAIM_NOT_FOUND,
            f"claim {ref.namespace}/{ref.name} does not exist; its pod can't start",
        ) from error
    except ClaimUnavailableError as error:
        raise TransientError(
            RefusalCode.CLAIM_UNREADABLE,
            f"claim {ref.namespace}/{ref.name} can't be read: {error}; the kubelet asks again",
        ) from error


def _superseded(ref: ClaimRef) -> RefusedError:
    return RefusedError(
        RefusalCode.SUPERSEDED,
        f"claim {ref.namespace}/{ref.name} ({ref.uid}) was asked to be released, or the caller has gone; "
        "nothing was prepared",
    )
