"""The store: every object at its newest version, and the recent history of changes, under one lock.

Place in the chain: beneath the verbs. It has keys, revisions and events, and no rules for kinds, names or validity,
like etcd under the real API server. Every change gets the next revision of one global counter. Stored objects are
frozen by convention: clone one before changing it.

A write holds `lock` from its read to its commit, so two writers never see the same version.
"""

import queue
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from gpuvitals_sim.apiserver.errors import expired
from gpuvitals_sim.apiserver.json_types import Obj


class Key(NamedTuple):
    """The key of one object; `namespace` is empty for cluster-scoped kinds."""

    store_id: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One committed change. `before` is None for ADDED; for DELETED `after` is the object as it last was."""

    revision: int
    type: Literal["ADDED", "MODIFIED", "DELETED"]
    key: Key
    before: Obj | None
    after: Obj


class Subscription:
    """A queue of the changes of one kind, from a revision on. Ends when closed or compacted away."""

    def __init__(self, store_id: str, close: Callable[["Subscription"], None]) -> None:
        self.store_id = store_id
        self._queue: queue.SimpleQueue[Change | None] = queue.SimpleQueue()
        self._close = close
        self.ended = False

    @property
    def idle(self) -> bool:
        """Whether every committed change has been taken (meaningful while the store's lock is held)."""
        return self._queue.empty() and not self.ended

    def next(self, timeout_seconds: float) -> Change | None:
        """The next change, or None after the timeout or at the end (then `ended` is true)."""
        if self.ended:
            return None
        try:
            change = self._queue.get(timeout=timeout_seconds)
        except queue.Empty:
            return None
        if change is None:
            self.ended = True
        return change

    def push(self, changes: Iterable[Change | None]) -> None:
        """Queues changes in order; None ends the subscription after those before it. Called by the store."""
        for change in changes:
            self._queue.put(change)

    def close(self) -> None:
        """Ends the subscription; a waiting `next` returns."""
        self._close(self)


class Store:
    """Objects by key, with history. Thread safe; take `lock` around a read and the write that depends on it."""

    def __init__(self, *, history: int = 20_000) -> None:
        self.lock = threading.RLock()
        self._history = history
        self._revision = 1
        self._objects: dict[str, dict[tuple[str, str], Obj]] = {}
        self._log: dict[str, list[Change]] = {}
        self._compacted: dict[str, int] = {}
        self._compacted_all = 0
        self._subscriptions: set[Subscription] = set()

    @property
    def revision(self) -> int:
        """The revision of the newest change."""
        return self._revision

    def get(self, key: Key) -> Obj | None:
        """The object as it is now, or None."""
        with self.lock:
            return self._objects.get(key.store_id, {}).get((key.namespace, key.name))

    def objects(self, store_id: str, *, revision: int | None = None) -> list[tuple[Key, Obj]]:
        """Every object of a kind ordered by namespace and name, now or as of a revision.

        Raises ApiError 410 if the history of that revision is compacted away.
        """
        with self.lock:
            objects = dict(self._objects.get(store_id, {}))
            if revision is not None and revision < self._revision:
                for change in reversed(self._since(store_id, revision)):
                    place = (change.key.namespace, change.key.name)
                    if change.before is None:
                        objects.pop(place, None)
                    else:
                        objects[place] = change.before
        return [(Key(store_id, *place), objects[place]) for place in sorted(objects)]

    def put(self, key: Key, obj: Obj) -> Obj:
        """Stores the object under the next revision. Returns the stored object."""
        with self.lock:
            before = self.get(key)
            self._revision += 1
            stored = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self._revision)}}
            self._objects.setdefault(key.store_id, {})[(key.namespace, key.name)] = stored
            self._commit(key, "MODIFIED" if before is not None else "ADDED", before, stored)
            return stored

    def delete(self, key: Key) -> Obj:
        """Removes the object and returns its last version; watchers get it with the revision of the deletion."""
        with self.lock:
            before = self._objects[key.store_id].pop((key.namespace, key.name))
            self._revision += 1
            last = {**before, "metadata": {**before["metadata"], "resourceVersion": str(self._revision)}}
            self._commit(key, "DELETED", before, last)
            return before

    def subscribe(self, store_id: str, *, since: int) -> Subscription:
        """The changes of a kind after a revision. Raises ApiError 410 if they are compacted away."""
        with self.lock:
            subscription = Subscription(store_id, self._unsubscribe)
            subscription.push(self._since(store_id, since))
            self._subscriptions.add(subscription)
            return subscription

    def subscribe_all(self) -> Subscription:
        """The changes of every kind from now on; `close_subscriptions` of one kind leaves it open."""
        with self.lock:
            subscription = Subscription("", self._unsubscribe)
            self._subscriptions.add(subscription)
            return subscription

    def compact(self) -> None:
        """Drops the history: older resume points and continue tokens become 410 Gone."""
        with self.lock:
            self._revision += 1
            self._log.clear()
            self._compacted.clear()
            self._compacted_all = self._revision

    def close_subscriptions(self, store_id: str = "") -> int:
        """Ends the subscriptions of one kind, or of each kind; returns their number. Those to all kinds continue."""
        with self.lock:
            kinds = [item for item in self._subscriptions if item.store_id]
            chosen = [item for item in kinds if store_id in ("", item.store_id)]
        for subscription in chosen:
            subscription.close()
        return len(chosen)

    def _commit(
        self, key: Key, kind: Literal["ADDED", "MODIFIED", "DELETED"], before: Obj | None, after: Obj
    ) -> None:
        change = Change(revision=self._revision, type=kind, key=key, before=before, after=after)
        log = self._log.setdefault(key.store_id, [])
        log.append(change)
        if len(log) > 2 * self._history:
            self._compacted[key.store_id] = log[self._history - 1].revision
            del log[: self._history]
        for subscription in self._subscriptions:
            if subscription.store_id in ("", key.store_id):
                subscription.push((change,))

    def _since(self, store_id: str, revision: int) -> list[Change]:
        oldest = max(self._compacted_all, self._compacted.get(store_id, 0))
        if revision < oldest:
            raise expired(f"too old resource version: {revision} ({oldest})")
        log = self._log.get(store_id, [])
        return log[bisect_right(log, revision, key=lambda change: change.revision) :]

    def _unsubscribe(self, subscription: Subscription) -> None:
        with self.lock:
            self._subscriptions.discard(subscription)
            subscription.push((None,))
