"""Cache of the stored slices, filled by answers to own writes, own lists and the watch. Thread safe.

These arrive in any order, so two rules decide. The UID of a deleted object is kept, and no later state of that object is
applied. The watch delivers events in the order of their versions: once it has reached a resourceVersion, an object that is
not in the cache and not newer than that version was deleted, so an answer that arrives late revives nothing.
"""

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from gpuvitals.inventory.pool import Pool
from gpuvitals.kube.resource_version import is_newer
from gpuvitals.kube.slices.codec import (
    ObservedSlice,
    TaintKey,
    observed_slice,
    observed_slices,
    pool_taints,
)
from gpuvitals.kube.slices.plan import PlanContext

_MAX_DELETED = 256


class SliceCache:
    """Stored slices by name, with the facts that outlive them. `taint_times` comes from an earlier process."""

    def __init__(self, annotation: str, taint_times: Mapping[TaintKey, str]) -> None:
        self._annotation = annotation
        self._lock = threading.Lock()
        self._slices: dict[str, ObservedSlice] = {}
        self._deleted: dict[str, None] = {}
        self._version = ""
        """The resourceVersion up to which the watch has reported every event."""
        self._generation = 0
        self._times: dict[TaintKey, str] = dict(taint_times)
        self._accepted: dict[bytes, bytes] = {}
        self._foreign: dict[int, Mapping[str, Any]] = {}

    def view(self) -> tuple[tuple[ObservedSlice, ...], PlanContext]:
        """The slices, and the context of the planner."""
        with self._lock:
            context = PlanContext(
                generation=self._generation,
                taint_times=dict(self._times),
                accepted=dict(self._accepted),
                foreign=dict(self._foreign),
            )
            return tuple(self._slices.values()), context

    def taint_times(self) -> dict[TaintKey, str]:
        """The timeAdded of each taint, to be kept across a restart of the agent."""
        with self._lock:
            return dict(self._times)

    def observe(self, raw: bytes) -> bool:
        """Applies an object of the watch. Returns whether it changes the cache. Raises msgspec.DecodeError."""
        seen = observed_slice(raw, self._annotation)
        with self._lock:
            return self._is_possible(seen) and self._store(seen)

    def observe_delete(self, name: str, uid: str) -> bool:
        """Applies a delete of the watch. Returns whether it changes the cache."""
        with self._lock:
            self._mark_deleted(uid)
            known = self._slices.get(name)
            if known is None or known.uid != uid:
                return False
            del self._slices[name]
            return True

    def observe_version(self, version: str) -> None:
        """Records that the watch has reported every event up to this resourceVersion."""
        with self._lock:
            self._advance(version)

    def record_write(self, raw: bytes) -> ObservedSlice:
        """Applies the answer to an own write. Raises msgspec.DecodeError."""
        answer = observed_slice(raw, self._annotation)
        with self._lock:
            if self._is_possible(answer):
                self._store(answer)
        return answer

    def record_delete(self, target: ObservedSlice) -> None:
        """Applies an own delete."""
        with self._lock:
            self._mark_deleted(target.uid)
            known = self._slices.get(target.name)
            if known is not None and known.uid == target.uid:
                del self._slices[target.name]

    def replace(self, body: bytes) -> tuple[str, ...]:
        """Applies a complete list, read after a lost answer or a conflict.

        Returns the reason of each object that was skipped. Raises msgspec.DecodeError for a body that is no list.
        """
        listed = observed_slices(body, self._annotation)
        self._settle(listed.slices, listed.resource_version)
        return listed.skipped

    def settle(self, raws: Iterable[bytes], version: str, *, rewound: bool) -> bool:
        """Applies all objects that are stored at a resourceVersion. Returns whether they change the cache.

        `rewound`: the server's history went back (a restored backup), so nothing in the cache is newer. The watch has
        counted the objects that cannot be decoded.
        """
        listed = observed_slices(b'{"metadata":{},"items":[%s]}' % b",".join(raws), self._annotation)
        with self._lock:
            before = {entry.name: entry.resource_version for entry in self._slices.values()}
            if rewound:
                self._slices.clear()
                self._deleted.clear()
                self._version = ""
        self._settle(listed.slices, version)
        with self._lock:
            return before != {entry.name: entry.resource_version for entry in self._slices.values()}

    def forget_lifted_taints(self, pool: Pool) -> None:
        """Drops the times of taints that the pool lifts. A device outside the pool keeps its times."""
        wanted = pool_taints(pool)
        with self._lock:
            self._times = {
                key: at for key, at in self._times.items() if key[0] not in wanted or key in wanted[key[0]]
            }

    def accept_difference(self, desired: bytes, stored: bytes) -> bool:
        """Records that the server stores `stored` for `desired`. Returns whether that is new."""
        with self._lock:
            if self._accepted.get(desired) == stored:
                return False
            # Old contents do not matter any more; 16 suffice for the slices of one pool.
            if len(self._accepted) >= 16:
                self._accepted.clear()
            self._accepted[desired] = stored
            return True

    def _settle(self, slices: tuple[ObservedSlice, ...], version: str) -> None:
        names = {entry.name for entry in slices}
        with self._lock:
            if self._version and version and is_newer(self._version, version):
                # The watch is ahead of this list.
                return
            for entry in slices:
                if entry.uid not in self._deleted:
                    self._store(entry)
            for name, known in list(self._slices.items()):
                if name not in names and not is_newer(known.resource_version, version):
                    del self._slices[name]
            self._advance(version)

    def _is_possible(self, seen: ObservedSlice) -> bool:
        """Whether the object may still be stored: no delete of it is known."""
        if seen.uid in self._deleted:
            return False
        known = self._slices.get(seen.name)
        is_known = known is not None and known.uid == seen.uid
        return is_known or not self._version or is_newer(seen.resource_version, self._version)

    def _advance(self, version: str) -> None:
        # Versions that are not decimal have no order.
        if version.isdecimal() and (not self._version or int(version) > int(self._version)):
            self._version = version

    def _mark_deleted(self, uid: str) -> None:
        self._deleted[uid] = None
        while len(self._deleted) > _MAX_DELETED:
            del self._deleted[next(iter(self._deleted))]

    def _store(self, seen: ObservedSlice) -> bool:
        known = self._slices.get(seen.name)
        if known is not None and not is_newer(seen.resource_version, known.resource_version):
            return False
        if known is not None and known.uid != seen.uid:
            self._mark_deleted(known.uid)
        self._slices[seen.name] = seen
        self._generation = max(self._generation, seen.placement.generation)
        if seen.index is not None:
            self._foreign[seen.index] = seen.foreign
        for key, at in seen.taint_times.items():
            # RFC 3339 in UTC with whole seconds sorts as text. The earlier time is the true one.
            self._times[key] = min(at, self._times.get(key, at))
        return True
