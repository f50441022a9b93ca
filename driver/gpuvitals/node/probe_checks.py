"""The checks behind /livez and /readyz.

Liveness checks the loop and the agent's own sockets. Readiness checks that the kubelet has registered the plugin, that
the stored slices are the intended ones, and that claims can be prepared.
"""

from dataclasses import dataclass

from gpuvitals.kube.slices.publisher import SlicePublisher
from gpuvitals.kubeletplugin.files_watch import FilesWatch
from gpuvitals.kubeletplugin.plugin import KubeletPlugin
from gpuvitals.kubeletplugin.self_probe import ProbeError
from gpuvitals.node.agent import NodeAgent
from gpuvitals.node.outputs import Outputs

_STALE_SECONDS = 10.0
_PROBE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeChecks:
    """Each check returns the reason for its failure, or an empty string."""

    agent: NodeAgent
    plugin: KubeletPlugin
    publisher: SlicePublisher
    outputs: Outputs
    files: FilesWatch

    def live(self) -> str:
        """Fails if a restart of the process could help."""
        age = self.agent.tick_age_seconds
        if age > _STALE_SECONDS:
            return f"the agent's loop has not turned for {age:.0f} s"
        try:
            self.plugin.probe(_PROBE_SECONDS)
        except ProbeError as error:
            return str(error)
        return ""

    def ready(self) -> str:
        """Fails if the cluster does not see the agent's present state. A standby instance is ready to take over."""
        if self.plugin.stands_by():
            return ""
        if not self.plugin.kubelet_connected():
            return "no kubelet has registered this plugin"
        if not self.outputs.has_stored:
            return "no slice is stored yet"
        if self.publisher.blocked:
            return f"the stored slices are not the intended ones: {self.publisher.blocked}"
        return self.files.problem

    def remark(self) -> str:
        """Names the publishing instance if this one stands by."""
        pod = self.plugin.stands_by()
        return f"stands by: agent {pod} on this node publishes" if pod else ""
