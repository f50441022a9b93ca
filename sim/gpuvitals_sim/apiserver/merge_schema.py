"""Merge rules of the lists and maps of each kind: as one value, as a set, or item by item under a key.

Place in the chain: strategic merge patch and server-side apply read them. A list that is not named here is atomic
(replaced as a whole), a map is merged field by field. `map:uid` merges items by that key for server-side apply;
`patch:uid` is the key of strategic merge, which sometimes differs; `open` is a map whose keys are data (labels),
`whole` a map that is one value. `zero:` is the value of an unset field that Go always writes; it matters for
managedFields.

Source: kubernetes/kubernetes api/openapi-spec/swagger.json, version 1.37 (x-kubernetes-list-type,
x-kubernetes-list-map-keys, x-kubernetes-patch-merge-key, x-kubernetes-map-type).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from gpuvitals_sim.apiserver.json_types import clone
from gpuvitals_sim.apiserver.kinds import Kind


@dataclass(slots=True)
class MergeSchema:
    """The merge rule of the value at one path; built once and never changed afterwards."""

    list_type: str = "atomic"
    keys: tuple[str, ...] = ()
    merge_key: str = ""
    merges: bool = False
    whole: bool = False
    open: bool = False
    fields: dict[str, "MergeSchema"] = field(default_factory=dict)
    item: "MergeSchema | None" = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    zero: Any = None
    has_zero: bool = False

    def child(self, name: str) -> "MergeSchema":
        """The schema of a field or, in an open map, of the value under any key."""
        found = self.fields.get(name) or self.fields.get("*")
        return found or (_UNKNOWN if self.open else _PLAIN)

    def is_field(self, name: str) -> bool:
        """Whether the name is a field of the type; keys of open maps are not."""
        return name in self.fields or not self.open

    @property
    def items(self) -> "MergeSchema":
        """The schema of one item of this list."""
        return self.item or _PLAIN


_PLAIN = MergeSchema()
_UNKNOWN = MergeSchema(open=True)

_METADATA = (
    "metadata zero:{}",
    "spec zero:{}",
    "metadata.labels open",
    "metadata.annotations open",
    "metadata.finalizers set patch:",
    "metadata.ownerReferences map:uid patch:uid",
    "metadata.ownerReferences[] whole",
)
_STATUS = "status zero:{}"
_CONDITIONS = "status.conditions map:type patch:type"

_CONTAINER = (
    " map:name patch:name",
    "[].env map:name patch:name",
    "[].env[].valueFrom.configMapKeyRef whole",
    "[].env[].valueFrom.fieldRef whole",
    "[].env[].valueFrom.resourceFieldRef whole",
    "[].env[].valueFrom.secretKeyRef whole",
    "[].ports map:containerPort,protocol patch:containerPort default:protocol=TCP",
    "[].resources.claims map:name",
    "[].resources.limits open",
    "[].resources.requests open",
    "[].volumeDevices map:devicePath patch:devicePath",
    "[].volumeMounts map:mountPath patch:mountPath",
)
_POD_SPEC = (
    *(f"containers{row}" for row in _CONTAINER),
    *(f"initContainers{row}" for row in _CONTAINER),
    *(f"ephemeralContainers{row}" for row in _CONTAINER),
    "containers zero:null",
    "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution whole",
    "hostAliases map:ip patch:ip",
    "imagePullSecrets map:name patch:name",
    "imagePullSecrets[] whole",
    "nodeSelector whole",
    "overhead open",
    "resourceClaims map:name patch:name",
    "schedulingGates map:name patch:name",
    "topologySpreadConstraints map:topologyKey,whenUnsatisfiable patch:topologyKey",
    "volumes map:name patch:name",
)
_TEMPLATE = (
    "template zero:{}",
    "template.metadata zero:{}",
    "template.spec zero:{}",
    "template.metadata.labels open",
    "template.metadata.annotations open",
    *(f"template.spec.{row}" for row in _POD_SPEC),
)

NODE_INFO = (
    "machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion",
    "kubeProxyVersion", "operatingSystem", "architecture",
)  # fmt: skip
"""Fields of a node's status that are always present, also when empty."""
_EVENT_TIMES = (
    "eventTime", "firstTimestamp", "lastTimestamp", "deprecatedFirstTimestamp", "deprecatedLastTimestamp",
)  # fmt: skip
_ROWS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "nodes": (
        _CONDITIONS, "spec.podCIDRs set patch:", "status.addresses map:type patch:type",
        "status.allocatable open", "status.capacity open", _STATUS,
        *(f'status.nodeInfo.{name} zero:""' for name in NODE_INFO), "status.daemonEndpoints.kubeletEndpoint.Port zero:0",
    ),
    "pods": (
        *(f"spec.{row}" for row in _POD_SPEC), _CONDITIONS, _STATUS, "status.podIPs map:ip patch:ip",
        "status.hostIPs patch:ip", "status.resourceClaimStatuses map:name patch:name",
    ),
    "events": (
        "involvedObject whole zero:{}", "related whole", "regarding whole zero:{}", "source zero:{}",
        "deprecatedSource zero:{}", 'reportingComponent zero:""', 'reportingInstance zero:""',
        *(f"{name} zero:null" for name in _EVENT_TIMES),
    ),
    "namespaces": (_CONDITIONS, _STATUS),
    "serviceaccounts": ("secrets map:name patch:name", "secrets[] whole"),
    "configmaps": ("data open", "binaryData open"),
    "secrets": ("data open", "stringData open"),
    "jobs.batch": (
        *(f"spec.{row}" for row in _TEMPLATE), "spec.selector whole", "status.conditions patch:type", _STATUS,
        "status.uncountedTerminatedPods.failed set", "status.uncountedTerminatedPods.succeeded set",
    ),
    "daemonsets.apps": (
        *(f"spec.{row}" for row in _TEMPLATE), "spec.selector whole", _CONDITIONS, _STATUS, "spec.updateStrategy zero:{}",
        "spec.selector zero:null",
    ),
    "replicasets.apps": (*(f"spec.{row}" for row in _TEMPLATE), "spec.selector whole", _CONDITIONS, _STATUS, "spec.selector zero:null"),
    "leases.coordination.k8s.io": (),
    "poddisruptionbudgets.policy": (_CONDITIONS, _STATUS, "spec.selector whole", "status.disruptedPods open"),
    "resourceslices.resource.k8s.io": (
        "spec.nodeSelector whole", "spec.skipNodeOperations set", "spec.pool zero:{}",
    ),
    "resourceclaims.resource.k8s.io": (
        "status.allocation.nodeSelector whole", "status.devices map:driver,device,pool,shareID",
        "status.devices[].conditions map:type", "status.devices[].data whole",
        _STATUS, "spec.devices zero:{}", "spec.devices.requests zero:null",
        "status.reservedFor map:uid patch:uid",
    ),
    "resourceclaimtemplates.resource.k8s.io": (
        "spec.metadata.labels open", "spec.metadata.annotations open", "spec.spec zero:{}", "spec.spec.devices zero:{}", "spec.spec.devices.requests zero:null",
        "spec.metadata zero:{}",
    ),
    "deviceclasses.resource.k8s.io": (),
    "devicetaintrules.resource.k8s.io": (_CONDITIONS, _STATUS, "spec.taint zero:{}"),
    "customresourcedefinitions.apiextensions.k8s.io": (
        "status.conditions map:type", _STATUS, "spec.names zero:{}", "status.acceptedNames zero:{}",
        "status.conditions zero:null", "status.storedVersions zero:null", "spec.versions zero:null",
    ),
})  # fmt: skip


@lru_cache(maxsize=256)
def merge_schema_of(kind: Kind) -> MergeSchema:
    """The schema of a kind's objects; a custom resource's comes from its `openAPIV3Schema`."""
    if not kind.custom:
        return _compiled((*_METADATA, *_ROWS.get(kind.store_id, ())))
    schema = _from_schema(kind.schema)
    schema.fields["metadata"] = _compiled(_METADATA).fields["metadata"]
    return schema


def empty_object(schema: MergeSchema) -> Any:
    """An object of this schema without any set field."""
    parts = {name: empty_object(child) for name, child in schema.fields.items() if _is_always_there(child)}
    return parts or clone(schema.zero) if schema.has_zero else parts


def _is_always_there(schema: MergeSchema) -> bool:
    return schema.has_zero or any(map(_is_always_there, schema.fields.values()))


def _compiled(rows: Iterable[str]) -> MergeSchema:
    root = MergeSchema()
    for row in rows:
        path, *words = row.split(" ")
        node = root
        for step in path.split("."):
            name = step.removesuffix("[]")
            node = node.fields.setdefault(name, MergeSchema())
            if step.endswith("[]"):
                node.item = node.item or MergeSchema()
                node = node.item
        _describe(node, words)
    return root


def _describe(node: MergeSchema, words: Iterable[str]) -> None:
    for word in words:
        name, _, rest = word.partition(":")
        if name == "map":
            node.list_type, node.keys = "map", tuple(rest.split(","))
        elif name == "set":
            node.list_type = "set"
        elif name == "patch":
            node.merges, node.merge_key = True, rest
        elif name == "default":
            node.defaults = dict([rest.split("=")])
        elif name == "zero":
            node.has_zero, node.zero = True, json.loads(rest)
        elif name == "open":
            node.open = True
        elif name == "whole":
            node.whole = True


def _from_schema(schema: Mapping[str, Any]) -> MergeSchema:
    additional = schema.get("additionalProperties")
    properties = schema.get("properties") or {}
    fields = {name: _from_schema(part) for name, part in properties.items()}
    if isinstance(additional, dict):
        fields["*"] = _from_schema(additional)
    items = schema.get("items")
    return MergeSchema(
        list_type=schema.get("x-kubernetes-list-type", "atomic"),
        keys=tuple(schema.get("x-kubernetes-list-map-keys", ())),
        whole=schema.get("x-kubernetes-map-type") == "atomic",
        open=bool(additional) or bool(schema.get("x-kubernetes-preserve-unknown-fields")),
        fields=fields,
        item=_from_schema(items) if isinstance(items, dict) else None,
        defaults={
            name: part["default"]
            for name, part in ((items or {}).get("properties") or {}).items()
            if "default" in part
        },
    )
