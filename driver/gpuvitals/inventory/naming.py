"""The configurable names under which the driver appears in a cluster."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """`driver` names the DRA driver, `api_group` owns annotations and CRDs, `attribute_domain` the health keys."""

    driver: str = "gpu.vitals.internal"
    api_group: str = "vitals.internal"
    attribute_domain: str = "health"

    @property
    def node_report(self) -> str:
        """Annotation key of the node report."""
        return f"{self.api_group}/node-report"

    @property
    def report(self) -> str:
        """Annotation key on the Node: an operator's reports about its GPUs, one short line each."""
        return f"{self.api_group}/report"

    @property
    def override(self) -> str:
        """Annotation key on the Node: an operator's overrides for its GPUs, each signed and with an expiry."""
        return f"{self.api_group}/override"
