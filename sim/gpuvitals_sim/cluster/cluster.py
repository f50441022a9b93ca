"""`simulated_cluster`: a control plane and nodes with the real agent, started in order and stopped in reverse.

Place in the chain: the demo and the conformance tests run on it.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gpuvitals.inventory.naming import Naming
from gpuvitals_sim.apiserver import ApiServer, ApiSettings, InProcessClient
from gpuvitals_sim.cluster.control_plane import CHECKING_CEL, ControlPlane, control_plane
from gpuvitals_sim.cluster.driver_objects import install_driver_objects
from gpuvitals_sim.cluster.node import NodeSettings, SimulatedNode, create_node


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedCluster:
    """A running cluster. `folder` holds a folder for each node and the kubeconfig; `client` is an in-process client."""

    folder: Path
    control: ControlPlane
    client: InProcessClient
    nodes: tuple[SimulatedNode, ...]
    naming: Naming = field(default_factory=Naming)

    @property
    def server(self) -> ApiServer:
        """The API server."""
        return self.control.server

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig for kubectl."""
        return self.folder / "kubeconfig"


@contextmanager
def simulated_cluster(
    folder: Path, nodes: Sequence[NodeSettings], api: ApiSettings = CHECKING_CEL, *, start_agents: bool = True
) -> Iterator[SimulatedCluster]:
    """A cluster that is stopped at the end of the block, agents first. The parts are started and not waited for.

    Without `start_agents` the caller starts them. The folder's path must be short: Unix sockets lie below it.
    """
    with control_plane(api) as control, ExitStack() as running:
        cluster = SimulatedCluster(
            folder=folder,
            control=control,
            client=control.server.client("demo"),
            nodes=tuple(create_node(folder / one.name, one, control.server.url) for one in nodes),
        )
        cluster.kubeconfig.write_text(_kubeconfig(control.server.url), encoding="utf-8")
        install_driver_objects(cluster.client, cluster.naming)
        for node in cluster.nodes:
            running.callback(node.kubelet.stop)
            node.kubelet.start()
        for node in cluster.nodes:
            running.callback(node.agent.stop)
            if start_agents:
                node.agent.start()
        yield cluster


def _kubeconfig(url: str) -> str:
    return f"""apiVersion: v1
kind: Config
current-context: gpuvitals-demo
clusters: [{{name: gpuvitals-demo, cluster: {{server: "{url}"}}}}]
users: [{{name: gpuvitals-demo, user: {{}}}}]
contexts: [{{name: gpuvitals-demo, context: {{cluster: gpuvitals-demo, user: gpuvitals-demo}}}}]
"""
