"""A cache of one collection, kept by list and watch; it calls back on every change.

Place in the chain: between the API server and the decisions of the simulated kubelet and scheduler, which read the
cache and never list by themselves.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType

from gpuvitals_sim.rest import ApiError, Json, Query, Rest, WatchStream

log = logging.getLogger(__name__)

_WATCH_SECONDS = 300.0
_RETRY_SECONDS = 0.2
_PAGE = "500"
_JOIN_SECONDS = 15.0
_ABSENT_SECONDS = 5.0
_GONE = 410
_NOT_FOUND = 404


class Informer:
    """The objects at `path`, keyed by (namespace, name), as the server showed them last.

    `on_change(kind of event, object)` is called on the informer's thread: ADDED, MODIFIED, DELETED. After a relist it is
    called only for what differs. A broken watch is resumed; an expired one is listed anew.
    """

    def __init__(
        self, rest: Rest, path: str, on_change: Callable[[str, Json], None], query: Query | None = None
    ) -> None:
        self._rest = rest
        self._path = path
        self._query = query or {}
        self._on_change = on_change
        self._objects: Mapping[tuple[str, str], Json] = MappingProxyType({})
        self._version = ""
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._stream: WatchStream | None = None
        self._synced = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"informer {path}")

    def start(self) -> None:
        """Starts listing and watching on a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the callbacks, closes the open watch and joins the thread; may be called twice, also before start()."""
        self._stop.set()
        with self._lock:
            stream = self._stream
        if stream is not None:
            stream.close()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_SECONDS)

    def wait_synced(self, timeout_seconds: float) -> bool:
        """True once the first list is in the cache."""
        return self._synced.wait(timeout_seconds)

    @property
    def synced(self) -> bool:
        """Whether the first list is in the cache."""
        return self._synced.is_set()

    def all(self) -> tuple[Json, ...]:
        """The cached objects. They are shared: read, don't change."""
        return tuple(self._objects.values())

    def find(self, namespace: str, name: str) -> Json | None:
        """One cached object. Shared: read, don't change."""
        return self._objects.get((namespace, name))

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                if self._version:
                    self._watch()
                else:
                    self._list()
            except ApiError as error:
                self._after(error)
        self._rest.close()

    def _after(self, error: ApiError) -> None:
        """What a failed list or watch leads to; a kind that the server does not have is an empty one."""
        if error.code == _GONE:
            self._version = ""
            return
        if error.code == _NOT_FOUND:
            self._synced.set()
        if not self._stop.is_set():
            log.debug("informer: %s: %s; tried again", self._path, error)
        self._stop.wait(_ABSENT_SECONDS if error.code == _NOT_FOUND else _RETRY_SECONDS)

    def _list(self) -> None:
        objects: dict[tuple[str, str], Json] = {}
        query = {**self._query, "limit": _PAGE}
        token = "start"
        while token:
            answer = self._rest.get(self._path, query)
            objects.update({_key(item): item for item in answer.get("items") or ()})
            token = answer["metadata"].get("continue", "")
            query["continue"] = token
        before, self._objects = self._objects, MappingProxyType(objects)
        self._synced.set()
        for key, item in objects.items():
            old = before.get(key)
            if old is None:
                self._tell("ADDED", item)
            elif old["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
                self._tell("MODIFIED", item)
        for key, item in before.items():
            if key not in objects:
                self._tell("DELETED", item)
        self._version = str(answer["metadata"]["resourceVersion"])

    def _watch(self) -> None:
        stream = self._rest.watch(
            self._path, {**self._query, "resourceVersion": self._version}, _WATCH_SECONDS
        )
        with self._lock:
            self._stream = stream
        if self._stop.is_set():
            stream.close()
        for event in stream:
            if self._stop.is_set():
                break
            kind, item = event["type"], event["object"]
            self._version = str(item["metadata"]["resourceVersion"])
            if kind != "BOOKMARK":
                self._take(kind, item)

    def _take(self, kind: str, item: Json) -> None:
        objects = dict(self._objects)
        if kind == "DELETED":
            objects.pop(_key(item), None)
        else:
            objects[_key(item)] = item
        self._objects = MappingProxyType(objects)
        self._tell(kind, item)

    def _tell(self, kind: str, item: Json) -> None:
        if not self._stop.is_set():
            self._on_change(kind, item)


def _key(item: Json) -> tuple[str, str]:
    metadata = item["metadata"]
    return str(metadata.get("namespace", "")), str(metadata["name"])
