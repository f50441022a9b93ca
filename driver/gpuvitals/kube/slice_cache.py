"""What the publisher knows of its stored slices, from its own answers and from the watch. Thread safe.

The watch runs behind the writer's own answers, so an older version never replaces a newer one, and a slice that the
writer deleted does not come back with an event that was on its way.
"""

import threading
from collections.abc import Mapping

from gpuvitals.inventory.pool import Pool
from gpuvitals.kube.slice_codec import (
    ObservedSlice,
    TaintKey,
    observed_slice,
    observed_slices,
    pool_taints,
)
from gpuvitals.kube.slice_plan import Known


class SliceCache:
    """Stored slices by name, and what outlives them. `taint_times` is what an earlier process knew."""

    def __init__(self, annotation: str, taint_times: Mapping[TaintKey, str]) -> None:
        self._annotation = annotation
        self._lock = threading.Lock()
        self._slices: dict[str, ObservedSlice] = {}
        self._deleted: set[str] = set()
        self._generation = 0
        self._times: dict[TaintKey, str] = dict(taint_times)
        self._accepted: dict[bytes, bytes] = {}

    def view(self) -> tuple[tuple[ObservedSlice, ...], Known]:
        """The slices, and what the planner needs besides."""
        with self._lock:
            known = Known(
                generation=self._generation, taint_times=dict(self._times), accepted=dict(self._accepted)
            )
            return tuple(self._slices.values()), known

    def taint_times(self) -> dict[TaintKey, str]:
        """Since when each taint stands, to be kept across a restart of the agent."""
        with self._lock:
            return dict(self._times)

    def watched(self, name: str, raw: bytes | None) -> bool:
        """Takes an event of the watch, None for a delete; False where it is no news. Raises msgspec.DecodeError."""
        if raw is None:
            with self._lock:
                self._deleted.discard(name)
                return self._slices.pop(name, None) is not None
        seen = observed_slice(raw, self._annotation)
        with self._lock:
            return name not in self._deleted and self._remember(seen)

    def stored(self, raw: bytes) -> ObservedSlice:
        """Takes the answer of an own write."""
        answer = observed_slice(raw, self._annotation)
        with self._lock:
            self._remember(answer)
        return answer

    def deleted(self, name: str) -> None:
        """Takes an own delete."""
        with self._lock:
            if self._slices.pop(name, None) is not None:
                self._deleted.add(name)

    def replace(self, body: bytes) -> tuple[str, ...]:
        """Takes a whole list, read because an answer was lost or a conflict showed that the watch is behind.

        What was wrong with each object that had to be skipped. Raises msgspec.DecodeError where it is no list.
        """
        listed = observed_slices(body, self._annotation)
        names = {entry.name for entry in listed.slices}
        with self._lock:
            for entry in listed.slices:
                self._remember(entry)
            for name, entry in list(self._slices.items()):
                if name not in names and not _is_newer(entry.resource_version, listed.resource_version):
                    del self._slices[name]
        return listed.skipped

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

    def _remember(self, seen: ObservedSlice) -> bool:
        known = self._slices.get(seen.name)
        if known is not None and not _is_newer(seen.resource_version, known.resource_version):
            return False
        self._slices[seen.name] = seen
        self._generation = max(self._generation, seen.placement.generation)
        for key, at in seen.taint_times.items():
            # RFC 3339 in UTC with whole seconds sorts as text. The older one is the taint's true age.
            self._times[key] = min(at, self._times.get(key, at))
        return True


def _is_newer(one: str, other: str) -> bool:
    """Whether one resourceVersion comes after another. They are decimal; where they are not, any change counts."""
    if one.isdecimal() and other.isdecimal():
        return int(one) > int(other)
    return one != other
