"""Applies the watch of the own slices to the cache, and requests a comparison after each difference."""

from collections.abc import Sequence

from gpuvitals.kube.reflector_ports import ObjectKey, ReflectorHooks
from gpuvitals.kube.slices.cache import SliceCache
from gpuvitals.kube.slices.publish_state import PublishState
from gpuvitals.kube.slices.taint_support import TaintSupport


class SliceWatchHooks(ReflectorHooks):
    """The hooks of the reflector of the own slices."""

    def __init__(self, cache: SliceCache, taint_support: TaintSupport, state: PublishState) -> None:
        self._cache = cache
        self._taint_support = taint_support
        self._state = state

    def changed(self, key: ObjectKey, raw: bytes | None) -> None:
        """Applies a new object. Deletes are applied by `deleted`, which has the UID."""
        if raw is not None and self._cache.observe(raw):
            self._state.stored_changed()

    def is_urgent(self) -> bool:
        """True: nothing is written before the first list."""
        return True

    def rejoined(self) -> None:
        """Doubts the answer about taints: the server may be another one now."""
        self._taint_support.doubt()
        self._state.stored_changed()

    def deleted(self, key: ObjectKey, uid: str) -> None:
        """Applies a delete."""
        if self._cache.observe_delete(key[1], uid):
            self._state.stored_changed()

    def reached(self, resource_version: str) -> None:
        """Records the progress of the watch."""
        self._cache.observe_version(resource_version)

    def settled(self, objects: Sequence[bytes], resource_version: str, *, rewound: bool) -> None:
        """Applies the complete content of the collection."""
        if self._cache.settle(objects, resource_version, rewound=rewound):
            self._state.stored_changed()
