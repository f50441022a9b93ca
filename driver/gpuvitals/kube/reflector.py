"""Keeps a copy of what the API server stores: paged list, then watch, for ever.

A lost place in history (410) means a new list, whose difference is told as events. Bookmarks move the place on; a
silent connection is given up after a while; errors back off with jitter. One thread a reflector.
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

from gpuvitals.kube.client import Call, LineStream, Transport
from gpuvitals.kube.errors import ApiError, Gone, Retryable
from gpuvitals.kube.retry import WATCH, Retries, RetryPolicy, retrying
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics

log = logging.getLogger(__name__)

_WATCH_SECONDS = (240, 360)
_SHORT_SECONDS = 1.0
_EARLY_SECONDS = 2.0
_REJOIN_SECONDS = 0.1

_T = TypeVar("_T")

ObjectKey = tuple[str, str]
"""(namespace, name)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What to reflect: a collection's path and its selectors; and how: objects a page, silence that ends a watch."""

    path: str
    query: tuple[tuple[str, str], ...] = ()
    page: int = 500
    silence_seconds: float = 90.0
    policy: RetryPolicy = WATCH


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """What somebody wants to hear of a reflector's life, on its thread.

    `listed(error)` comes after each whole list with None, and after each failure. `rejoined()` comes with each watch after
    one that failed or ended before its time: behind the same address there may be another server since.
    """

    listed: Callable[[ApiError | None], None] = lambda error: None
    rejoined: Callable[[], None] = lambda: None


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
        turns: Turns | None = None,
    ) -> None:
        self._turns = turns or Turns()
        self._selection = selection
        self._transport = transport
        self._changed = changed
        self._metrics = metrics
        self._versions: dict[ObjectKey, str] = {}
        self._place = ""
        self._random = random.Random()
        self.synced = threading.Event()
        self.trouble = ""
        self._was_lost = False
        self._stop = threading.Event()
        self._nudged = threading.Event()
        self._lock = threading.Lock()
        self._lines: LineStream | None = None
        self._resource = selection.path.rsplit("/", 1)[-1]
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
        log.warning("object skipped", extra=keys(path=self._selection.path, error=trouble))

    def _run(self) -> None:
        step = retrying(
            self._selection.policy,
            Retries(
                stop=self._stop,
                metrics=self._metrics,
                failed=self._failed,
                urgent=lambda: not self.synced.is_set(),
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
        log.warning(
            "watch", extra=keys(path=self._selection.path, error=str(error), again_in=round(seconds, 1))
        )

    def _sleep(self, seconds: float) -> None:
        if not self._stop.is_set():
            self._nudged.clear()
            self._nudged.wait(seconds)

    def _cycle(self) -> None:
        if not self._place:
            self._list()
        try:
            self._watch()
        except Gone:
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
        seen: set[ObjectKey] = set()
        token = ""
        while True:
            page = self._page(token)
            self.synced.clear()
            seen.update(key for key in map(self._took, page.items) if key is not None)
            token = page.metadata.continue_
            if not token:
                break
        for gone in self._versions.keys() - seen:
            del self._versions[gone]
            self._changed(gone, None)
        if not page.metadata.resource_version:
            raise Retryable(f"list {self._selection.path}: no resourceVersion")
        return page.metadata.resource_version

    def _page(self, token: str) -> "_List":
        query = (*self._selection.query, ("limit", str(self._selection.page)))
        if token:
            query = (*query, ("continue", token))
        return _decoded(
            self._transport.request(Call(method="GET", path=self._selection.path, query=query)), _LIST
        )

    def _watch(self) -> None:
        agreed_seconds = self._random.randint(*_WATCH_SECONDS)
        query = (
            *self._selection.query,
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", self._place),
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
                    self._apply(_decoded(line, _EVENT))
                    heard = True
        except Retryable as error:
            if time.monotonic() - began < _SHORT_SECONDS:
                raise
            # It worked until now, so this is a first failure: join again after a moment, apart from the fleet.
            self._metrics.api_retries.labels(code=str(error.status)).inc()
            self._sleep(self._random.uniform(0, _REJOIN_SECONDS))
            return
        finally:
            self._hold(None)
            if time.monotonic() - began < agreed_seconds - _EARLY_SECONDS:
                self._was_lost = True
        if not heard and time.monotonic() - began < _SHORT_SECONDS and not self._stop.is_set():
            raise Retryable(f"watch {self._selection.path}: ended at once")

    def _hold(self, lines: LineStream | None) -> None:
        with self._lock:
            self._lines = lines
            if lines is None:
                return
            self.trouble = ""
            if self._stop.is_set():
                lines.cut()

    def _apply(self, event: "_Event") -> None:
        if event.type == "ERROR":
            status = _decoded(event.object, _STATUS)
            text = f"watch {self._selection.path}: {status.message}"
            if status.code == 410:
                raise Gone(text, status=410)
            raise Retryable(text, status=status.code)
        meta = self._meta(event.object)
        if meta is None:
            return
        key = (meta.namespace, meta.name)
        if event.type == "DELETED":
            if self._versions.pop(key, None) is not None:
                self._changed(key, None)
        elif event.type != "BOOKMARK":
            self._took(event.object)
        self._place = meta.resource_version or self._place

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

    def _meta(self, raw: msgspec.Raw) -> "_ObjectMeta | None":
        try:
            return _OBJECT.decode(raw).metadata
        except msgspec.DecodeError as error:
            self.skip(str(error))
            return None


def object_path(collection: str, name: str) -> str:
    """The path of one object of a collection."""
    return f"{collection}/{quote(name, safe='')}"


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] = []


class _ObjectMeta(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""


class _Object(msgspec.Struct):
    metadata: _ObjectMeta


class _Status(msgspec.Struct):
    code: int = 0
    message: str = ""


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


_LIST = msgspec.json.Decoder(_List)
_OBJECT = msgspec.json.Decoder(_Object)
_STATUS = msgspec.json.Decoder(_Status)
_EVENT = msgspec.json.Decoder(_Event)


def _decoded(body: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[_T]) -> _T:
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        raise Retryable(f"answer of the API server: {error}") from error
