"""`ApiClient`: the API without sockets, for controllers that run in the server's process.

Place in the chain: the simulated scheduler, kubelet and controllers use it. Same meaning as over HTTP, with
three differences: no access rules, no injected faults, and nothing in the request log. Objects it returns are
the caller's own copies.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gpuvitals_sim.apiserver.api import Api
from gpuvitals_sim.apiserver.errors import ApiError
from gpuvitals_sim.apiserver.json_types import Obj, clone
from gpuvitals_sim.apiserver.request import DeleteOptions, ListOptions, Target, WatchOptions, WriteOptions
from gpuvitals_sim.apiserver.storage import Subscription
from gpuvitals_sim.apiserver.verbs.watching import Watch
from gpuvitals_sim.apiserver.verbs.writing import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH

__all__ = ["APPLY_PATCH", "JSON_PATCH", "MERGE_PATCH", "STRATEGIC_PATCH", "ApiClient", "ApiError"]


Objects = list[Obj]


class ApiClient:
    """Verbs on kinds named as `plural.group` (`resourceslices.resource.k8s.io`, `pods`). Raises ApiError,
    and KeyError for a kind that is not served."""

    def __init__(self, api: Api, name: str) -> None:
        self._api = api
        self._options = WriteOptions(field_manager=name, user_agent=name)

    def get(self, kind: str, name: str, namespace: str = "") -> Obj:
        """The object."""
        return clone(self._api.get(self._target(kind, namespace, name)))

    def find(self, kind: str, name: str, namespace: str = "") -> Obj | None:
        """The object, or None where there is none."""
        try:
            return self.get(kind, name, namespace)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def list(self, kind: str, namespace: str = "", *, labels: str = "", fields: str = "") -> Objects:
        """The matching objects."""
        options = ListOptions(label_selector=labels, field_selector=fields)
        items: Objects = clone(self._api.list(self._target(kind, namespace), options)["items"])
        return items

    def list_with_version(self, kind: str, namespace: str = "") -> tuple[Objects, str]:
        """The objects, and the resourceVersion to watch from."""
        found = self._api.list(self._target(kind, namespace), ListOptions())
        return clone(found["items"]), found["metadata"]["resourceVersion"]

    def create(self, kind: str, obj: Obj, *, subresource: str = "") -> Obj:
        """What was created; kinds with a namespace take it from the object."""
        metadata = obj.get("metadata") or {}
        target = self._target(
            kind, metadata.get("namespace", ""), metadata.get("name", "") if subresource else ""
        )
        return clone(self._api.create(_on(target, subresource), clone(obj), self._options))

    def update(self, kind: str, obj: Obj, *, subresource: str = "") -> Obj:
        """What is stored now; 409 where the object's resourceVersion is not the newest."""
        metadata = obj["metadata"]
        target = self._target(kind, metadata.get("namespace", ""), metadata["name"])
        made, _ = self._api.update(_on(target, subresource), clone(obj), self._options)
        return clone(made)

    def update_status(self, kind: str, obj: Obj) -> Obj:
        """`update` on the status subresource."""
        return self.update(kind, obj, subresource="status")

    def patch(
        self,
        kind: str,
        ref: tuple[str, str],
        patch: Any,
        *,
        patch_type: str = MERGE_PATCH,
        subresource: str = "",
    ) -> Obj:
        """What is stored now; `ref` is (namespace, name), the namespace empty for cluster-scoped kinds."""
        target = _on(self._target(kind, *ref), subresource)
        made, _ = self._api.patch(target, patch_type, clone(patch), self._options)
        return clone(made)

    def apply(self, kind: str, obj: Obj, *, subresource: str = "", force: bool = False) -> Obj:
        """Server-side apply of an object under this client's name."""
        metadata = obj["metadata"]
        target = _on(self._target(kind, metadata.get("namespace", ""), metadata["name"]), subresource)
        options = WriteOptions(field_manager=self._options.field_manager, force=force)
        made, _ = self._api.patch(target, APPLY_PATCH, clone(obj), options)
        return clone(made)

    def delete(
        self, kind: str, name: str, namespace: str = "", *, options: DeleteOptions | None = None
    ) -> bool:
        """Whether the object is gone at once; False where grace or finalizers hold it."""
        _, gone = self._api.delete(self._target(kind, namespace, name), options or DeleteOptions())
        return gone

    def evict(self, namespace: str, name: str) -> None:
        """Ask for the pod's eviction; 429 where a PodDisruptionBudget forbids it."""
        body = {"metadata": {"name": name, "namespace": namespace}}
        self._api.create(_on(self._target("pods", namespace, name), "eviction"), body, self._options)

    def bind(self, namespace: str, name: str, node: str) -> None:
        """Give the pod its node; 409 where it has one."""
        body = {"metadata": {"name": name}, "target": {"kind": "Node", "name": node}}
        self._api.create(_on(self._target("pods", namespace, name), "binding"), body, self._options)

    @contextmanager
    def watch(
        self, kind: str, namespace: str = "", *, resource_version: str = "", bookmarks: bool = False
    ) -> Iterator[Watch]:
        """A running watch, closed at the end of the block. Without a version it begins with what exists.

        Its events share objects with the store: read them, clone before changing.
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
        """The objects themselves, not copies, of the stored version: look, clone before changing."""
        store_id = self._api.catalogue.named(kind).store_id
        return [obj for key, obj in self._api.store.objects(store_id) if namespace in ("", key.namespace)]

    def peek_all(self) -> dict[str, Objects]:
        """As `peek`, for every kind at one moment, by store id."""
        with self._api.store.lock:
            return {kind: self.peek(kind) for kind in self.kinds()}

    def kinds(self, *, namespaced: bool = False) -> tuple[str, ...]:
        """The store ids of the served kinds, each once; only those with a namespace if asked."""
        served = (kind for kind in self._api.catalogue.all() if kind.namespaced or not namespaced)
        return tuple(dict.fromkeys(kind.store_id for kind in served))

    def serves(self, kind: str) -> bool:
        """Whether a kind (`devicetaintrules.resource.k8s.io`) is served."""
        return kind in self.kinds()

    def serves_kind(self, api_version: str, name: str) -> bool:
        """Whether a kind, named as objects name it (`v1`, `Node`), is served."""
        return self._api.catalogue.by_name(api_version, name) is not None

    def _target(self, kind: str, namespace: str, name: str = "") -> Target:
        found = self._api.catalogue.named(kind)
        return Target(kind=found, namespace=namespace if found.namespaced else "", name=name)


def _on(target: Target, subresource: str) -> Target:
    return Target(kind=target.kind, namespace=target.namespace, name=target.name, subresource=subresource)
