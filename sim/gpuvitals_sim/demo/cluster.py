"""The demo's cluster: API server, controllers, scheduler, and nodes with scripted GPUs, a kubelet and the real agent.

Place in the chain: `wiring` constructs the parts, this starts and stops them in order; actor and observer use them.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from gpuvitals.inventory.device import device_name
from gpuvitals.inventory.naming import Naming
from gpuvitals.kube.policy_crd import policy_definition
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.ids import GpuUuid, PciBusId
from gpuvitals_sim.apiserver import ApiClient, ApiServer
from gpuvitals_sim.demo.agent import AgentProgram
from gpuvitals_sim.demo.objects import device_classes
from gpuvitals_sim.hardware.scripted_node import ScriptedNode
from gpuvitals_sim.hardware.state_file import GpuScript
from gpuvitals_sim.kubelet import Kubelet

CLASSES = "deviceclasses.resource.k8s.io"
DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"


class Part(Protocol):
    """Something that runs between `start` and `stop`."""

    def start(self) -> object: ...

    def stop(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoNode:
    """One node. GPUs are numbered from 0 in PCI order."""

    name: str
    gpus: ScriptedNode
    kubelet: Kubelet
    agent: AgentProgram

    def device(self, gpu: int) -> str:
        """The name under which the agent publishes this GPU."""
        return published_name(self.gpus.gpus[gpu])


class Cluster:
    """Runs between `start` and `stop`, once; use it as a context manager. The API server must be listening already."""

    def __init__(
        self, folder: Path, server: ApiServer, control: Sequence[Part], nodes: Sequence[DemoNode]
    ) -> None:
        self.folder = folder
        self.server = server
        self.nodes = tuple(nodes)
        self.naming = Naming()
        self.client: ApiClient = server.client("demo")
        self._control = tuple(control)
        self._running = ExitStack()

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig for the user's own kubectl, written at the start."""
        return self.folder / "kubeconfig"

    def start(self) -> None:
        """Starts everything; nothing is waited for. What fails is raised, after what ran is stopped again."""
        with ExitStack() as starting:
            self.kubeconfig.write_text(_kubeconfig(self.server.url), encoding="utf-8")
            for item in device_classes(self.naming):
                self.client.create(CLASSES, item)
            self.client.create(DEFINITIONS, policy_definition(self.naming.api_group))
            for part in (
                *self._control,
                *(node.kubelet for node in self.nodes),
                *(node.agent for node in self.nodes),
            ):
                starting.callback(part.stop)
                part.start()
            self._running = starting.pop_all()

    def stop(self) -> None:
        """Stops everything, the agents first."""
        self._running.close()

    def __enter__(self) -> "Cluster":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def published_name(script: GpuScript) -> str:
    """The device name of a scripted GPU."""
    gpu = Gpu(
        uuid=GpuUuid(script.uuid),
        bus_id=PciBusId(script.bus_id),
        product_name=script.name,
        memory_bytes=script.memory_bytes,
    )
    return device_name(gpu)


def _kubeconfig(url: str) -> str:
    return f"""apiVersion: v1
kind: Config
current-context: gpuvitals-demo
clusters: [{{name: gpuvitals-demo, cluster: {{server: "{url}"}}}}]
users: [{{name: gpuvitals-demo, user: {{}}}}]
contexts: [{{name: gpuvitals-demo, context: {{cluster: gpuvitals-demo, user: gpuvitals-demo}}}}]
"""
