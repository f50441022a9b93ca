"""Prepares and unprepares single claims: writes the plan of `plan` into CDI file and checkpoint.

Order of a first Prepare: devices reserved in memory, CDI file durable, checkpoint durable, answer. A crash in between
leaves at most an orphaned CDI file, which the reconciler removes. Unprepare runs in reverse order and needs neither the
API server nor the GPU. The contract with the kubelet is in `DraService.prepare`.
"""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.inventory.event import Event, EventSink
from gpuvitals.inventory.naming import Naming
from gpuvitals.kubeletplugin.allocated_claim import AllocatedClaim
from gpuvitals.kubeletplugin.attached_ports import AttachedPorts
from gpuvitals.kubeletplugin.cdi.files import CdiFiles
from gpuvitals.kubeletplugin.checkpoint.checkpoint import Checkpoint
from gpuvitals.kubeletplugin.checkpoint.format import State
from gpuvitals.kubeletplugin.claims.claim_queue import ClaimQueue, Reservations, Ticket, Wait, WakeCounts
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
from gpuvitals.kubeletplugin.outcome import Operation, Refusal, RefusalCode, RefusedError, TransientError
from gpuvitals.kubeletplugin.ports import (
    ClaimNotFoundError,
    ClaimSource,
    ClaimUnavailableError,
)
from gpuvitals.kubeletplugin.settings import Limits
from gpuvitals.model.clock import Clock
from gpuvitals.model.ids import ClaimUid, NodeName

PARALLEL_PREPARES = 4
"""First Prepares that run at the same time. They mostly wait for the API server and the disk; more would compete for
the processor. A Prepare that waits for a cause to clear does not count."""

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0


class Caller(Protocol):
    """The RPC's other end."""

    def is_active(self) -> bool:
        """Whether the caller still waits for the answer. Contract: returns at once."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One RPC. `arrived` is in seconds since boot; `deadline` is the caller's, on the monotonic clock."""

    arrived: float
    deadline: float
    caller: Caller

    def remaining(self) -> float:
        """Seconds until the deadline, at least 0."""
        return max(0.0, self.deadline - time.monotonic())


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The durable records of prepared claims."""

    checkpoint: Checkpoint
    cdi: CdiFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparerContext:
    """Settings and collaborators of the preparer. `stop` ends all waiting Prepares."""

    naming: Naming
    node: NodeName
    limits: Limits
    clock: Clock
    stop: threading.Event
    ports: AttachedPorts
    events: EventSink


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """One Prepare of a claim, admitted by the claim queue."""

    ref: ClaimRef
    call: Call
    ticket: Ticket


class Preparer:
    """Prepares and unprepares claims. Returns each failure as a Refusal, never as an exception. Thread safe."""

    def __init__(self, store: Store, queue: ClaimQueue, context: PreparerContext) -> None:
        self._store = store
        self._queue = queue
        self._context = context
        self._reservations = Reservations()
        self._confirmed: dict[ClaimUid, float] = {}
        self._running = threading.BoundedSemaphore(PARALLEL_PREPARES)
        self._waiting = threading.BoundedSemaphore(context.limits.max_parked)

    def prepare(self, ref: ClaimRef, call: Call) -> HeldClaim | Refusal:
        """The claim's devices, durable in CDI file and checkpoint. A replay returns the same answer and writes nothing."""
        invalid = invalid_ref(ref)
        if invalid is not None:
            return invalid
        try:
            with self._queue.admit(ref.uid, Operation.PREPARE, call.remaining()) as ticket:
                request = _Request(ref=ref, call=call, ticket=ticket)
                return self._replay(request) or self._prepare_new(request)
        except RefusedError as refused:
            return refused.refusal

    def unprepare(self, ref: ClaimRef, call: Call) -> Refusal | None:
        """None once the claim is not prepared here, whether or not it ever was."""
        if invalid_ref(ref) is not None:
            return None  # such a claim can't have been prepared, and its UID must not reach a file name
        try:
            with self._queue.admit(ref.uid, Operation.UNPREPARE, call.remaining()):
                self.release(ref)
        except RefusedError as refused:
            return refused.refusal
        return None

    def release(self, ref: ClaimRef) -> None:
        """Removes the claim from checkpoint and CDI directory. The caller is admitted to the claim. Raises RefusedError."""
        at = self._context.clock.now().at
        kept_seconds = self._context.limits.tombstone_seconds

        def released(state: State) -> State:
            without = state.without_claim(ref.uid)
            return state if without == state else without.with_tombstone(ref.uid, at, kept_seconds)

        self._store.checkpoint.update(released)
        self._confirmed.pop(ref.uid, None)
        self._remove_file(ref)
        self._queue.wake_for_release()

    def _remove_file(self, ref: ClaimRef) -> None:
        """Removes the claim's CDI file. A file that stays is harmless and swept later, so no pod waits for it."""
        try:
            self._store.cdi.remove(ref.uid)
        except StorageError as error:
            message = f"cdi file not removed: {error}; it belongs to no prepared claim and is removed later"
            self._context.events.emit(Event(reason="CdiFileNotRemoved", message=message, claim=ref))

    def _replay(self, request: _Request) -> HeldClaim | None:
        """The answer for a claim that is prepared already; None if it is not, or was reallocated since."""
        held = self._store.checkpoint.read().find(request.ref.uid)
        if held is None:
            return None
        if self._is_reallocated(held):
            # No tombstone here: this call goes on to prepare the claim's new devices.
            self._store.checkpoint.update(lambda state: state.without_claim(held.claim.uid))
            self._remove_file(held.claim)
            return None
        self._store.cdi.ensure(held)
        if request.ticket.is_superseded:
            # An Unprepare came in between, and the file may have been written after it was removed.
            self._remove_file(held.claim)
            raise _superseded(held.claim)
        return held

    def _is_reallocated(self, held: HeldClaim) -> bool:
        """Whether the API server now allocates other devices to the claim. False if it can't be read."""
        confirmed = self._confirmed.get(held.claim.uid)
        if confirmed is not None and time.monotonic() - confirmed < self._context.limits.confirmed_seconds:
            return False
        ports = self._context.ports.ports
        if ports is None:
            return False
        try:
            claim = ports.claims.allocated(held.claim.namespace, held.claim.name)
        except (ClaimNotFoundError, ClaimUnavailableError):
            return False
        if claim.uid != held.claim.uid or not claim.allocated:
            return False
        if not same_allocation(claim, held, self._context.naming, self._context.node):
            return True
        self._confirmed[held.claim.uid] = time.monotonic()
        return False

    def _prepare_new(self, request: _Request) -> HeldClaim | Refusal:
        """Prepares the claim; after a transient failure waits and retries, if fewer than `max_parked` claims do."""
        since = self._queue.wake_counts()
        try:
            return self._attempt(request)
        except TransientError as transient:
            refusal = transient.refusal
        if not self._waiting.acquire(blocking=False):
            bound = f"{self._context.limits.max_parked} other claims wait for such a cause already"
            return replace(refusal, message=f"{refusal.message}; not waited for, since {bound}")
        try:
            return self._retry(request, refusal, since)
        finally:
            self._waiting.release()

    def _retry(self, request: _Request, refusal: Refusal, since: WakeCounts) -> HeldClaim | Refusal:
        """Retries until success, a permanent refusal or the end of the waiting time; then the last refusal."""
        limits = self._context.limits
        until = time.monotonic() + min(
            limits.transient_wait_seconds, request.call.remaining() - limits.deadline_margin_seconds
        )
        pause = _FIRST_PAUSE_SECONDS
        while (left := until - time.monotonic()) > 0:
            wait = Wait(
                stop=self._context.stop,
                since=since,
                for_release=refusal.code is RefusalCode.DEVICE_IN_USE,
                seconds=min(pause * random.uniform(0.5, 1), left),
            )
            self._queue.pause(request.ticket, wait)
            _check_is_wanted(request)
            if self._context.stop.is_set():
                raise RefusedError(RefusalCode.STOPPING, "the agent is stopping; the kubelet retries")
            since = self._queue.wake_counts()
            try:
                return self._attempt(request)
            except TransientError as transient:
                refusal = transient.refusal
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        return refusal

    def _attempt(self, request: _Request) -> HeldClaim:
        with self._slot(request):
            _check_is_wanted(request)
            return self._prepare_once(request)

    @contextmanager
    def _slot(self, request: _Request) -> Iterator[None]:
        """One of the PARALLEL_PREPARES slots, for the block. Raises RefusedError (Busy)."""
        wait = request.call.remaining() - self._context.limits.deadline_margin_seconds
        if not self._running.acquire(timeout=max(0.0, wait)):
            raise RefusedError(
                RefusalCode.BUSY,
                f"{PARALLEL_PREPARES} other claims are being prepared for more than {wait:.0f} s; the kubelet retries",
            )
        try:
            yield
        finally:
            self._running.release()

    def _prepare_once(self, request: _Request) -> HeldClaim:
        ports = self._context.ports.ports
        if ports is None:
            raise TransientError(RefusalCode.STARTING, "the agent is starting; the kubelet retries")
        claim = _read_claim(ports.claims, request.ref)
        plan = self._plan(request.ref, claim)
        held = self._held(plan, claim)
        if not held.devices:
            return held
        with self._reservations.reserve(request.ref, held.devices):
            self._store.cdi.write(held)
            try:
                self._store.checkpoint.update(lambda state: _recorded(state, held, request))
            except RefusedError:
                self._remove_file(request.ref)
                raise
        self._confirmed[request.ref.uid] = time.monotonic()
        return held

    def _plan(self, ref: ClaimRef, claim: AllocatedClaim) -> PreparePlan:
        snapshot = self._context.ports.snapshot
        if snapshot is None:
            raise TransientError(
                RefusalCode.STARTING, "the node's GPUs have not been read yet; the kubelet retries"
            )
        fenced = self._context.ports.fenced
        view = NodeView(snapshot=snapshot, naming=self._context.naming, fenced=fenced)
        plan = plan_prepare(ref, claim, self._store.checkpoint.read().claims, view)
        if isinstance(plan, Refusal):
            # The holder's pod may have been deleted by force; the kubelet then unprepares its claim within seconds.
            is_transient = plan.code is RefusalCode.DEVICE_IN_USE
            raise (TransientError if is_transient else RefusedError)(plan.code, plan.message)
        return plan

    def _held(self, plan: PreparePlan, claim: AllocatedClaim) -> HeldClaim:
        naming = self._context.naming
        devices = tuple(
            replace(device, env=environment(claim, requests, naming))
            for device, requests in zip(plan.devices, plan.result_requests, strict=True)
        )
        now = self._context.clock.now().time.replace(microsecond=0)
        return HeldClaim(claim=plan.claim, devices=devices, prepared_time=now)


def _recorded(state: State, held: HeldClaim, request: _Request) -> State:
    """The state with the claim. Runs under the checkpoint's lock, so that its checks hold between processes too."""
    _check_is_wanted(request)
    released_at = state.released_at(held.claim.uid)
    if released_at is not None and released_at > request.call.arrived:
        raise _superseded(held.claim)
    found = conflict(held.claim.uid, held.devices, state.claims)
    if found is not None:
        raise TransientError(RefusalCode.DEVICE_IN_USE, in_use(found))
    return state.with_claim(held)


def _check_is_wanted(request: _Request) -> None:
    """Raises RefusedError (Superseded) after a later Unprepare, or once the caller has cancelled the call."""
    if request.ticket.is_superseded or not request.call.caller.is_active():
        raise _superseded(request.ref)


def _read_claim(claims: ClaimSource, ref: ClaimRef) -> AllocatedClaim:
    try:
        return claims.allocated(ref.namespace, ref.name)
    except ClaimNotFoundError as error:
        raise RefusedError(
            RefusalCode.CLAIM_NOT_FOUND,
            f"claim {ref.namespace}/{ref.name} does not exist; its pod can't start",
        ) from error
    except ClaimUnavailableError as error:
        raise TransientError(
            RefusalCode.CLAIM_UNREADABLE,
            f"claim {ref.namespace}/{ref.name} can't be read: {error}; the kubelet retries",
        ) from error


def _superseded(ref: ClaimRef) -> RefusedError:
    return RefusedError(
        RefusalCode.SUPERSEDED,
        f"claim {ref.namespace}/{ref.name} ({ref.uid}) was unprepared meanwhile, or the kubelet cancelled the call; "
        "nothing was prepared",
    )
