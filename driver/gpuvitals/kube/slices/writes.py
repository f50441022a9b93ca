"""Makes planned writes of slices and files what the server answers. One thread uses it."""

import logging
import time
from dataclasses import dataclass

import msgspec

from gpuvitals.inventory.pool import Pool
from gpuvitals.kube.cause_log import CauseLog
from gpuvitals.kube.errors import ApiError, Conflict, Invalid, NotFound, Retryable
from gpuvitals.kube.slices.cache import SliceCache
from gpuvitals.kube.slices.codec import ObservedSlice, TaintKey, pool_taints
from gpuvitals.kube.slices.plan import SliceWrite, slice_call
from gpuvitals.kube.slices.refused_devices import BODY_SECONDS, RefusedDevices
from gpuvitals.kube.slices.taint_support import TaintSupport
from gpuvitals.kube.slices.trouble import SliceTrouble
from gpuvitals.kube.transport import Transport
from gpuvitals.observability.metrics import NodeMetrics

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SliceKnowledge:
    """What an answer changes: the cache, the mode of isolation, and what is in the way."""

    cache: SliceCache
    mode: TaintSupport
    trouble: SliceTrouble
    devices: RefusedDevices


class Overtaken(Exception):
    """Somebody else changed or removed the slice first."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(str(error))
        self.error = error


class SliceWriter:
    """`written_at` is the monotonic time of the last write that succeeded; `is_refused`: the last writes had one that the
    server found invalid.
    """

    def __init__(self, transport: Transport, metrics: NodeMetrics, knowledge: SliceKnowledge) -> None:
        self._transport = transport
        self._metrics = metrics
        self._cache = knowledge.cache
        self._mode = knowledge.mode
        self._trouble = knowledge.trouble
        self._devices = knowledge.devices
        self._dropped = CauseLog(log, "the server drops device taints, withdrawing instead")
        self._otherwise = CauseLog(log, "slice stored differently, left so", level=logging.ERROR)
        self.is_refused = False
        self.written_at = 0.0

    def make(self, writes: tuple[SliceWrite, ...], pool: Pool) -> bool:
        """Makes the writes; False where a body is refused. One slice that fails does not hold up the others.

        Raises the first ApiError, and Overtaken at once: then the plan no longer holds.
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

    def _made(self, write: SliceWrite, pool: Pool) -> bool:
        """Makes one write; False where the body was refused before. Raises ApiError and Overtaken."""
        if self._devices.is_refused(write.body, time.monotonic()):
            return False
        try:
            answer = self._transport.request(slice_call(write))
        except ApiError as error:
            self._metrics.slice_writes.labels(reason=write.kind, code=str(error.status)).inc()
            return self._not_made(write, error, pool)
        self._metrics.slice_writes.labels(reason=write.kind, code="200").inc()
        self.written_at = time.monotonic()
        if write.body is None:
            if write.target is not None:
                self._cache.deleted(write.target)
            return True
        try:
            stored = self._cache.stored(answer)
        except msgspec.DecodeError as error:
            raise Retryable(f"answer to a slice: {error}") from error
        if stored.content != write.content:
            self._stored_otherwise(stored, write, pool)
        return True

    def _not_made(self, write: SliceWrite, error: ApiError, pool: Pool) -> bool:
        if isinstance(error, Invalid):
            self.is_refused = True
            if not self._devices.blame(write, error, pool, time.monotonic()):
                self._trouble.failed(error, BODY_SECONDS)
            return False
        if isinstance(error, Conflict) or (isinstance(error, NotFound) and write.target is not None):
            raise Overtaken(error) from error
        raise error

    def _stored_otherwise(self, stored: ObservedSlice, write: SliceWrite, pool: Pool) -> None:
        """The server keeps something else than was sent: it drops taints, or a webhook has its own idea."""
        wanted = frozenset[TaintKey]().union(
            *(taints for device, taints in pool_taints(pool).items() if device in stored.devices)
        )
        if not wanted <= stored.taints:
            self._mode.drops_taints()
            self._dropped.happened("", slice=stored.name)
        elif self._cache.accept(write.content, stored.content):
            self._otherwise.happened("", slice=stored.name)
