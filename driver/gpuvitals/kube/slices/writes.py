"""Makes planned writes of slices, and records the server's answers. One thread uses it."""

import logging
import time
from dataclasses import dataclass

import msgspec

from gpuvitals.inventory.pool import Pool
from gpuvitals.kube.cause_log import CauseLog
from gpuvitals.kube.errors import ApiError, Conflict, Invalid, NotFound, Retryable
from gpuvitals.kube.reflector import Reflector
from gpuvitals.kube.slices.cache import SliceCache
from gpuvitals.kube.slices.codec import ObservedSlice, TaintKey, pool_taints
from gpuvitals.kube.slices.owner import KnownOwner
from gpuvitals.kube.slices.plan import SliceWrite, slice_call
from gpuvitals.kube.slices.refused_devices import BODY_SECONDS, RefusedDevices
from gpuvitals.kube.slices.taint_support import TaintSupport
from gpuvitals.kube.slices.write_failures import WriteFailures
from gpuvitals.kube.transport import Call, Transport
from gpuvitals.observability.metrics import NodeMetrics

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterParts:
    """The parts that an answer of the server changes or that a plan needs. `reflector` watches the own slices."""

    cache: SliceCache
    taint_support: TaintSupport
    failures: WriteFailures
    refused: RefusedDevices
    owner: KnownOwner
    reflector: Reflector


class Overtaken(Exception):
    """Another client changed or removed the slice first."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(str(error))
        self.error = error


class SliceWriter:
    """Makes writes. `written_at` is the monotonic time of the last successful one.

    `is_refused`: the server found one of the last writes invalid. `list_call` reads all own slices.
    """

    def __init__(
        self, transport: Transport, metrics: NodeMetrics, parts: WriterParts, list_call: Call
    ) -> None:
        self._transport = transport
        self._metrics = metrics
        self._cache = parts.cache
        self._taint_support = parts.taint_support
        self._failures = parts.failures
        self._refused = parts.refused
        self._reflector = parts.reflector
        self._list_call = list_call
        self._dropped = CauseLog(log, "the server drops device taints, withdrawing instead")
        self._differently = CauseLog(log, "slice stored differently, left so", level=logging.ERROR)
        self.is_refused = False
        self.written_at = 0.0

    def make(self, writes: tuple[SliceWrite, ...], pool: Pool) -> bool:
        """Makes the writes. Returns whether the server took every body. A slice that fails does not hold up the others.

        Raises the first ApiError after the last write, and Overtaken at once, since the plan no longer holds then.
        """
        failed: ApiError | None = None
        made = True
        self.is_refused = False
        for write in writes:
            try:
                made = self._made(write, pool) and made
            except ApiError as error:
                if not error.status:
                    raise
                failed = failed or error
        if failed is not None:
            raise failed
        return made

    def list_again(self) -> None:
        """Reads all own slices, since the watch may be behind. Raises ApiError."""
        try:
            for reason in self._cache.replace(self._transport.request(self._list_call)):
                self._reflector.skip(reason)
        except msgspec.DecodeError as error:
            raise Retryable(f"list of slices: {error}") from error

    def _made(self, write: SliceWrite, pool: Pool) -> bool:
        """Makes one write. Returns False for a body that is or was refused. Raises ApiError and Overtaken."""
        if self._refused.is_refused(write.body, time.monotonic()):
            return False
        try:
            answer = self._transport.request(slice_call(write))
        except ApiError as error:
            self._metrics.slice_writes.labels(reason=write.kind, code=str(error.status)).inc()
            return self._failed(write, error, pool)
        self._metrics.slice_writes.labels(reason=write.kind, code="200").inc()
        self.written_at = time.monotonic()
        if write.body is None:
            if write.target is not None:
                self._cache.record_delete(write.target)
            return True
        try:
            stored = self._cache.record_write(answer)
        except msgspec.DecodeError as error:
            raise Retryable(f"answer to a slice: {error}") from error
        if stored.content != write.content:
            self._stored_differently(stored, write, pool)
        return True

    def _failed(self, write: SliceWrite, error: ApiError, pool: Pool) -> bool:
        if isinstance(error, Invalid):
            self.is_refused = True
            if not self._refused.blame(write, error, pool, time.monotonic()):
                self._failures.failed(error, BODY_SECONDS)
            return False
        if isinstance(error, Conflict) or (isinstance(error, NotFound) and write.target is not None):
            raise Overtaken(error) from error
        raise error

    def _stored_differently(self, stored: ObservedSlice, write: SliceWrite, pool: Pool) -> None:
        """The stored slice differs from the one that was sent: the server drops taints, or a webhook has changed it."""
        wanted = frozenset[TaintKey]().union(
            *(taints for device, taints in pool_taints(pool).items() if device in stored.devices)
        )
        if not wanted <= stored.taints:
            self._taint_support.drops_taints()
            self._dropped.happened("", slice=stored.name)
        elif self._cache.accept_difference(write.content, stored.content):
            self._differently.happened("", slice=stored.name)
