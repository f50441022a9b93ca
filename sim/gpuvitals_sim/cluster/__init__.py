"""The composer of simulated clusters: control plane, nodes with scripted GPUs and a kubelet, and the real agent.

May live here: construction, start and stop of the simulated parts and of the agent process. May not: a simulated part
itself, and anything about scenarios. The demo and the tests compose their clusters here.

    control_plane.py   API server, controllers and scheduler
    node.py            one node: scripted GPUs, kubelet, agent; `agent.py` is the agent's process
    cluster.py         both together, with the objects that the chart installs (`driver_objects.py`)
"""

from gpuvitals_sim.cluster.agent import AgentProgram, AgentSettings
from gpuvitals_sim.cluster.cluster import SimulatedCluster, simulated_cluster
from gpuvitals_sim.cluster.control_plane import ControlPlane, control_plane
from gpuvitals_sim.cluster.node import NodeSettings, SimulatedNode, create_node, published_name

__all__ = [
    "AgentProgram",
    "AgentSettings",
    "ControlPlane",
    "NodeSettings",
    "SimulatedCluster",
    "SimulatedNode",
    "control_plane",
    "create_node",
    "published_name",
    "simulated_cluster",
]
