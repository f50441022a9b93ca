"""The scope of an incident, from the evidence of all devices of its node and of all nodes of its domain."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime

from gpuvitals.escalation.cures import CauseKind, cause_kind
from gpuvitals.escalation.incident import Incident
from gpuvitals.escalation.remediation import Scope
from gpuvitals.escalation.world import World

MANY_NODES = 3
"""The fewest nodes of one clique that fail together before the fabric is suspected."""
MANY_PERCENT = 50
"""The share of the nodes of one clique that fail together before the fabric is suspected."""
CLIQUE_LABEL = "nvidia.com/gpu.clique"
"""The label of the NVSwitch domain that spans nodes. Nodes without it share no fabric."""


def failing_cliques(world: World) -> frozenset[str]:
    """The cliques of which many nodes failed within one window of each other, however long ago.

    Time alone does not clear the suspicion: it holds while the devices stay out.
    """
    sizes = Counter(label for node in world.nodes.values() if (label := _clique(node.labels)))
    starts: dict[str, list[tuple[datetime, datetime]]] = defaultdict(list)
    for name, devices in world.out.items():
        node = world.nodes.get(name)
        label = "" if node is None else _clique(node.labels)
        if label and devices:
            first = min(devices, key=lambda each: each.since)
            starts[label].append((first.since, first.since + world.policy(first.policy).stop.window))
    return frozenset(
        label for label, spans in starts.items() if _is_many(_most_together(spans), sizes[label])
    )


def scope(incident: Incident, world: World, failing: frozenset[str]) -> Scope:
    """FABRIC if the cause or the pattern of failures is the fabric's, NODE if it is the node's, else DEVICE.

    A driver symptom is the node's only if at least two GPUs show it, or if the node reports it.
    """
    kind = cause_kind(incident.cause)
    label = "" if incident.node is None else _clique(incident.node.labels)
    if kind is CauseKind.FABRIC or label in failing:
        return Scope.FABRIC
    if incident.target.gpu is None:
        return Scope.NODE
    devices = world.out.get(incident.target.node, ())
    limit = incident.policy.failed_devices
    if limit is not None and len(devices) >= limit:
        return Scope.NODE
    if kind is CauseKind.DRIVER:
        same = sum(each.reason == incident.cause.reason for each in devices)
        return Scope.NODE if same > 1 else Scope.DEVICE
    return Scope.DEVICE


def _most_together(spans: list[tuple[datetime, datetime]]) -> int:
    """The largest number of nodes whose failures began within one window."""
    return max(sum(start <= other <= end for other, _ in spans) for start, end in spans)


def _is_many(count: int, size: int) -> bool:
    return count >= MANY_NODES and 100 * count >= MANY_PERCENT * size


def _clique(labels: Mapping[str, str]) -> str:
    return labels.get(CLIQUE_LABEL, "")
