"""Watch: the changes of a kind as events, resumed from a revision, filtered, with bookmarks.

Place in the chain: between a store subscription and an HTTP stream (or `InProcessClient.watch`). An object that starts
to match a selector appears as ADDED, one that stops to match as DELETED, as on the real server.
"""

import time
from collections import deque
from collections.abc import Iterator

from gpuvitals_sim.apiserver.errors import ApiError
from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.apiserver.request import Cluster, Target, WatchOptions, parse_revision, served
from gpuvitals_sim.apiserver.selectors import object_matcher
from gpuvitals_sim.apiserver.storage import Change, Subscription

BOOKMARK_SECONDS = 60.0
"""Interval of bookmarks on a quiet watch. Source: kubernetes/apiserver storage/cacher (about a minute)."""

_LAST_BOOKMARK_SECONDS = 2.0
"""Time between the last bookmark of a watch and its timeout."""


class Watch:
    """One running watch. `next()` gives its events; one thread reads, any thread may `close()`."""

    def __init__(
        self,
        cluster: Cluster,
        target: Target,
        options: WatchOptions,
        *,
        bookmark_seconds: float = BOOKMARK_SECONDS,
    ) -> None:
        self._target = target
        self._options = options
        self._matches = object_matcher(target.kind, options.label_selector, options.field_selector)
        self._bookmark_seconds = bookmark_seconds
        now = time.monotonic()
        self._deadline = now + options.timeout_seconds if options.timeout_seconds else None
        self._next_bookmark = now + bookmark_seconds
        if self._deadline is not None and self._deadline - _LAST_BOOKMARK_SECONDS > now:
            self._next_bookmark = min(self._next_bookmark, self._deadline - _LAST_BOOKMARK_SECONDS)
        self._pending: deque[Obj] = deque()
        self._store = cluster.store
        self._subscription: Subscription | None = None
        self._seen = 0
        self._ended = False
        self._open()

    @property
    def ended(self) -> bool:
        """Whether all events have been read."""
        return self._ended and not self._pending

    def next(self, timeout_seconds: float) -> Obj | None:
        """The next event (`{"type": ..., "object": ...}`), or None after the timeout or at the end."""
        give_up = time.monotonic() + timeout_seconds
        while True:
            if self._pending:
                return self._pending.popleft()
            if self._ended or self._subscription is None:
                return None
            now = time.monotonic()
            if self._deadline is not None and now >= self._deadline:
                self._finish()
                continue
            if self._options.bookmarks and now >= self._next_bookmark:
                return self._bookmark()
            wait = (
                min(limit for limit in (give_up, self._deadline, self._next_bookmark) if limit is not None)
                - now
            )
            change = self._subscription.next(max(wait, 0.0))
            if change is not None:
                self._pending.extend(self._events(change))
            elif self._subscription.ended:
                self._ended = True
            elif time.monotonic() >= give_up:
                return None

    def __iter__(self) -> Iterator[Obj]:
        """Events until the watch ends."""
        while not self.ended:
            event = self.next(1.0)
            if event is not None:
                yield event

    def close(self) -> None:
        """Ends the watch; a waiting `next` returns."""
        if self._subscription is not None:
            self._subscription.close()

    def _open(self) -> None:
        store, kind = self._store, self._target.kind
        since = parse_revision(self._options.resource_version)
        with store.lock:
            replay = since == 0 or self._options.send_initial_events
            self._seen = store.revision if replay else since
            try:
                self._subscription = store.subscribe(kind.store_id, since=self._seen)
            except ApiError as refusal:
                self._pending.append({"type": "ERROR", "object": refusal.status()})
                self._ended = True
                return
            present = store.objects(kind.store_id) if replay else []
        for key, obj in present:
            if self._in_scope(key.namespace) and self._is_match(obj):
                self._pending.append({"type": "ADDED", "object": served(kind, obj)})
        if self._options.send_initial_events and self._options.bookmarks:
            self._pending.append(self._bookmark({"k8s.io/initial-events-end": "true"}))

    def _events(self, change: Change) -> Iterator[Obj]:
        self._seen = change.revision
        if not self._in_scope(change.key.namespace):
            return
        was = change.before is not None and self._is_match(change.before)
        now = change.type != "DELETED" and self._is_match(change.after)
        if was and now:
            yield {"type": "MODIFIED", "object": served(self._target.kind, change.after)}
        elif now:
            yield {"type": "ADDED", "object": served(self._target.kind, change.after)}
        elif was and change.before is not None:
            version = str(change.revision)
            last = {**change.before, "metadata": {**change.before["metadata"], "resourceVersion": version}}
            yield {"type": "DELETED", "object": served(self._target.kind, last)}

    def _bookmark(self, annotations: Obj | None = None) -> Obj:
        self._next_bookmark = time.monotonic() + self._bookmark_seconds
        with self._store.lock:
            if self._subscription is not None and self._subscription.idle:
                self._seen = max(self._seen, self._store.revision)
        metadata: Obj = {"resourceVersion": str(self._seen), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        kind = self._target.kind
        return {
            "type": "BOOKMARK",
            "object": {"kind": kind.name, "apiVersion": kind.api_version, "metadata": metadata},
        }

    def _finish(self) -> None:
        self._ended = True
        self.close()

    def _in_scope(self, namespace: str) -> bool:
        return not self._target.namespace or self._target.namespace == namespace

    def _is_match(self, obj: Obj) -> bool:
        if self._target.name and obj["metadata"]["name"] != self._target.name:
            return False
        return self._matches is None or self._matches(obj)
