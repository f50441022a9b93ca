"""`InProcessClient`: the API without sockets, for controllers that run in the server's process.

Place in the chain: the simulated controllers, the demo and tests use it. Same meaning as over HTTP, with three
differences: no access rules, no injected faults, and no entry in the request log.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gpuvitals_sim.apiserver.api import Api
from gpuvitals_sim.apiserver.client import ApiClient, Objects
from gpuvitals_sim.apiserver.json_types import Obj, clone
from gpuvitals_sim.apiserver.request import (
    APPLY_PATCH,
    MERGE_PATCH,
    DeleteOptions,
    ListOptions,
    Target,
    WatchOptions,
    WriteOptions,
)
from gpuvitals_sim.apiserver.storage import Subscription
from gpuvitals_sim.apiserver.verbs.watching import Watch


class InProcessClient(ApiClient):
    """`ApiClient` over an `Api`, with server-side apply, watches and reads without copies. `name` is its field manager."""

    def __init__(self, api: Api, name: str) -> None:
        self._api = api
        self._options = WriteOptions(field_manager=name, user_agent=name)

    def get(self, kind: str, name: str, namespace: str = "") -> Obj:
        """Of ApiClient."""
        return clone(self._api.get(self._target(kind, namespace, name)))

    def list_with_version(
        self, kind: str, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> tuple[Objects, str]:
        """Of ApiClient."""
        options = ListOptions(label_selector=labels, field_selector=fields)
        found = self._api.list(self._target(kind, namespace), options)
        return clone(found["items"]), found["metadata"]["resourceVersion"]

    def create(self, kind: str, obj: Obj, *, subresource: str = "") -> Obj:
        """Of ApiClient."""
        metadata = obj.get("metadata") or {}
        name = metadata.get("name", "") if subresource else ""
        target = self._target(kind, metadata.get("namespace", ""), name, subresource)
        return clone(self._api.create(target, clone(obj), self._options))

    def update(self, kind: str, obj: Obj, *, subresource: str = "") -> Obj:
        """Of ApiClient."""
        stored, _ = self._api.update(self._target_of(kind, obj, subresource), clone(obj), self._options)
        return clone(stored)

    def patch(
        self,
        kind: str,
        ref: tuple[str, str],
        patch: Any,
        *,
        patch_type: str = MERGE_PATCH,
        subresource: str = "",
    ) -> Obj:
        """Of ApiClient."""
        target = self._target(kind, *ref, subresource)
        stored, _ = self._api.patch(target, patch_type, clone(patch), self._options)
        return clone(stored)

    def apply(self, kind: str, obj: Obj, *, subresource: str = "", force: bool = False) -> Obj:
        """Server-side apply of an object under this client's name."""
        options = WriteOptions(field_manager=self._options.field_manager, force=force)
        target = self._target_of(kind, obj, subresource)
        stored, _ = self._api.patch(target, APPLY_PATCH, clone(obj), options)
        return clone(stored)

    def delete(
        self, kind: str, name: str, namespace: str = "", *, options: DeleteOptions | None = None
    ) -> None:
        """Of ApiClient."""
        self._api.delete(self._target(kind, namespace, name), options or DeleteOptions())

    @contextmanager
    def watch(
        self, kind: str, namespace: str = "", *, resource_version: str = "", bookmarks: bool = False
    ) -> Iterator[Watch]:
        """A running watch, closed at the end of the block. Without a version it begins with the present objects.

        Its events share objects with the store: clone before changing one.
        """
        options = WatchOptions(resource_version=resource_version, bookmarks=bookmarks)
        watch = self._api.watch(self._target(kind, namespace), options)
        try:
            yield watch
        finally:
            watch.close()

    @contextmanager
    def changes(self) -> Iterator[Subscription]:
        """Every change of any kind from now on; closed at the end of the block."""
        subscription = self._api.store.subscribe_all()
        try:
            yield subscription
        finally:
            subscription.close()

    def peek(self, kind: str, namespace: str = "") -> Objects:
        """The stored objects themselves, without copies: clone before changing one."""
        store_id = self._api.catalogue.named(kind).store_id
        return [obj for key, obj in self._api.store.objects(store_id) if namespace in ("", key.namespace)]

    def peek_all(self) -> dict[str, Objects]:
        """As `peek`, for every kind at one moment, by store id."""
        with self._api.store.lock:
            return {kind: self.peek(kind) for kind in self.kinds()}

    def kinds(self, *, namespaced: bool = False) -> tuple[str, ...]:
        """The store ids of the served kinds, each once; with `namespaced` only those of kinds with a namespace."""
        served = (kind for kind in self._api.catalogue.all() if kind.namespaced or not namespaced)
        return tuple(dict.fromkeys(kind.store_id for kind in served))

    def serves(self, kind: str) -> bool:
        """Whether a kind (`devicetaintrules.resource.k8s.io`) is served."""
        return kind in self.kinds()

    def serves_kind(self, api_version: str, name: str) -> bool:
        """Whether a kind, named as in `apiVersion` and `kind` (`v1`, `Node`), is served."""
        return self._api.catalogue.by_name(api_version, name) is not None

    def _target_of(self, kind: str, obj: Obj, subresource: str) -> Target:
        metadata = obj["metadata"]
        return self._target(kind, metadata.get("namespace", ""), metadata["name"], subresource)

    def _target(self, kind: str, namespace: str, name: str = "", subresource: str = "") -> Target:
        found = self._api.catalogue.named(kind)
        scope = namespace if found.namespaced else ""
        return Target(kind=found, namespace=scope, name=name, subresource=subresource)
