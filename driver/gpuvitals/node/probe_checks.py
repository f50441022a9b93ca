"""Why the agent is not live, or not ready.

Liveness asks the loop and the own sockets. Readiness asks whether the kubelet has registered the plugin and whether the
stored slices are the intended ones, and whether claims can be prepared.
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
    """Each check returns the reason why it fails, or an empty string."""

    agent: NodeAgent
    plugin: KubeletPlugin
    publisher: SlicePublisher
    outputs: Outputs
    files: FilesWatch

    def live(self) -> str:
        """Why a restart of the process could help."""
        age = self.agent.tick_age_seconds
        if age > _STALE_SECONDS:
            return f"the agent's loop has not turned for {age:.0f} s"
        try:
            self.plugin.probe(_PROBE_SECONDS)
        except ProbeError as error:
            return str(error)
        return ""

    def ready(self) -> str:
        """Why the node does not show what the agent knows. A stand-by is ready: its part is to take over."""
        if self.plugin.stands_by():
            return ""
        if not self.plugin.kubelet_connected():
            return "no kubelet has registered this plugin"
        if not self.outputs.has_stored:
            return "no slice is stored yet"
        if self.publisher.blocked:
            return f"the slices are not what they should be: {self.publisher.blocked}"
        return self.files.problem

    def remark(self) -> str:
        """What a person should know of an agent that is ready."""
        pod = self.plugin.stands_by()
        return f"stands by: agent {pod} on this node publishes" if pod else ""
