"""Distributes each state of the agent's own Node to the parts that depend on it."""

from gpuvitals.kube.nodes import NodeMeta
from gpuvitals.kube.other_drivers import OtherDriverWatch
from gpuvitals.node.policy_resolver import PolicyResolver
from gpuvitals.node.report_annotations import ReportAnnotations


class NodeUpdates:
    """A NodeListener: labels go to the policies, allocatable resources to the other drivers, annotations to the reports."""

    def __init__(
        self, resolver: PolicyResolver, other_drivers: OtherDriverWatch, annotations: ReportAnnotations
    ) -> None:
        self._resolver = resolver
        self._other_drivers = other_drivers
        self._annotations = annotations

    def node_changed(self, node: NodeMeta) -> None:
        """Takes a state of the Node. Called on one thread."""
        self._resolver.labels(node.labels)
        self._other_drivers.set_allocatable(node.allocatable)
        self._annotations.update(node.annotations)
