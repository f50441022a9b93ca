"""The API itself, without HTTP: the verbs on one store, with Kubernetes' meaning.

Place in the chain: `http/` translates requests into these calls; `InProcessClient` calls them directly. Every method
is thread safe. Objects returned are shared with the store: clone before changing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gpuvitals_sim.apiserver.errors import ApiError, method_not_allowed
from gpuvitals_sim.apiserver.json_types import Obj, dig
from gpuvitals_sim.apiserver.kinds import Catalogue
from gpuvitals_sim.apiserver.request import (
    Cluster,
    DeleteOptions,
    ListOptions,
    Target,
    WatchOptions,
    WriteOptions,
)
from gpuvitals_sim.apiserver.storage import Store
from gpuvitals_sim.apiserver.verbs import deleting, reading, subresources, writing
from gpuvitals_sim.apiserver.verbs.custom_resources import CRD_STORE, settle
from gpuvitals_sim.apiserver.verbs.watching import BOOKMARK_SECONDS, Watch

FIRST_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """Deviations from an ordinary server.

    `without`: plurals that are not served (`devicetaintrules` before Kubernetes 1.37). `bookmark_seconds`: interval of
    bookmarks on a quiet watch. `cel_checker`: returns the error of a CEL selector of a claim, template or class (the text
    behind `Invalid value: "...": `), or None; without a checker every selector is accepted.
    """

    without: tuple[str, ...] = ()
    bookmark_seconds: float = BOOKMARK_SECONDS
    cel_checker: Callable[[str], str | None] | None = None


class Api:
    """One cluster's API. `store` holds the objects, `catalogue` the served kinds."""

    def __init__(self, settings: ApiSettings | None = None) -> None:
        chosen = settings or ApiSettings()
        self.store = Store()
        self.catalogue = Catalogue(without=chosen.without)
        self._cluster = Cluster(store=self.store, catalogue=self.catalogue, cel_checker=chosen.cel_checker)
        self._bookmark_seconds = chosen.bookmark_seconds
        namespaces = self.catalogue.named("namespaces")
        for name in FIRST_NAMESPACES:
            body = {"metadata": {"name": name}}
            self.create(Target(kind=namespaces), body, WriteOptions(user_agent="kube-apiserver"))

    def get(self, target: Target) -> Obj:
        """The object. Raises ApiError 404."""
        return reading.get(self._cluster, target)

    def list(self, target: Target, options: ListOptions) -> Obj:
        """A List object, with a continue token if `limit` cut it."""
        return reading.list_objects(self._cluster, target, options)

    def watch(self, target: Target, options: WatchOptions) -> Watch:
        """A running watch; close it."""
        return Watch(self._cluster, target, options, bookmark_seconds=self._bookmark_seconds)

    def create(self, target: Target, body: Obj, options: WriteOptions) -> Obj:
        """The created object; for the subresources eviction and binding, a Success status."""
        match target.subresource:
            case "":
                made = writing.create(self._cluster, target, body, options)
                self._settle(target, made["metadata"]["name"], options.dry_run)
                return made
            case "eviction":
                return subresources.evict(self._cluster, target, body, _eviction_options(body, options))
            case "binding":
                return subresources.bind(self._cluster, target, body, dry_run=options.dry_run)
            case _:
                raise method_not_allowed(target.kind.group, target.kind.plural, "create")

    def update(self, target: Target, body: Obj, options: WriteOptions) -> tuple[Obj, bool]:
        """The stored object, and whether it was created."""
        if target.subresource == "finalize":
            return subresources.finalize_namespace(self._cluster, target, body), False
        result = writing.update(self._cluster, target, body, options)
        self._settle(target, target.name, options.dry_run)
        return result

    def patch(self, target: Target, patch_type: str, body: Any, options: WriteOptions) -> tuple[Obj, bool]:
        """The stored object, and whether an apply created it."""
        result = writing.patch(self._cluster, target, patch_type, body, options)
        self._settle(target, target.name, options.dry_run)
        return result

    def delete(self, target: Target, options: DeleteOptions) -> tuple[Obj, bool]:
        """The answer of DELETE, and whether the object is removed already."""
        result = deleting.delete(self._cluster, target, options)
        self._settle(target, target.name, options.dry_run)
        return result

    def delete_collection(self, target: Target, selection: ListOptions, options: DeleteOptions) -> Obj:
        """The list of the objects whose deletion was requested."""
        chosen, items = deleting.delete_collection(self._cluster, target, selection, options)
        for item in items:
            self._settle(target, item["metadata"]["name"], options.dry_run)
        return chosen

    def drop_fields(self, plural_group: str, *paths: str) -> None:
        """Drops these fields silently on every write, as a server with a disabled feature gate does; no paths ends it.

        `drop_fields("resourceslices.resource.k8s.io", "spec.devices[].taints")` behaves as Kubernetes 1.34.
        """
        self._cluster.dropped[plural_group] = tuple(tuple(path.split(".")) for path in paths)

    def _settle(self, target: Target, name: str, dry_run: bool) -> None:
        if target.kind.store_id == CRD_STORE and not dry_run:
            settle(self._cluster, name)


def _eviction_options(body: Obj, options: WriteOptions) -> DeleteOptions:
    wanted = dig(body, "deleteOptions") or {}
    if not isinstance(wanted, dict):
        raise ApiError(400, "BadRequest", "deleteOptions must be an object")
    return delete_options(wanted, dry_run=options.dry_run)


def delete_options(body: Obj, *, dry_run: bool = False) -> DeleteOptions:
    """The options that a `DeleteOptions` object asks for."""
    preconditions = body.get("preconditions") or {}
    propagation = body.get("propagationPolicy") or ""
    if not propagation and "orphanDependents" in body:
        propagation = "Orphan" if body["orphanDependents"] else "Background"
    return DeleteOptions(
        grace_seconds=body.get("gracePeriodSeconds"),
        propagation=propagation,
        uid=preconditions.get("uid") or "",
        resource_version=preconditions.get("resourceVersion") or "",
        dry_run=dry_run or "All" in (body.get("dryRun") or ()),
    )
