"""What the publisher knows of its stored slices, from its own answers, its own lists and the watch. Thread safe.

These arrive in any order. Two rules settle it. A deleted object is remembered by its UID, and no later state of it is
taken. And the watch delivers events in the order of history: once it has reached a resourceVersion, an object that is not
known here and is not newer than that place was deleted, so an answer that arrives late revives nothing.
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
    """Stored slices by name, and what outlives them. `taint_times` is what an earlier process knew."""

    def __init__(self, annotation: str, taint_times: Mapping[TaintKey, str]) -> None:
        self._annotation = annotation
        self._lock = threading.Lock()
        self._slices: dict[str, ObservedSlice] = {}
        self._deleted: dict[str, None] = {}
        self._place = ""
        self._generation = 0
        self._times: dict[TaintKey, str] = dict(taint_times)
        self._accepted: dict[bytes, bytes] = {}
        self._foreign: dict[int, Mapping[str, Any]] = {}

    def view(self) -> tuple[tuple[ObservedSlice, ...], PlanContext]:
        """The slices, and what the planner needs besides."""
        with self._lock:
            known = PlanContext(
                generation=self._generation,
                taint_times=dict(self._times),
                accepted=dict(self._accepted),
                foreign=dict(self._foreign),
            )
            return tuple(self._slices.values()), known

    def taint_times(self) -> dict[TaintKey, str]:
        """Since when each taint stands, to be kept across a restart of the agent."""
        with self._lock:
            return dict(self._times)

    def watched(self, raw: bytes) -> bool:
        """Takes an object that the watch shows; False where it is no news. Raises msgspec.DecodeError."""
        seen = observed_slice(raw, self._annotation)
        with self._lock:
            return self._is_possible(seen) and self._remember(seen)

    def gone(self, name: str, uid: str) -> bool:
        """Takes a delete that the watch shows; False where it is no news."""
        with self._lock:
            self._bury(uid)
            known = self._slices.get(name)
            if known is None or known.uid != uid:
                return False
            del self._slices[name]
            return True

    def reached(self, place: str) -> None:
        """Takes it that the watch has told everything up to this resourceVersion."""
        with self._lock:
            self._reach(place)

    def stored(self, raw: bytes) -> ObservedSlice:
        """Takes the answer of an own write."""
        answer = observed_slice(raw, self._annotation)
        with self._lock:
            if self._is_possible(answer):
                self._remember(answer)
        return answer

    def deleted(self, target: ObservedSlice) -> None:
        """Takes an own delete."""
        with self._lock:
            self._bury(target.uid)
            known = self._slices.get(target.name)
            if known is not None and known.uid == target.uid:
                del self._slices[target.name]

    def replace(self, body: bytes) -> tuple[str, ...]:
        """Takes a whole list, read because an answer was lost or a conflict showed that the watch is behind.

        What was wrong with each object that had to be skipped. Raises msgspec.DecodeError where it is no list.
        """
        listed = observed_slices(body, self._annotation)
        self._settle(listed.slices, listed.resource_version)
        return listed.skipped

    def settle(self, raws: Iterable[bytes], place: str, *, rewound: bool) -> bool:
        """Takes everything that is stored at `place`, as the watch's thread has read it; False where it is no news.

        `rewound`: the server's history went back (a restored backup), so nothing known is newer. What can't be decoded
        was counted before.
        """
        listed = observed_slices(b'{"metadata":{},"items":[%s]}' % b",".join(raws), self._annotation)
        with self._lock:
            before = {entry.name: entry.resource_version for entry in self._slices.values()}
            if rewound:
                self._slices.clear()
                self._deleted.clear()
                self._place = ""
        self._settle(listed.slices, place)
        with self._lock:
            return before != {entry.name: entry.resource_version for entry in self._slices.values()}

    def expect(self, pool: Pool) -> None:
        """Forgets the times of taints that the pool lifts. A device that the pool does not name keeps its own."""
        wanted = pool_taints(pool)
        with self._lock:
            self._times = {
                key: at for key, at in self._times.items() if key[0] not in wanted or key in wanted[key[0]]
            }

    def accept(self, desired: bytes, stored: bytes) -> bool:
        """Takes it that the server makes `stored` of `desired`; False where that was known."""
        with self._lock:
            if self._accepted.get(desired) == stored:
                return False
            # Only what is desired now can matter; a few are kept for the slices of one pool.
            if len(self._accepted) >= 16:
                self._accepted.clear()
            self._accepted[desired] = stored
            return True

    def _settle(self, slices: tuple[ObservedSlice, ...], place: str) -> None:
        names = {entry.name for entry in slices}
        with self._lock:
            if self._place and place and is_newer(self._place, place):
                # The watch has told more than this list holds.
                return
            for entry in slices:
                if entry.uid not in self._deleted:
                    self._remember(entry)
            for name, known in list(self._slices.items()):
                if name not in names and not is_newer(known.resource_version, place):
                    del self._slices[name]
            self._reach(place)

    def _is_possible(self, seen: ObservedSlice) -> bool:
        """Whether the object may still be stored: it was not deleted, as far as deletes are known here."""
        if seen.uid in self._deleted:
            return False
        known = self._slices.get(seen.name)
        is_known = known is not None and known.uid == seen.uid
        return is_known or not self._place or is_newer(seen.resource_version, self._place)

    def _reach(self, place: str) -> None:
        # Only places that can be compared tell which of two was first.
        if place.isdecimal() and (not self._place or int(place) > int(self._place)):
            self._place = place

    def _bury(self, uid: str) -> None:
        self._deleted[uid] = None
        while len(self._deleted) > _MAX_DELETED:
            del self._deleted[next(iter(self._deleted))]

    def _remember(self, seen: ObservedSlice) -> bool:
        known = self._slices.get(seen.name)
        if known is not None and not is_newer(seen.resource_version, known.resource_version):
            return False
        if known is not None and known.uid != seen.uid:
            self._bury(known.uid)
        self._slices[seen.name] = seen
        self._generation = max(self._generation, seen.placement.generation)
        if seen.index is not None:
            self._foreign[seen.index] = seen.foreign
        for key, at in seen.taint_times.items():
            # RFC 3339 in UTC with whole seconds sorts as text. The older one is the taint's true age.
            self._times[key] = min(at, self._times.get(key, at))
        return True
