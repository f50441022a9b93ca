"""Compares the desired pool with the stored slices and makes the smallest write. One thread uses it.

A lone fault is written at once. Faults that arrive during that write or shortly after it share the next one, since GPUs
that fail together are reported one by one. No slice is created while no kubelet is connected: pods could not start on
such a node. Stored slices are still corrected then, so the restart of a kubelet hides no fault.
"""

import threading
import time

from gpuvitals.inventory.pool import Pool
from gpuvitals.kube.errors import ApiError, Retryable
from gpuvitals.kube.retry import RetriedLoop
from gpuvitals.kube.slices.change_budget import ChangeBudget
from gpuvitals.kube.slices.plan import SliceWrite, change_kind, plan
from gpuvitals.kube.slices.ports import PublisherSettings, SliceListener
from gpuvitals.kube.slices.publish_state import DesiredPool, PublishState
from gpuvitals.kube.slices.repair_budget import QuarrelBudget
from gpuvitals.kube.slices.service_change import ChangeKind
from gpuvitals.kube.slices.writes import Overtaken, SliceWriter, WriterParts

_REBASES = 3
_UNPACED_ROUNDS = 8
"""A new pool that needs more rounds than these is paced like a repair."""


class SliceReconciler(RetriedLoop):
    """Runs on the publisher's thread. Its retry callbacks end a wait early when a newer pool arrives."""

    def __init__(
        self,
        settings: PublisherSettings,
        parts: WriterParts,
        writer: SliceWriter,
        state: PublishState,
        listener: SliceListener,
    ) -> None:
        self._settings = settings
        self._parts = parts
        self._writer = writer
        self._state = state
        self._listener = listener
        self._stopping = state.stopping
        self._repairs = QuarrelBudget()
        self._changes = ChangeBudget()
        self._is_patient = False
        """Whether the server named the time of the next attempt."""
        self._must_list = False
        """Whether the cache may differ from the stored slices: an answer was lost, or another client was faster."""

    def reconcile(self) -> None:
        """Writes until nothing is left to do for now. Raises ApiError, after which it should be retried."""
        rebased = rounds = 0
        self._is_patient = False
        while not self._stopping.is_set():
            rounds += 1
            try:
                if self._round(is_paced=rounds > _UNPACED_ROUNDS):
                    return
            except Overtaken as overtaken:
                rebased += 1
                if rebased > _REBASES:
                    raise overtaken.error from overtaken
                self._must_list = True

    def failed(self, error: ApiError, seconds: float) -> None:
        """Records a failed attempt."""
        self._is_patient = isinstance(error, Retryable) and error.retry_after_seconds is not None
        self._must_list = True
        self._parts.failures.failed(error, seconds)

    def is_urgent(self) -> bool:
        """Whether the newest pool is not stored yet."""
        return self._state.is_pending

    def sleep(self, seconds: float, stopping: threading.Event) -> None:
        """Waits before another attempt. A newer pool ends the wait, unless the server named the time."""
        if self._is_patient:
            stopping.wait(seconds)
        else:
            self._state.wait_for_newer_pool(seconds)

    def _round(self, *, is_paced: bool) -> bool:
        """One comparison and its writes. Returns whether nothing is left to do for now."""
        target = self._state.take()
        desired, parts = target.desired, self._parts
        if desired is None or not target.is_active:
            return True
        if self._must_list:
            self._writer.list_again()
            self._must_list = False
        pool = parts.refused.accepted(desired.source.pool(parts.taint_support.current()), time.monotonic())
        parts.cache.forget_lifted_taints(pool)
        writes = self._writes(pool, may_create=target.kubelet_connected)
        if writes is None:
            return True
        if not writes:
            self._complete(desired)
            return True
        if self._has_waited(desired, pool, writes, is_paced=is_paced):
            return False
        made = self._writer.make(writes, pool)
        parts.reflector.nudge()
        # The next plan leaves a refused device out.
        return not (made or self._writer.is_refused)

    def _writes(self, pool: Pool, *, may_create: bool) -> tuple[SliceWrite, ...] | None:
        """The writes to make, None while they must wait for a kubelet. Raises ApiError."""
        owner = self._parts.owner.current()
        observed, context = self._parts.cache.view()
        writes = plan(pool, owner, observed, context)
        if not any(write.kind == "create" for write in writes):
            return writes
        if not may_create:
            return None
        # The garbage collector may have removed the slices, because the Node was re-created.
        current = self._parts.owner.fresh()
        return writes if current == owner else plan(pool, current, observed, context)

    def _has_waited(
        self, desired: DesiredPool, pool: Pool, writes: tuple[SliceWrite, ...], *, is_paced: bool
    ) -> bool:
        """Whether the writes had to wait. They are planned again then."""
        now = time.monotonic()
        is_new = self._state.is_new(desired)
        if is_paced or not is_new:
            wait = self._repairs.take(now, is_new=is_new)
            if wait > 0:
                self.sleep(wait, self._stopping)
            return wait > 0
        kind = change_kind(pool, self._parts.cache.view()[0], writes)
        if kind is not ChangeKind.SERVICE:
            wait = self._changes.take(now, is_fault=kind is ChangeKind.FAULT)
            if wait > 0:
                self._state.wait_for_any_change(wait)
            return wait > 0
        wait = self._writer.written_at + self._settings.spacing_seconds - now
        if wait > 0:
            self._stopping.wait(wait)
        return wait > 0

    def _complete(self, desired: DesiredPool) -> None:
        self._parts.failures.clear()
        if self._state.complete(desired):
            self._listener.stored(desired.revision)
