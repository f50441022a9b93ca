"""The names under which the product appears in a cluster. All of them are configurable."""

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
        """Annotation key on the Node: what a person says of its GPUs, in a few words."""
        return f"{self.api_group}/report"

    @property
    def override(self) -> str:
        """Annotation key on the Node: what a person has decided about its GPUs, signed and with an end."""
        return f"{self.api_group}/override"
