"""Answers the requests that `gpuvitals` verbs send over the debug socket."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from gpuvitals.inventory.naming import Naming
from gpuvitals.kubeletplugin.plugin import KubeletPlugin
from gpuvitals.model.clock import Clock
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.snapshot import NodeFacts
from gpuvitals.node.agent import NodeAgent
from gpuvitals.node.explain import ExplainContext, find_gpu, gpu_stations
from gpuvitals.node.outputs import Outputs

_FORGET_SECONDS = 1.5
"""How long the agent's loop may take to forget a GPU: less than the caller's timeout."""


class GpuForgetter(Protocol):
    """Polls the GPUs."""

    def forget(self, uuid: GpuUuid) -> None:
        """Stops polling a GPU that the driver does not enumerate."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DebugParts:
    """The parts that requests read or change."""

    agent: NodeAgent
    plugin: KubeletPlugin
    outputs: Outputs
    monitor: GpuForgetter


class DebugAnswers:
    """Runs on the debug socket's thread: reads snapshots, and passes requests to the agent's thread."""

    def __init__(self, naming: Naming, clock: Clock, parts: DebugParts) -> None:
        self._naming = naming
        self._clock = clock
        self._agent = parts.agent
        self._plugin = parts.plugin
        self._outputs = parts.outputs
        self._monitor = parts.monitor

    def answer(self, request: Mapping[str, object]) -> object:
        """The stations of one GPU, or the confirmation that it is forgotten. Raises ValueError with the reason for a refusal."""
        match request.get("ask"):
            case "gpu":
                return self._explained(str(request.get("gpu", "")))
            case "forget":
                return self._forgotten(GpuUuid(str(request.get("gpu", ""))))
            case other:
                raise ValueError(f"ask {other!r}: unknown; expected gpu or forget")

    def _forgotten(self, uuid: GpuUuid) -> str:
        if not self._plugin.publishing():
            raise ValueError(
                "this agent does not publish for the node now; send the request to the agent that does"
            )
        self._agent.forgetting.request(uuid, _FORGET_SECONDS)
        self._monitor.forget(uuid)
        return f"gpu {uuid} is forgotten"

    def _explained(self, name: str) -> object:
        entry = find_gpu(self._agent.gpus, name)
        snapshot = self._agent.snapshot
        shown = snapshot.find(entry.gpu.uuid) if snapshot is not None else None
        held = {device.claim for device in self._plugin.prepared() if device.uuid == entry.gpu.uuid}
        context = ExplainContext(
            now=self._clock.now(),
            policy=self._agent.policy(entry.gpu.uuid),
            naming=self._naming,
            facts=snapshot.facts if snapshot is not None else NodeFacts(),
            holders=tuple(sorted(held, key=lambda claim: claim.uid)),
            conflict=self._outputs.conflict,
            unprepared=shown.unprepared if shown is not None else None,
        )
        return [{"station": station.name, "text": station.text} for station in gpu_stations(entry, context)]
