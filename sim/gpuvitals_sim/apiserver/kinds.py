"""The kinds of this API server as data: names, scope, subresources, and the behaviour of writes.

Place in the chain: the one table of routing, storage, discovery, selectors and tables. To serve another kind, add a
row here; its rules go to `strategy/`, its columns to `representation/printer_columns.py`.

Source: kubernetes/kubernetes pkg/registry/*/strategy.go (update rules), the API's discovery documents (names).
"""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

METADATA_FIELDS = ("metadata.name", "metadata.namespace")

_OBJECT_FIELDS = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
EVENT_FIELDS = (
    *(f"involvedObject.{part}" for part in _OBJECT_FIELDS), "reason", "reportingComponent", "source", "type",
)  # fmt: skip
EVENTS_V1_FIELDS = (
    *(f"regarding.{part}" for part in _OBJECT_FIELDS),
    "reason",
    "reportingController",
    "type",
)

POD_FIELDS = (
    "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
    "status.phase", "status.podIP", "status.nominatedNodeName",
)  # fmt: skip

EVENTS_VIEW: Mapping[str, str] = MappingProxyType({
    "involvedObject": "regarding", "message": "note", "reportingComponent": "reportingController",
    "source": "deprecatedSource", "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp", "count": "deprecatedCount",
})  # fmt: skip
"""Top-level fields of a core event and their names in `events.k8s.io/v1`: two views of one stored object."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kind:
    """One served kind.

    `status`: has a status subresource. `generation`: `metadata.generation` counts spec changes.
    `status_keeps_metadata`: a write to status can't change labels and the like. `unconditional_update`: a PUT
    may omit resourceVersion. `create_on_update`: a PUT may create. `returns_deleted`: DELETE answers with the
    object. `orphans_by_default`: a DELETE without a policy leaves the dependents. `deletes_many`: a whole
    collection can be deleted. `view`: stored field names and their names in this version. `schema` and `columns`: a custom
    resource's openAPIV3Schema and printer columns. Two kinds are equal only if they are the same object.
    """

    group: str = ""
    version: str = "v1"
    plural: str
    name: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    namespaced: bool = True
    status: bool = False
    generation: bool = False
    status_keeps_metadata: bool = False
    unconditional_update: bool = True
    create_on_update: bool = False
    returns_deleted: bool = False
    subresources: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    view: Mapping[str, str] = field(default_factory=dict)
    stored_in: str = ""
    orphans_by_default: bool = False
    deletes_many: bool = True
    custom: bool = False
    schema: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[Mapping[str, Any], ...] = ()
    singular: str = ""
    list_name: str = ""

    @property
    def api_version(self) -> str:
        """`v1`, or `group/version`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def store_id(self) -> str:
        """The key of this kind's objects in the store; versions of one kind share it."""
        return self.stored_in or (f"{self.plural}.{self.group}" if self.group else self.plural)

    @property
    def stored_group(self) -> str:
        """The group of the stored version, which validation errors name."""
        return "" if self.view else self.group

    @property
    def singular_name(self) -> str:
        """The singular name that kubectl accepts."""
        return self.singular or self.name.lower()

    @property
    def list_kind(self) -> str:
        """The kind of a list of these."""
        return self.list_name or f"{self.name}List"

    @property
    def selectable(self) -> tuple[str, ...]:
        """The fields a fieldSelector may name."""
        scoped = (
            METADATA_FIELDS if self.namespaced or not (self.fields or self.custom) else METADATA_FIELDS[:1]
        )
        return scoped + self.fields


_RESOURCE = "resource.k8s.io"

BUILT_IN: tuple[Kind, ...] = (
    Kind(
        plural="nodes", name="Node", short_names=("no",), namespaced=False, status=True,
        fields=("spec.unschedulable",),
    ),
    Kind(
        plural="pods", name="Pod", short_names=("po",), categories=("all",), status=True, generation=True,
        returns_deleted=True, subresources=("eviction", "binding"), fields=POD_FIELDS,
    ),
    Kind(plural="events", name="Event", short_names=("ev",), create_on_update=True, fields=EVENT_FIELDS),
    Kind(
        plural="namespaces", name="Namespace", short_names=("ns",), namespaced=False, status=True,
        returns_deleted=True, subresources=("finalize",), fields=("status.phase",), deletes_many=False,
    ),
    Kind(plural="serviceaccounts", name="ServiceAccount", short_names=("sa",), returns_deleted=True),
    Kind(plural="configmaps", name="ConfigMap", short_names=("cm",)),
    Kind(plural="secrets", name="Secret", fields=("type",)),
    Kind(
        group="events.k8s.io", plural="events", name="Event", short_names=("ev",), create_on_update=True,
        view=EVENTS_VIEW, stored_in="events",
        fields=EVENTS_V1_FIELDS,
    ),
    Kind(
        group="batch", plural="jobs", name="Job", categories=("all",), status=True, generation=True,
        orphans_by_default=True,
        fields=("status.successful",),
    ),
    Kind(
        group="apps", plural="daemonsets", name="DaemonSet", short_names=("ds",), categories=("all",), status=True,
        generation=True,
    ),
    Kind(
        group="apps", plural="replicasets", name="ReplicaSet", short_names=("rs",), categories=("all",), status=True,
        generation=True,
    ),
    Kind(
        group="coordination.k8s.io", plural="leases", name="Lease", unconditional_update=False,
        create_on_update=True,
    ),
    Kind(
        group="policy", plural="poddisruptionbudgets", name="PodDisruptionBudget", short_names=("pdb",),
        status=True, generation=True, unconditional_update=False,
    ),
    Kind(
        group=_RESOURCE, plural="resourceslices", name="ResourceSlice", namespaced=False, generation=True,
        returns_deleted=True, fields=("spec.nodeName", "spec.driver", "spec.pool.name"),
    ),
    Kind(
        group=_RESOURCE, plural="resourceclaims", name="ResourceClaim", status=True, returns_deleted=True,
        status_keeps_metadata=True,
    ),
    Kind(group=_RESOURCE, plural="resourceclaimtemplates", name="ResourceClaimTemplate", returns_deleted=True),
    Kind(
        group=_RESOURCE, plural="deviceclasses", name="DeviceClass", namespaced=False, generation=True,
        returns_deleted=True,
    ),
    Kind(
        group=_RESOURCE, plural="devicetaintrules", name="DeviceTaintRule", namespaced=False, status=True,
        generation=True, status_keeps_metadata=True, unconditional_update=False,
    ),
    Kind(
        group="apiextensions.k8s.io", plural="customresourcedefinitions", name="CustomResourceDefinition",
        short_names=("crd", "crds"), categories=("api-extensions",), namespaced=False, status=True,
        generation=True, unconditional_update=False, status_keeps_metadata=True,
    ),
)  # fmt: skip


class Catalogue:
    """The kinds served right now: the built-in ones, and those that CustomResourceDefinitions add. Thread safe."""

    def __init__(self, *, without: Iterable[str] = ()) -> None:
        dropped = frozenset(without)
        self._lock = threading.Lock()
        self._kinds = {
            (kind.group, kind.version, kind.plural): kind for kind in BUILT_IN if kind.plural not in dropped
        }

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        """The kind served at this path, if any."""
        return self._kinds.get((group, version, plural))

    def serves(self, group: str, version: str) -> bool:
        """Whether any kind of this group and version is served."""
        return any((kind.group, kind.version) == (group, version) for kind in self.all())

    def named(self, store_id: str) -> Kind:
        """The kind called `plural.group` (`pods`, `jobs.batch`). Raises KeyError if it is not served."""
        plural, _, group = store_id.partition(".")
        for kind in self.all():
            if (kind.plural, kind.group) == (plural, group):
                return kind
        raise KeyError(f"kind {store_id!r} is not served")

    def by_name(self, api_version: str, name: str) -> Kind | None:
        """The kind with this `apiVersion` and `kind`."""
        wanted = (kind for kind in self.all() if kind.api_version == api_version and kind.name == name)
        return next(wanted, None)

    def all(self) -> tuple[Kind, ...]:
        """Every served kind, built-in ones first."""
        with self._lock:
            return tuple(self._kinds.values())

    def replace_custom(self, store_id: str, kinds: Iterable[Kind]) -> None:
        """Serves exactly these versions of one custom resource; an empty list removes it."""
        with self._lock:
            kept = {
                key: kind
                for key, kind in self._kinds.items()
                if not (kind.custom and kind.store_id == store_id)
            }
            kept.update({(kind.group, kind.version, kind.plural): kind for kind in kinds})
            self._kinds = kept
