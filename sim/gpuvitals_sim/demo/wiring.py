"""The cluster on which a scenario is played.

Place in the chain: translates the scenario's nodes and policy into settings of `gpuvitals_sim.cluster`.
"""

from contextlib import AbstractContextManager
from pathlib import Path

from gpuvitals_sim.apiserver import ApiSettings
from gpuvitals_sim.cel import compile_errors
from gpuvitals_sim.cluster import NodeSettings, SimulatedCluster, simulated_cluster
from gpuvitals_sim.kubelet import KubeletTimings
from gpuvitals_sim.scenario import Scenario

_REAL_TIMINGS = KubeletTimings()
_API = ApiSettings(cel_checker=compile_errors, without=("daemonsets",))
"""Without the kinds that no controller of the demo acts on: docs/reference/demo-kinds.md."""


def demo_cluster(
    folder: Path,
    scenario: Scenario,
    timings: KubeletTimings = _REAL_TIMINGS,
    library: Path | None = None,
) -> AbstractContextManager[SimulatedCluster]:
    """The cluster of a scenario, running within the block. The folder's path must be short: sockets lie below it.

    `library` is the folder of a mock libnvidia-ml.so.1, which the agents call instead of the scripted NVML worker.
    """
    nodes = [
        NodeSettings(
            name=name,
            gpus=scenario.nodes.gpus,
            profile=scenario.nodes.profile,
            agent_config={"policy": dict(scenario.policy)},
            nvml_library=library,
            timings=timings,
        )
        for name in scenario.nodes.names
    ]
    return simulated_cluster(folder, nodes, _API)
