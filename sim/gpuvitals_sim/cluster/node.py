"""One node of a simulated cluster: scripted GPUs, a simulated kubelet, and the agent's process.

Place in the chain: `cluster.py` starts and stops the parts; nothing is started here.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gpuvitals.inventory.device import device_name
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.ids import GpuUuid, PciBusId
from gpuvitals_sim.cluster.agent import AgentProgram, AgentSettings
from gpuvitals_sim.hardware.scripted_node import ScriptedNode
from gpuvitals_sim.hardware.state_file import GpuScript
from gpuvitals_sim.kubelet import Kubelet, KubeletConfig, KubeletTimings
from gpuvitals_sim.kubelet.config import DRA_SERVICES, HEALTH_SERVICES


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """A node to create. `agent_config` is the agent's configuration file.

    `nvml_library` is the folder of a mock libnvidia-ml.so.1, which the agent calls instead of the scripted NVML worker.
    """

    name: str
    gpus: int = 8
    profile: str = "h100"
    agent_config: Mapping[str, object] = field(default_factory=dict)
    nvml_library: Path | None = None
    timings: KubeletTimings = field(default_factory=KubeletTimings)
    dra_services: tuple[str, ...] = DRA_SERVICES
    health_services: tuple[str, ...] = HEALTH_SERVICES


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedNode:
    """One node. GPUs are numbered from 0 in PCI order; `folder` is /var/lib/kubelet of the node."""

    name: str
    folder: Path
    gpus: ScriptedNode
    kubelet: Kubelet
    agent: AgentProgram

    def device(self, gpu: int) -> str:
        """The name under which the agent publishes this GPU."""
        return published_name(self.gpus.gpus[gpu])


def create_node(folder: Path, settings: NodeSettings, server: str) -> SimulatedNode:
    """A node of the API server at the URL `server`, with its files below `folder`, whose path must be short: Unix sockets lie in it."""
    gpus = ScriptedNode.create(folder, name=settings.name, profile=settings.profile, gpus=settings.gpus)
    agent = AgentSettings(
        node=settings.name,
        pod_uid=str(uuid.uuid4()),
        server=server,
        kubelet_root=folder,
        cdi_directory=folder / "cdi",
        config=folder / "agent.yaml",
        log=folder / "agent.log",
        nvml_library=settings.nvml_library,
    )
    agent.config.write_text(json.dumps(dict(settings.agent_config)), encoding="utf-8")
    kubelet = KubeletConfig(
        node_name=settings.name,
        root=folder,
        cdi_dirs=(agent.cdi_directory,),
        timings=settings.timings,
        dra_services=settings.dra_services,
        health_services=settings.health_services,
    )
    kubelet.registry_dir.mkdir()
    agent.cdi_directory.mkdir()
    return SimulatedNode(
        name=settings.name,
        folder=folder,
        gpus=gpus,
        kubelet=Kubelet(kubelet, server),
        agent=AgentProgram(agent, gpus),
    )


def published_name(script: GpuScript) -> str:
    """The device name of a scripted GPU."""
    gpu = Gpu(
        uuid=GpuUuid(script.uuid),
        bus_id=PciBusId(script.bus_id),
        product_name=script.name,
        memory_bytes=script.memory_bytes,
    )
    return device_name(gpu)
