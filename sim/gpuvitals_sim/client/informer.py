"""`Informer`: a cache of one collection, kept current by list and watch, that calls back on every change.

Place in the chain: between the API server and the decisions of the simulated kubelet and scheduler, which read the
cache and send no lists of their own.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType

from gpuvitals.stoppable_thread import StoppableThread
from gpuvitals_sim.apiserver import ApiError
from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.client.http import HttpClient, WatchStream

log = logging.getLogger(__name__)

_WATCH_SECONDS = 300.0
_RETRY_SECONDS = 0.2
_JOIN_SECONDS = 15.0
_ABSENT_SECONDS = 5.0


class Informer:
    """The objects of one kind, keyed by (namespace, name), as the server showed them last.

    `on_change(type, object)` is called on the informer's thread with ADDED, MODIFIED or DELETED; after a relist only for
    objects that differ. A broken watch is resumed, an expired one is followed by a list. `fields` is a field selector.
    """

    def __init__(
        self, client: HttpClient, kind: str, on_change: Callable[[str, Obj], None], fields: str = ""
    ) -> None:
        self._client = client
        self._kind = kind
        self._fields = fields
        self._on_change = on_change
        self._objects: Mapping[tuple[str, str], Obj] = MappingProxyType({})
        self._version = ""
        self._lock = threading.Lock()
        self._stream: WatchStream | None = None
        self._synced = threading.Event()
        self._thread = StoppableThread(self._run, name=f"informer {kind}", daemon=False)
        self._stopping = self._thread.stopping

    def start(self) -> None:
        """Starts listing and watching on a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the callbacks, closes the open watch and joins the thread. May be called twice, and before start()."""
        self._stopping.set()
        with self._lock:
            stream = self._stream
        if stream is not None:
            stream.close()
        self._thread.stop(_JOIN_SECONDS)

    def wait_synced(self, timeout_seconds: float) -> bool:
        """Whether the first list is in the cache, after waiting for it."""
        return self._synced.wait(timeout_seconds)

    @property
    def synced(self) -> bool:
        """Whether the first list is in the cache."""
        return self._synced.is_set()

    def all(self) -> tuple[Obj, ...]:
        """The cached objects. They are shared and must not be changed."""
        return tuple(self._objects.values())

    def find(self, namespace: str, name: str) -> Obj | None:
        """One cached object, or None. It is shared and must not be changed."""
        return self._objects.get((namespace, name))

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if self._version:
                    self._watch()
                else:
                    self._list()
            except ApiError as error:
                self._wait_after(error)
        self._client.close()

    def _wait_after(self, error: ApiError) -> None:
        """Waits before the next attempt. A kind that the server does not serve counts as empty."""
        if error.code == HTTPStatus.GONE:
            self._version = ""
            return
        absent = error.code == HTTPStatus.NOT_FOUND
        if absent:
            self._synced.set()
        if not self._stopping.is_set():
            log.debug("informer %s: %s; tried again", self._kind, error)
        self._stopping.wait(_ABSENT_SECONDS if absent else _RETRY_SECONDS)

    def _list(self) -> None:
        items, version = self._client.list_with_version(self._kind, fields=self._fields)
        objects = {_key(item): item for item in items}
        before, self._objects = self._objects, MappingProxyType(objects)
        self._synced.set()
        for key, item in objects.items():
            old = before.get(key)
            if old is None:
                self._notify("ADDED", item)
            elif old["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
                self._notify("MODIFIED", item)
        for key, item in before.items():
            if key not in objects:
                self._notify("DELETED", item)
        self._version = version

    def _watch(self) -> None:
        stream = self._client.watch(
            self._kind, fields=self._fields, resource_version=self._version, timeout_seconds=_WATCH_SECONDS
        )
        with self._lock:
            self._stream = stream
        if self._stopping.is_set():
            stream.close()
        for event in stream:
            if self._stopping.is_set():
                break
            change, item = event["type"], event["object"]
            self._version = str(item["metadata"]["resourceVersion"])
            if change != "BOOKMARK":
                self._apply(change, item)

    def _apply(self, change: str, item: Obj) -> None:
        objects = dict(self._objects)
        if change == "DELETED":
            objects.pop(_key(item), None)
        else:
            objects[_key(item)] = item
        self._objects = MappingProxyType(objects)
        self._notify(change, item)

    def _notify(self, change: str, item: Obj) -> None:
        if not self._stopping.is_set():
            self._on_change(change, item)


def _key(item: Obj) -> tuple[str, str]:
    metadata = item["metadata"]
    return str(metadata.get("namespace", "")), str(metadata["name"])
