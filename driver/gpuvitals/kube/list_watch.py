"""List and watch of one collection, as cycles that a reflector repeats.

A resourceVersion that the server no longer has (410) leads to a new list; only its difference is reported. A watch that
is due for a resync begins with all stored objects instead of at the last version. Events that were missed are reported at
its first bookmark, so no list has to be requested.
"""

import logging
import random
import threading
import time

from gpuvitals.kube.cause_log import CauseLog
from gpuvitals.kube.errors import ApiError, Gone, Retryable
from gpuvitals.kube.reflector_ports import ObjectKey, ReflectorHooks, Selection
from gpuvitals.kube.reported_objects import ReportedObjects
from gpuvitals.kube.resource_version import is_newer
from gpuvitals.kube.retry import RetriedLoop
from gpuvitals.kube.transport import Call, LineStream, Transport
from gpuvitals.kube.watch_wire import EVENT, LIST, STATUS, ObjectList, WatchError, WatchEvent, read_answer
from gpuvitals.observability.metrics import NodeMetrics

log = logging.getLogger(__name__)

_WATCH_SECONDS = (300, 600)
"""The range of a watch's duration. Source: kubernetes/client-go tools/cache/reflector.go, minWatchTimeout."""
_SHORT_SECONDS = 1.0
_EARLY_SECONDS = 2.0

_BEHIND = "Too large resource version"
"""The server has not reached our version: it lags, or was restored from a backup. Source: kubernetes/apiserver storage."""


class ListWatch(RetriedLoop):
    """`cycle` and the retry callbacks run on the reflector's thread; `cut`, `nudge` and `skip` come from any thread.

    `synced` is set after a complete list was reported, and is cleared while a later list is being reported.
    `problem` is the reason why no watch is open; empty while one is open.
    """

    def __init__(
        self,
        selection: Selection,
        transport: Transport,
        metrics: NodeMetrics,
        hooks: ReflectorHooks,
        stopping: threading.Event,
    ) -> None:
        self._selection = selection
        self._transport = transport
        self._metrics = metrics
        self._hooks = hooks
        self._stopping = stopping
        self._objects = ReportedObjects(selection.path, metrics, hooks)
        self._version = ""
        """The resourceVersion at which the next watch begins; empty for a list first."""
        self._highest = ""
        self._resync: dict[ObjectKey, bytes] | None = None
        self._settled_at = time.monotonic()
        self._random = random.Random()
        self._was_lost = False
        self._nudged = threading.Event()
        self._lock = threading.Lock()
        self._lines: LineStream | None = None
        self._failures = CauseLog(log, "watch")
        self.synced = threading.Event()
        self.problem = ""

    def cycle(self) -> None:
        """Lists if no version is known, then watches until the watch ends. Raises ApiError."""
        if not self._version:
            self._list()
        try:
            self._watch()
        except ApiError as error:
            if isinstance(error, Gone) or _BEHIND in str(error):
                self._version = ""
            raise

    def cut(self) -> None:
        """Ends the open watch and any back-off. The caller has set `stopping`, so no other watch begins."""
        self._nudged.set()
        with self._lock:
            if self._lines is not None:
                self._lines.cut()

    def nudge(self) -> None:
        """Ends a back-off, since another call has reached the server."""
        self._nudged.set()

    def skip(self, reason: str) -> None:
        """Counts an object of this collection that cannot be decoded."""
        self._objects.skip(reason)

    def failed(self, error: ApiError, seconds: float) -> None:
        """Records a failed cycle."""
        self.problem = str(error)
        self._hooks.listed(error)
        self._failures.failed(error, path=self._selection.path, again_in=round(seconds, 1))

    def is_urgent(self) -> bool:
        """Whether the first list is still missing and needed."""
        return not self.synced.is_set() and self._hooks.is_urgent()

    def sleep(self, seconds: float, stopping: threading.Event) -> None:
        """Waits; `nudge` and `cut` end the wait."""
        if not stopping.is_set():
            self._nudged.clear()
            self._nudged.wait(seconds)

    def _list(self) -> None:
        had_synced = self.synced.is_set()
        try:
            self._version = self._report_all()
        except ApiError:
            # A partly reported list is no worse than the state before it.
            if had_synced:
                self.synced.set()
            raise
        self.synced.set()
        self._hooks.listed(None)

    def _report_all(self) -> str:
        """Reports every page, then the deleted objects. Returns the resourceVersion from which to watch."""
        stored: dict[ObjectKey, bytes] = {}
        token = ""
        while True:
            page = self._page(token)
            self.synced.clear()
            for raw in page.items:
                key = self._objects.report(raw)
                if key is not None:
                    stored[key] = bytes(raw)
            token = page.metadata.continue_
            if not token:
                break
        version = page.metadata.resource_version
        if not version:
            raise Retryable(f"list {self._selection.path}: no resourceVersion")
        self._settle(stored, version, rewound=bool(self._highest) and is_newer(self._highest, version))
        return version

    def _settle(self, stored: dict[ObjectKey, bytes], version: str, *, rewound: bool) -> None:
        self._objects.report_missing(stored.keys())
        self._hooks.settled(list(stored.values()), version, rewound=rewound)
        self._settled_at, self._highest = time.monotonic(), version
        self._hooks.reached(version)

    def _page(self, token: str) -> ObjectList:
        query = (*self._selection.query, ("limit", str(self._selection.page)))
        if token:
            query = (*query, ("continue", token))
        elif self._selection.is_cached and not self._highest:
            query = (*query, ("resourceVersion", "0"))
        call = Call(method="GET", path=self._selection.path, query=query)
        return read_answer(self._transport.request(call), LIST)

    def _watch(self) -> None:
        agreed_seconds = self._random.randint(*_WATCH_SECONDS)
        self._resync = {} if self._is_resync_due() else None
        call = self._watch_call(agreed_seconds)
        began, had_event = time.monotonic(), False
        try:
            with self._transport.stream(call) as lines:
                self._opened(lines)
                for line in lines:
                    self._apply(read_answer(line, EVENT))
                    had_event = True
        except Retryable as error:
            if time.monotonic() - began < _SHORT_SECONDS:
                raise
            # The watch has worked, so this is a first failure: no back-off, but a random delay, apart from the fleet.
            self._metrics.api_retries.labels(code=str(error.status)).inc()
            self.sleep(self._random.uniform(0, self._selection.rejoin_seconds), self._stopping)
            return
        finally:
            self._closed()
            if time.monotonic() - began < agreed_seconds - _EARLY_SECONDS:
                self._was_lost = True
        if not had_event and time.monotonic() - began < _SHORT_SECONDS and not self._stopping.is_set():
            raise Retryable(f"watch {self._selection.path}: ended at once")

    def _watch_call(self, agreed_seconds: int) -> Call:
        query = (
            *self._selection.query,
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", self._version if self._resync is None else "0"),
            ("timeoutSeconds", str(agreed_seconds)),
        )
        silence_seconds = self._selection.silence_seconds
        return Call(method="GET", path=self._selection.path, query=query, deadline_seconds=silence_seconds)

    def _is_resync_due(self) -> bool:
        every = self._selection.resync_seconds
        return every is not None and time.monotonic() - self._settled_at >= every

    def _opened(self, lines: LineStream) -> None:
        with self._lock:
            self._lines = lines
            self.problem = ""
            if self._stopping.is_set():
                lines.cut()
        if self._was_lost:
            self._was_lost = False
            self._hooks.rejoined()

    def _closed(self) -> None:
        with self._lock:
            self._lines = None

    def _apply(self, event: WatchEvent) -> None:
        if event.type == "ERROR":
            self._refuse(read_answer(event.object, STATUS))
        meta = self._objects.metadata(event.object)
        if meta is None:
            return
        key = (meta.namespace, meta.name)
        if event.type == "DELETED":
            self._objects.report_deleted(key, meta.uid)
            if self._resync is not None:
                self._resync.pop(key, None)
        elif event.type != "BOOKMARK":
            self._objects.report(event.object)
            if self._resync is not None:
                self._resync[key] = bytes(event.object)
        self._advance(meta.resource_version, is_bookmark=event.type == "BOOKMARK")

    def _advance(self, version: str, *, is_bookmark: bool) -> None:
        """Records the version of an event. A resync has no version of its own before its first bookmark."""
        if not version:
            return
        if self._resync is None:
            self._version = self._highest = version
            self._hooks.reached(version)
        elif is_bookmark and not is_newer(self._version, version):
            stored, self._resync = self._resync, None
            self._version = version
            self._settle(stored, version, rewound=False)

    def _refuse(self, status: WatchError) -> None:
        """Translates an error in place of an event. Raises Gone if a new list is needed, else Retryable."""
        text = f"watch {self._selection.path}: {status.code} {status.reason}: {status.message}"
        if status.code == 410:
            raise Gone(text, status=410)
        raise Retryable(text, status=status.code)
