"""Stage 10 of 10: reconciles the node's ResourceSlices, also after wipes and foreign edits.

Level-triggered: the loop compares the newest desired pool with what is stored and makes the smallest write. A lone fault
is written at once; what arrives while that write is in flight, or shortly after it, goes into the next one: GPUs that
fail together are heard of one by one. Slices are never deleted at exit, and
none is created while no kubelet is connected: a node without one would attract pods that can't start. What is stored
already is still corrected then, so a fault is never hidden by a kubelet's restart.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from gpuvitals.inventory.pool import Pool
from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.kube.errors import ApiError, Retryable
from gpuvitals.kube.reflector import ObjectKey, Reflector, ReflectorHooks, Selection
from gpuvitals.kube.retry import SLICES, Retries, retrying
from gpuvitals.kube.slices.cache import SliceCache
from gpuvitals.kube.slices.change_budget import ChangeBudget
from gpuvitals.kube.slices.codec import PATH, TaintKey
from gpuvitals.kube.slices.metadata import NodeOwner
from gpuvitals.kube.slices.owner import KnownOwner
from gpuvitals.kube.slices.plan import SliceWrite, change_kind, plan
from gpuvitals.kube.slices.refused_devices import RefusedDevices
from gpuvitals.kube.slices.repair_budget import QuarrelBudget
from gpuvitals.kube.slices.service_change import ChangeKind
from gpuvitals.kube.slices.taint_support import TaintSupport, probe_mode
from gpuvitals.kube.slices.trouble import SliceTrouble
from gpuvitals.kube.slices.writes import Overtaken, SliceKnowledge, SliceWriter
from gpuvitals.kube.transport import Call, Transport
from gpuvitals.kube.write_priority import RightOfWay
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics

log = logging.getLogger(__name__)

_IDLE_SECONDS = 30.0
_SYNC_SECONDS = 1.0
_RESYNC_SECONDS = 600.0
_REBASES = 3
_FREE_ROUNDS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherSettings:
    """`owner` looks the Node up, since its UID changes when it is created anew; it raises ApiError.

    `mode` None has the server asked, before the first write, whether it keeps device taints. `taint_times` is what
    `known_taint_times` gave to an earlier process. `owner_seconds` is how long a looked up Node is used.
    `refused` gets why the server takes no slice from us (a missing right, a body at fault, a dead webhook), once a cause.
    `spacing_seconds` is the least time between two writes of new pools; the first one never waits.
    `way` is taken from a new pool until it is stored.
    """

    driver: str
    node: str
    annotation: str
    mode: ServiceMode | None
    owner: Callable[[], NodeOwner]
    taint_times: Mapping[TaintKey, str] = field(default_factory=dict)
    owner_seconds: float = 3600.0
    spacing_seconds: float = 0.2
    refused: Callable[[str], None] = field(default=lambda reason: None)
    way: RightOfWay = field(default_factory=RightOfWay)


@dataclass(frozen=True, slots=True)
class _Desired:
    pool_for: Callable[[ServiceMode], Pool]
    revision: int


class SlicePublisher:
    """One thread that writes, and a reflector that watches. `published` is called with a revision once it is stored."""

    def __init__(
        self,
        settings: PublisherSettings,
        transport: Transport,
        metrics: NodeMetrics,
        published: Callable[[int], None],
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._metrics = metrics
        self._published = published
        self._mode = TaintSupport(
            settings.mode, lambda: probe_mode(transport, settings.driver, settings.node)
        )
        self._trouble = SliceTrouble(settings.refused)
        self._devices = RefusedDevices(metrics, settings.refused)
        self._cache = SliceCache(settings.annotation, settings.taint_times)
        self._writer = SliceWriter(
            transport, metrics, SliceKnowledge(self._cache, self._mode, self._trouble, self._devices)
        )
        self._budget = QuarrelBudget()
        self._changes = ChangeBudget()
        self._changed = threading.Condition()
        self._dirty = False
        self._desired: _Desired | None = None
        self._tried: _Desired | None = None
        self._connected = False
        self._active = True
        self._told = -1
        self._patient = False
        self._must_read = False
        self._owner = KnownOwner(settings.owner, settings.owner_seconds)
        self._stop = threading.Event()
        selectors = f"spec.driver={settings.driver},spec.nodeName={settings.node}"
        self._selection = Selection(
            path=PATH,
            query=(("fieldSelector", selectors),),
            resync_seconds=_RESYNC_SECONDS,
            is_cached=False,
            rejoin_seconds=0.5,
        )
        turns = ReflectorHooks(
            urgent=lambda: True,
            rejoined=self._rejoined,
            deleted=lambda key, uid: self._news(self._cache.gone(key[1], uid)),
            reached=self._cache.reached,
            settled=lambda raws, place, rewound: self._news(self._cache.settle(raws, place, rewound=rewound)),
        )
        self._reflector = Reflector(self._selection, transport, self._seen, metrics, turns)
        # A daemon: a write that outlives the stop deadline can't be called back, and nothing local hangs on it.
        self._thread = threading.Thread(target=self._run, name="slices", daemon=True)

    @property
    def mode(self) -> ServiceMode | None:
        """How devices leave service; None until the server was asked. WITHDRAW where it turned out to drop taints."""
        return self._mode.value

    @property
    def is_synced(self) -> bool:
        """Whether the stored slices were read."""
        return self._reflector.synced.is_set()

    @property
    def is_pending(self) -> bool:
        """Whether the newest pool is not stored yet."""
        desired = self._desired
        return desired is not None and desired.revision > self._told

    @property
    def blocked(self) -> str:
        """Why the stored slices are not what they should be, empty where nothing is in the way."""
        return (
            self._trouble.text
            or self._devices.left_out
            or ("" if self._reflector.synced.is_set() else self._reflector.trouble)
        )

    def known_taint_times(self) -> dict[TaintKey, str]:
        """Since when each taint stands, for `PublisherSettings.taint_times` of the next process."""
        return self._cache.taint_times()

    def start(self) -> None:
        """Starts to watch and to write."""
        self._reflector.start()
        self._thread.start()

    def stop(self, deadline_seconds: float) -> None:
        """Stops both; a write in flight is finished within the deadline, and what is stored stays."""
        deadline = time.monotonic() + deadline_seconds
        self._stop.set()
        with self._changed:
            self._changed.notify()
        self._settings.way.release()
        self._reflector.stop()
        if self._thread.ident is not None:
            self._thread.join(deadline_seconds)
        self._reflector.stop(max(0.0, deadline - time.monotonic()))

    def publish(self, pool_for: Callable[[ServiceMode], Pool], revision: int) -> None:
        """Replaces the desired pool. Returns at once."""
        with self._changed:
            self._desired = _Desired(pool_for, revision)
            self._settings.way.take()
            self._dirty = True
            self._changed.notify()

    def set_kubelet_connected(self, connected: bool) -> None:
        """Tells whether a kubelet serves this driver; slices are created only then."""
        with self._changed:
            self._dirty = self._dirty or (connected and not self._connected)
            self._connected = connected
            self._changed.notify()

    def set_active(self, active: bool) -> None:
        """Tells whether this process is the one that writes: in a rolling update there are two for a while."""
        with self._changed:
            self._dirty = self._dirty or (active and not self._active)
            self._active = active
            self._changed.notify()

    def _seen(self, key: ObjectKey, raw: bytes | None) -> None:
        # Deletes come with their UID, by a turn of their own.
        self._news(raw is not None and self._cache.watched(raw))

    def _rejoined(self) -> None:
        self._mode.doubt()
        self._news(True)

    def _news(self, is_news: bool) -> None:
        if is_news:
            with self._changed:
                self._dirty = True
                self._changed.notify()

    def _run(self) -> None:
        step = retrying(
            SLICES,
            Retries(
                stop=self._stop,
                metrics=self._metrics,
                failed=self._failed,
                urgent=lambda: self.is_pending,
                sleep=self._pause,
            ),
        )
        while self._wait_for_work():
            try:
                step(self._converge)
            except ApiError as error:
                log.debug("publisher stopped", extra=keys(error=str(error)))

    def _wait_for_work(self) -> bool:
        """Returns when there is something to compare; False when stopped."""
        with self._changed:
            idle = max(
                0.0, min(_IDLE_SECONDS, self._devices.refused_until(time.monotonic()) - time.monotonic())
            )
            self._changed.wait_for(lambda: self._dirty or self._stop.is_set(), idle)
            self._dirty = False
        # Nothing is written before everything stored is known, and none while a later list is being told.
        while not self._stop.is_set() and not self._reflector.synced.wait(_SYNC_SECONDS):
            continue
        return not self._stop.is_set()

    def _pause(self, seconds: float) -> None:
        """Waits before another try. A pool that was not tried yet ends it, unless the server named a time.

        It may have come while the try that failed was under way.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._stop.is_set() or (not self._patient and self._desired is not self._tried),
                seconds,
            )

    def _defer(self, seconds: float) -> None:
        """Waits with a change that may wait. Whatever else happens ends it."""
        with self._changed:
            # Nobody else waits for a write that comes much later.
            self._settings.way.release()
            self._changed.wait_for(
                lambda: (
                    self._stop.is_set() or self._dirty or not self._active or self._desired is not self._tried
                ),
                seconds,
            )

    def _failed(self, error: ApiError, seconds: float) -> None:
        self._patient = isinstance(error, Retryable) and error.retry_after_seconds is not None
        self._must_read = True
        self._trouble.failed(error, seconds)

    def _converge(self) -> None:
        rebased = rounds = 0
        self._patient = False
        while not self._stop.is_set():
            rounds += 1
            try:
                if self._round(is_free=rounds <= _FREE_ROUNDS):
                    return
            except Overtaken as overtaken:
                rebased += 1
                if rebased > _REBASES:
                    raise overtaken.error from overtaken
                self._must_read = True

    def _round(self, *, is_free: bool) -> bool:
        """One comparison and its writes; True where nothing is left to do for now."""
        with self._changed:
            desired, connected = self._desired, self._connected
            active, self._dirty = self._active, False
            self._tried = desired
        if desired is None or not active:
            return True
        if self._must_read:
            self._read_again()
        pool = self._devices.accepted(desired.pool_for(self._mode.current()), time.monotonic())
        self._cache.expect(pool)
        writes = self._writes(pool, connected)
        if writes is None:
            return True
        if not writes:
            self._is_stored(desired)
            return True
        if self._had_to_wait(desired, pool, writes, is_free=is_free):
            return False
        made = self._writer.make(writes, pool)
        self._reflector.nudge()
        # A refused device is left out of the next plan.
        return not (made or self._writer.is_refused)

    def _had_to_wait(
        self, desired: _Desired, pool: Pool, writes: tuple[SliceWrite, ...], *, is_free: bool
    ) -> bool:
        """Whether the writes had to wait; then they are planned anew."""
        now = time.monotonic()
        is_new = desired.revision > self._told
        if not is_new or not is_free:
            wait = self._budget.take(now, is_new=is_new)
            if wait > 0:
                self._pause(wait)
            return wait > 0
        kind = change_kind(pool, self._cache.view()[0], writes)
        if kind is not ChangeKind.SERVICE:
            wait = self._changes.take(now, is_fault=kind is ChangeKind.FAULT)
            if wait > 0:
                self._defer(wait)
                return True
        elif (wait := self._writer.written_at + self._settings.spacing_seconds - now) > 0:
            self._stop.wait(wait)
            return True
        return False

    def _writes(self, pool: Pool, connected: bool) -> tuple[SliceWrite, ...] | None:
        """What to write, None where that must wait for a kubelet."""
        owner = self._owner.current()
        observed, known = self._cache.view()
        writes = plan(pool, owner, observed, known)
        if not any(write.kind == "create" for write in writes):
            return writes
        if not connected:
            return None
        # The wipe may have been the garbage collector's, because the Node was created anew.
        current = self._owner.fresh()
        return writes if current == owner else plan(pool, current, observed, known)

    def _is_stored(self, desired: _Desired) -> None:
        self._trouble.ended()
        with self._changed:
            if self._desired is desired:
                self._settings.way.release()
        if desired.revision > self._told:
            self._told = desired.revision
            self._published(desired.revision)

    def _read_again(self) -> None:
        """Reads the slices anew: an answer was lost, or somebody was faster and the watch may still be behind."""
        call = Call(method="GET", path=self._selection.path, query=self._selection.query)
        try:
            for trouble in self._cache.replace(self._transport.request(call)):
                self._reflector.skip(trouble)
        except msgspec.DecodeError as error:
            raise Retryable(f"list of slices: {error}") from error
        self._must_read = False
