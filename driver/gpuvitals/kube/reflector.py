"""Keeps a copy of what the API server stores: paged list, then watch, for ever.

A lost place in history (410) means a new list, whose difference is told as events. Bookmarks move the place on; a
silent connection is given up after a while; errors back off with jitter. One thread a reflector.

Now and then a watch begins with everything that is stored instead of at its place, and what was missed is settled at
the first bookmark: as good as a list, without the request.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

import msgspec

from gpuvitals.decode_error import decoded
from gpuvitals.kube.cause_log import CauseLog
from gpuvitals.kube.errors import ApiError, Gone, Retryable
from gpuvitals.kube.resource_version import is_newer
from gpuvitals.kube.retry import WATCH, Retries, RetryPolicy, retrying
from gpuvitals.kube.transport import Call, LineStream, Transport
from gpuvitals.kube.watch_wire import (
    EVENT,
    LIST,
    OBJECT,
    STATUS,
    ObjectList,
    ObjectMeta,
    WatchError,
    WatchEvent,
    read_answer,
)
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics

log = logging.getLogger(__name__)

_WATCH_SECONDS = (300, 600)
"""As client-go does. Source: kubernetes/client-go tools/cache/reflector.go, minWatchTimeout."""
_SHORT_SECONDS = 1.0
_EARLY_SECONDS = 2.0

_BEHIND = "Too large resource version"
"""The server has not come to our place: it lags, or was restored from a backup. Source: kubernetes/apiserver storage."""

_T = TypeVar("_T")

ObjectKey = tuple[str, str]
"""(namespace, name)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What to reflect: a collection's path and its selectors; and how: objects a page, silence that ends a watch.

    `resync_seconds` is how often a watch begins with everything that is stored, None for never. `is_cached`: the first
    list may be a little old, and comes from the API server's cache. `rejoin_seconds` is the time within which a fleet
    whose watches all broke joins again.
    """

    path: str
    query: tuple[tuple[str, str], ...] = ()
    page: int = 500
    silence_seconds: float = 90.0
    policy: RetryPolicy = WATCH
    resync_seconds: float | None = None
    is_cached: bool = True
    rejoin_seconds: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReflectorHooks:
    """Callbacks of a reflector's life, on its thread.

    `urgent` tells whether something waits for the first list, which is then tried again in seconds.
    `listed(error)` comes after each whole list with None, and after each failure. `rejoined()` comes with each watch after
    one that failed or ended before its time: behind the same address there may be another server since.
    `deleted(key, uid)` comes with each delete that the watch shows, before `changed`, also of an object never seen.
    `reached(place)`: everything up to this resourceVersion was told. `settled(objects, place, rewound)` comes with all
    that is stored at a place; `rewound` where the server's history went back behind what it had shown.
    """

    urgent: Callable[[], bool] = lambda: False
    listed: Callable[[ApiError | None], None] = lambda error: None
    rejoined: Callable[[], None] = lambda: None
    deleted: Callable[[ObjectKey, str], None] = lambda key, uid: None
    reached: Callable[[str], None] = lambda place: None
    settled: Callable[[list[bytes], str, bool], None] | None = None


class Reflector:
    """`changed(key, raw)` is called on the reflector's thread, with None for an object that is gone.

    The handler decodes; one that raises msgspec.DecodeError has the object skipped and counted.
    `synced` is set once a whole list was told, and is cleared while the difference of a later one is being told.
    `trouble` says why there is no watch, empty while there is one.
    `listed(error)` is called on the reflector's thread after each whole list with None, and after each failure.
    """

    def __init__(
        self,
        selection: Selection,
        transport: Transport,
        changed: Callable[[ObjectKey, bytes | None], None],
        metrics: NodeMetrics,
        turns: ReflectorHooks | None = None,
    ) -> None:
        self._turns = turns or ReflectorHooks()
        self._selection = selection
        self._transport = transport
        self._changed = changed
        self._metrics = metrics
        self._versions: dict[ObjectKey, str] = {}
        self._place = ""
        self._highest = ""
        self._resync: dict[ObjectKey, bytes] | None = None
        self._settled_at = time.monotonic()
        self._random = random.Random()
        self.synced = threading.Event()
        self.trouble = ""
        self._was_lost = False
        self._stop = threading.Event()
        self._nudged = threading.Event()
        self._lock = threading.Lock()
        self._lines: LineStream | None = None
        self._resource = selection.path.rsplit("/", 1)[-1]
        self._failures = CauseLog(log, "watch")
        self._skipped = CauseLog(log, "object skipped")
        # A daemon: it only reads, so a call that outlives the stop deadline has nothing to lose.
        self._thread = threading.Thread(target=self._run, name=f"watch-{self._resource}", daemon=True)

    def start(self) -> None:
        """Starts to list and watch."""
        self._thread.start()

    def stop(self, deadline_seconds: float = 0.0) -> None:
        """Cuts the watch and waits for the thread up to the deadline."""
        self._stop.set()
        self._nudged.set()
        with self._lock:
            if self._lines is not None:
                self._lines.cut()
        if self._thread.ident is not None:
            self._thread.join(deadline_seconds)

    def nudge(self) -> None:
        """Ends a back-off: somebody has reached the server."""
        self._nudged.set()

    def skip(self, trouble: str) -> None:
        """Counts an object of this collection that can't be decoded. Any thread."""
        self._metrics.objects_skipped.labels(resource=self._resource).inc()
        self._skipped.happened(trouble, path=self._selection.path, error=trouble)

    def _run(self) -> None:
        step = retrying(
            self._selection.policy,
            Retries(
                stop=self._stop,
                metrics=self._metrics,
                failed=self._failed,
                urgent=lambda: not self.synced.is_set() and self._turns.urgent(),
                sleep=self._sleep,
            ),
        )
        while not self._stop.is_set():
            try:
                step(self._cycle)
            except ApiError as error:
                log.debug("watch stopped", extra=keys(path=self._selection.path, error=str(error)))

    def _failed(self, error: ApiError, seconds: float) -> None:
        self.trouble = str(error)
        self._turns.listed(error)
        self._failures.failed(error, path=self._selection.path, again_in=round(seconds, 1))

    def _sleep(self, seconds: float) -> None:
        if not self._stop.is_set():
            self._nudged.clear()
            self._nudged.wait(seconds)

    def _cycle(self) -> None:
        if not self._place:
            self._list()
        try:
            self._watch()
        except ApiError as error:
            if isinstance(error, Gone) or _BEHIND in str(error):
                self._place = ""
            raise

    def _list(self) -> None:
        had_synced = self.synced.is_set()
        try:
            self._place = self._take_all()
        except ApiError:
            # Half a list told is still no worse than what was known before.
            if had_synced:
                self.synced.set()
            raise
        self.synced.set()
        self._turns.listed(None)

    def _take_all(self) -> str:
        """Tells every page and then what is gone. The place in history from which to watch."""
        seen: dict[ObjectKey, bytes] = {}
        token = ""
        while True:
            page = self._page(token)
            self.synced.clear()
            for raw in page.items:
                key = self._took(raw)
                if key is not None:
                    seen[key] = bytes(raw) if self._turns.settled is not None else b""
            token = page.metadata.continue_
            if not token:
                break
        if not page.metadata.resource_version:
            raise Retryable(f"list {self._selection.path}: no resourceVersion")
        place = page.metadata.resource_version
        self._settle(seen, place, rewound=bool(self._highest) and is_newer(self._highest, place))
        return place

    def _settle(self, stored: dict[ObjectKey, bytes], place: str, *, rewound: bool) -> None:
        for gone in self._versions.keys() - stored.keys():
            del self._versions[gone]
            self._changed(gone, None)
        if self._turns.settled is not None:
            self._turns.settled(list(stored.values()), place, rewound)
        self._settled_at, self._highest = time.monotonic(), place
        self._turns.reached(place)

    def _page(self, token: str) -> ObjectList:
        query = (*self._selection.query, ("limit", str(self._selection.page)))
        if token:
            query = (*query, ("continue", token))
        elif self._selection.is_cached and not self._highest:
            query = (*query, ("resourceVersion", "0"))
        return read_answer(
            self._transport.request(Call(method="GET", path=self._selection.path, query=query)), LIST
        )

    def _watch(self) -> None:
        agreed_seconds = self._random.randint(*_WATCH_SECONDS)
        self._resync = {} if self._is_resync_due() else None
        query = (
            *self._selection.query,
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", self._place if self._resync is None else "0"),
            ("timeoutSeconds", str(agreed_seconds)),
        )
        call = Call(
            method="GET",
            path=self._selection.path,
            query=query,
            deadline_seconds=self._selection.silence_seconds,
        )
        began, heard = time.monotonic(), False
        try:
            with self._transport.stream(call) as lines:
                self._hold(lines)
                if self._was_lost:
                    self._was_lost = False
                    self._turns.rejoined()
                for line in lines:
                    self._apply(read_answer(line, EVENT))
                    heard = True
        except Retryable as error:
            if time.monotonic() - began < _SHORT_SECONDS:
                raise
            # It worked until now, so this is a first failure: join again after a moment, apart from the fleet.
            self._metrics.api_retries.labels(code=str(error.status)).inc()
            self._sleep(self._random.uniform(0, self._selection.rejoin_seconds))
            return
        finally:
            self._hold(None)
            if time.monotonic() - began < agreed_seconds - _EARLY_SECONDS:
                self._was_lost = True
        if not heard and time.monotonic() - began < _SHORT_SECONDS and not self._stop.is_set():
            raise Retryable(f"watch {self._selection.path}: ended at once")

    def _is_resync_due(self) -> bool:
        every = self._selection.resync_seconds
        return every is not None and time.monotonic() - self._settled_at >= every

    def _hold(self, lines: LineStream | None) -> None:
        with self._lock:
            self._lines = lines
            if lines is None:
                return
            self.trouble = ""
            if self._stop.is_set():
                lines.cut()

    def _apply(self, event: WatchEvent) -> None:
        if event.type == "ERROR":
            self._refused(read_answer(event.object, STATUS))
        meta = self._meta(event.object)
        if meta is None:
            return
        key = (meta.namespace, meta.name)
        if event.type == "DELETED":
            self._turns.deleted(key, meta.uid)
            if self._versions.pop(key, None) is not None:
                self._changed(key, None)
            if self._resync is not None:
                self._resync.pop(key, None)
        elif event.type != "BOOKMARK":
            self._took(event.object)
            if self._resync is not None:
                self._resync[key] = bytes(event.object)
        self._move_on(meta.resource_version, is_bookmark=event.type == "BOOKMARK")

    def _move_on(self, place: str, *, is_bookmark: bool) -> None:
        """Takes the place of an event. A watch that begins with everything has none before its first bookmark."""
        if not place:
            return
        if self._resync is None:
            self._place = place
            self._highest = place
            self._turns.reached(place)
        elif is_bookmark and not is_newer(self._place, place):
            stored, self._resync = self._resync, None
            self._place = place
            self._settle(stored, place, rewound=False)

    def _refused(self, status: WatchError) -> None:
        """An error in place of an event. Raises Gone where a new list is needed, else Retryable."""
        text = f"watch {self._selection.path}: {status.code} {status.reason}: {status.message}"
        if status.code == 410:
            raise Gone(text, status=410)
        raise Retryable(text, status=status.code)

    def _took(self, raw: msgspec.Raw) -> ObjectKey | None:
        """Tells one object where it is new; its key, None where it has none that can be read."""
        meta = self._meta(raw)
        if meta is None:
            return None
        key = (meta.namespace, meta.name)
        if self._versions.get(key) != meta.resource_version:
            try:
                self._changed(key, bytes(raw))
            except msgspec.DecodeError as error:
                self.skip(str(error))
            self._versions[key] = meta.resource_version
        return key

    def _meta(self, raw: msgspec.Raw) -> ObjectMeta | None:
        try:
            return decoded(OBJECT, raw).metadata
        except msgspec.DecodeError as error:
            self.skip(str(error))
            return None


def object_path(collection: str, name: str) -> str:
    """The path of one object of a collection."""
    return f"{collection}/{quote(name, safe='')}"
