"""A demo cluster for a scenario, composed of simulated parts and real agents below one folder."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpuvitals_sim.apiserver import ApiServer, ApiSettings
from gpuvitals_sim.cel import compile_errors
from gpuvitals_sim.controllers import ControllerManager
from gpuvitals_sim.demo.agent import AgentProgram, AgentSettings
from gpuvitals_sim.demo.cluster import Cluster, DemoNode
from gpuvitals_sim.hardware.scripted_node import ScriptedNode
from gpuvitals_sim.kubelet import Kubelet, KubeletConfig, KubeletTimings
from gpuvitals_sim.rest import Endpoint
from gpuvitals_sim.scenario import Scenario
from gpuvitals_sim.scheduler import Scheduler

_REAL_TIMINGS = KubeletTimings()
_LACKING = ("daemonsets",)
"""Kinds that the API server could serve and that no controller of the demo would act on: docs/reference/demo-kinds.md."""


@contextmanager
def demo_cluster(
    folder: Path,
    scenario: Scenario,
    timings: KubeletTimings = _REAL_TIMINGS,
    library: Path | None = None,
) -> Iterator[Cluster]:
    """The running cluster; everything is stopped with the block. The folder's path must be short: sockets lie in it.

    `library` is the folder of a mock libnvidia-ml.so.1, which the agents then call instead of the scripted worker.
    """
    with ApiServer(settings=ApiSettings(cel_checker=compile_errors, without=_LACKING)) as server:
        endpoint = Endpoint(url=server.url)
        control = (ControllerManager(server.client("kube-controller-manager")), Scheduler(endpoint))
        nodes = [_node(folder / name, scenario, endpoint, timings, library) for name in scenario.nodes.names]
        with Cluster(folder, server, control, nodes) as cluster:
            yield cluster


def _node(
    folder: Path, scenario: Scenario, endpoint: Endpoint, timings: KubeletTimings, library: Path | None
) -> DemoNode:
    name = folder.name
    gpus = ScriptedNode.create(folder, name=name, profile=scenario.nodes.profile, gpus=scenario.nodes.gpus)
    settings = AgentSettings(
        node=name,
        pod_uid=str(uuid.uuid4()),
        server=endpoint.url,
        kubelet_root=folder,
        cdi_directory=folder / "cdi",
        config=folder / "agent.yaml",
        log=folder / "agent.log",
        nvml_library=library,
    )
    settings.config.write_text(json.dumps({"policy": dict(scenario.policy)}), encoding="utf-8")
    kubelet = KubeletConfig(node_name=name, root=folder, cdi_dirs=(settings.cdi_directory,), timings=timings)
    kubelet.registry_dir.mkdir()
    settings.cdi_directory.mkdir()
    return DemoNode(
        name=name, gpus=gpus, kubelet=Kubelet(kubelet, endpoint), agent=AgentProgram(settings, gpus)
    )
