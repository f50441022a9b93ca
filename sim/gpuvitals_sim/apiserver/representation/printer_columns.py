"""The printer columns of the built-in kinds, as shown by `kubectl get`.

Place in the chain: `tables.py` reads them. A column is a name and a cell from an object; `wide` ones appear
with `-o wide`. Source: kubernetes/kubernetes pkg/printers/internalversion/printers.go.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gpuvitals_sim.apiserver.json_types import Obj, dig, parse_time
from gpuvitals_sim.apiserver.representation.durations import UNKNOWN, age, human
from gpuvitals_sim.apiserver.representation.pod_columns import pod_ready, pod_restarts, pod_status

Cell = Callable[[Obj], Any]
_NONE = "<none>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column. `type` is string or integer; `wide` ones have priority 1."""

    name: str
    cell: Cell
    type: str = "string"
    format: str = ""
    wide: bool = False
    description: str = ""

    def definition(self) -> Obj:
        """As a Table describes it."""
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description,
            "priority": int(self.wide),
        }


def columns_for(store_id: str) -> tuple[Column, ...]:
    """The columns of a built-in kind; name and age by default."""
    return _COLUMNS.get(store_id, (NAME, AGE))


def _column(name: str, cell: Cell, *, type: str = "string", wide: bool = False) -> Column:
    return Column(name=name, cell=cell, type=type, wide=wide)


def _text(*path: str, empty: str = "") -> Cell:
    return lambda obj: dig(obj, *path) or empty


def _number(*path: str) -> Cell:
    return lambda obj: int(dig(obj, *path) or 0)


def _node_status(node: Obj) -> str:
    conditions = dig(node, "status", "conditions") or []
    ready = next((entry for entry in conditions if entry.get("type") == "Ready"), None)
    words = ["Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"]
    if dig(node, "spec", "unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _node_roles(node: Obj) -> str:
    prefix = "node-role.kubernetes.io/"
    labels = dig(node, "metadata", "labels") or {}
    roles = sorted(key.removeprefix(prefix) for key in labels if key.startswith(prefix) and key != prefix)
    return ",".join(roles) or _NONE


def _node_address(kind: str) -> Cell:
    def cell(node: Obj) -> str:
        found = [
            entry["address"] for entry in dig(node, "status", "addresses") or () if entry["type"] == kind
        ]
        return found[0] if found else _NONE

    return cell


def _kernel(node: Obj) -> str:
    info = dig(node, "status", "nodeInfo") or {}
    kernel = info.get("kernelVersion") or UNKNOWN
    return f"{kernel} ({info['architecture']})" if info.get("architecture") else kernel


def _event_last_seen(event: Obj) -> str:
    moment = dig(event, "series", "lastObservedTime") or event.get("lastTimestamp")
    return age(moment) if moment else _event_first_seen(event)


def _event_first_seen(event: Obj) -> str:
    return age(event.get("firstTimestamp") or event.get("eventTime"))


def _event_object(event: Obj) -> str:
    about = event.get("involvedObject") or event.get("regarding") or {}
    kind = (about.get("kind") or "").lower()
    return f"{kind}/{about['name']}" if about.get("name") else kind


def _event_source(event: Obj) -> str:
    source = event.get("source") or event.get("deprecatedSource") or {}
    component = (
        source.get("component") or event.get("reportingComponent") or event.get("reportingController") or ""
    )
    host = source.get("host") or event.get("reportingInstance") or ""
    return ", ".join(part for part in (component, host) if part)


def _event_count(event: Obj) -> int:
    return int(dig(event, "series", "count") or event.get("count") or event.get("deprecatedCount") or 1)


def _claim_state(claim: Obj) -> str:
    states = ["deleted"] if "deletionTimestamp" in claim["metadata"] else []
    if dig(claim, "status", "allocation") is None:
        return ",".join(states or ["pending"])
    states.append("allocated")
    return ",".join(states + ["reserved"] * bool(dig(claim, "status", "reservedFor")))


def _job_status(job: Obj) -> str:
    entries = dig(job, "status", "conditions") or ()
    true = {entry["type"] for entry in entries if entry.get("status") == "True"}
    if "Complete" in true or "Failed" in true:
        return "Complete" if "Complete" in true else "Failed"
    if "deletionTimestamp" in job["metadata"]:
        return "Terminating"
    return next(
        (name for name in ("Suspended", "FailureTarget", "SuccessCriteriaMet") if name in true), "Running"
    )


def _job_completions(job: Obj) -> str:
    done, wanted = dig(job, "status", "succeeded") or 0, dig(job, "spec", "completions")
    if wanted is not None:
        return f"{done}/{wanted}"
    parallelism = dig(job, "spec", "parallelism") or 0
    return f"{done}/1 of {parallelism}" if parallelism > 1 else f"{done}/1"


def _job_duration(job: Obj) -> str:
    start, end = dig(job, "status", "startTime"), dig(job, "status", "completionTime")
    if not start:
        return ""
    return human(int((parse_time(end) - parse_time(start)).total_seconds())) if end else age(start)


def _containers(part: str) -> Cell:
    return lambda obj: ",".join(
        str(item.get(part, "")) for item in dig(obj, "spec", "template", "spec", "containers") or ()
    )


def _selector(obj: Obj) -> str:
    labels = dig(obj, "spec", "selector", "matchLabels") or {}
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or _NONE


def _node_selector(obj: Obj) -> str:
    labels = dig(obj, "spec", "template", "spec", "nodeSelector") or {}
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or _NONE


def _bound(name: str) -> Cell:
    return lambda budget: str(dig(budget, "spec", name)) if dig(budget, "spec", name) is not None else "N/A"


def _served_versions(definition: Obj) -> str:
    versions = [version for version in dig(definition, "spec", "versions") or () if version.get("served")]
    return ",".join(
        sorted(version["name"] + "(storage)" * bool(version.get("storage")) for version in versions)
    )


def _is_established(definition: Obj) -> bool:
    conditions = dig(definition, "status", "conditions") or ()
    return any(entry["type"] == "Established" and entry["status"] == "True" for entry in conditions)


def _readiness_gates(pod: Obj) -> str:
    gates = dig(pod, "spec", "readinessGates") or ()
    entries = dig(pod, "status", "conditions") or ()
    true = {entry["type"] for entry in entries if entry.get("status") == "True"}
    return f"{sum(gate['conditionType'] in true for gate in gates)}/{len(gates)}" if gates else _NONE


NAME = Column(
    name="Name", cell=lambda obj: obj["metadata"]["name"], format="name",
    description="Name must be unique within a namespace.",
)  # fmt: skip
AGE = Column(
    name="Age", cell=lambda obj: age(dig(obj, "metadata", "creationTimestamp")),
    description="CreationTimestamp is the server time when this object was created.",
)  # fmt: skip
_WORKLOAD = (
    _column("Containers", _containers("name"), wide=True),
    _column("Images", _containers("image"), wide=True),
    _column("Selector", _selector, wide=True),
)
_COLUMNS: dict[str, tuple[Column, ...]] = {
    "nodes": (
        NAME, _column("Status", _node_status), _column("Roles", _node_roles), AGE,
        _column("Version", _text("status", "nodeInfo", "kubeletVersion")),
        _column("Internal-IP", _node_address("InternalIP"), wide=True),
        _column("External-IP", _node_address("ExternalIP"), wide=True),
        _column("OS-Image", _text("status", "nodeInfo", "osImage", empty=UNKNOWN), wide=True),
        _column("Kernel-Version", _kernel, wide=True),
        _column(
            "Container-Runtime", _text("status", "nodeInfo", "containerRuntimeVersion", empty=UNKNOWN), wide=True
        ),
    ),
    "pods": (
        NAME, _column("Ready", pod_ready), _column("Status", pod_status), _column("Restarts", pod_restarts), AGE,
        _column("IP", _text("status", "podIP", empty=_NONE), wide=True),
        _column("Node", _text("spec", "nodeName", empty=_NONE), wide=True),
        _column("Nominated Node", _text("status", "nominatedNodeName", empty=_NONE), wide=True),
        _column("Readiness Gates", _readiness_gates, wide=True),
    ),
    "events": (
        _column("Last Seen", _event_last_seen), _column("Type", _text("type")), _column("Reason", _text("reason")),
        _column("Object", _event_object), _column("Subobject", _text("involvedObject", "fieldPath"), wide=True),
        _column("Source", _event_source, wide=True),
        _column("Message", lambda event: (event.get("message") or event.get("note") or "").strip()),
        _column("First Seen", _event_first_seen, wide=True), _column("Count", _event_count, wide=True),
        Column(name="Name", cell=lambda event: event["metadata"]["name"], format="name", wide=True),
    ),
    "namespaces": (NAME, _column("Status", _text("status", "phase")), AGE),
    "configmaps": (
        NAME, _column("Data", lambda obj: len(obj.get("data") or {}) + len(obj.get("binaryData") or {})), AGE,
    ),
    "secrets": (
        NAME, _column("Type", _text("type")), _column("Data", lambda obj: len(obj.get("data") or {})), AGE,
    ),
    "jobs.batch": (
        NAME, _column("Status", _job_status), _column("Completions", _job_completions),
        _column("Duration", _job_duration), AGE, *_WORKLOAD,
    ),
    "daemonsets.apps": (
        NAME,
        _column("Desired", _number("status", "desiredNumberScheduled"), type="integer"),
        _column("Current", _number("status", "currentNumberScheduled"), type="integer"),
        _column("Ready", _number("status", "numberReady"), type="integer"),
        _column("Up-to-date", _number("status", "updatedNumberScheduled"), type="integer"),
        _column("Available", _number("status", "numberAvailable"), type="integer"),
        _column("Node Selector", _node_selector), AGE, *_WORKLOAD,
    ),
    "replicasets.apps": (
        NAME,
        _column("Desired", _number("spec", "replicas"), type="integer"),
        _column("Current", _number("status", "replicas"), type="integer"),
        _column("Ready", _number("status", "readyReplicas"), type="integer"),
        AGE, *_WORKLOAD,
    ),
    "leases.coordination.k8s.io": (NAME, _column("Holder", _text("spec", "holderIdentity")), AGE),
    "poddisruptionbudgets.policy": (
        NAME, _column("Min Available", _bound("minAvailable")), _column("Max Unavailable", _bound("maxUnavailable")),
        _column("Allowed Disruptions", _number("status", "disruptionsAllowed"), type="integer"), AGE,
    ),
    "resourceslices.resource.k8s.io": (
        NAME, _column("Node", _text("spec", "nodeName")), _column("Driver", _text("spec", "driver")),
        _column("Pool", _text("spec", "pool", "name")), AGE,
    ),
    "resourceclaims.resource.k8s.io": (NAME, _column("State", _claim_state), AGE),
    "devicetaintrules.resource.k8s.io": (
        NAME, _column("Key", _text("spec", "taint", "key")), _column("Value", _text("spec", "taint", "value")),
        _column("Effect", _text("spec", "taint", "effect")),
        _column("TimeAdded", lambda rule: age(dig(rule, "spec", "taint", "timeAdded"))), AGE,
    ),
    "customresourcedefinitions.apiextensions.k8s.io": (
        NAME, _column("Scope", _text("spec", "scope")), _column("Versions", _served_versions),
        _column("Created At", _text("metadata", "creationTimestamp"), type="date"),
        _column("Group", _text("spec", "group"), wide=True), _column("Kind", _text("spec", "names", "kind"), wide=True),
        _column("ShortNames", lambda crd: ",".join(dig(crd, "spec", "names", "shortNames") or ()), wide=True),
        _column("Established", _is_established, type="boolean", wide=True),
    ),
}  # fmt: skip
