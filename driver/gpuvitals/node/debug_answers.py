"""Answers the requests that `gpuvitals` verbs send over the debug socket."""

from collections.abc import Callable, Mapping

from gpuvitals.inventory.naming import Naming
from gpuvitals.kubeletplugin.plugin import KubeletPlugin
from gpuvitals.model.clock import Clock
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.snapshot import NodeFacts
from gpuvitals.node.agent import NodeAgent
from gpuvitals.node.explain import Surroundings, find_gpu, gpu_stations
from gpuvitals.node.outputs import Outputs

_FORGET_SECONDS = 1.5
"""How long the agent's loop may take to forget a GPU: less than the caller waits for the answer."""


class DebugAnswers:
    """Called on the debug socket's thread. It reads snapshots, and hands requests to the agent's thread."""

    def __init__(
        self, naming: Naming, clock: Clock, agent: NodeAgent, plugin: KubeletPlugin, outputs: Outputs
    ) -> None:
        self._naming = naming
        self._clock = clock
        self._agent = agent
        self._plugin = plugin
        self._outputs = outputs
        self._stop_looking: Callable[[GpuUuid], None] = lambda uuid: None

    def answer(self, request: Mapping[str, object]) -> object:
        """The stations of one GPU, or the confirmation that it is forgotten. Raises ValueError with the reason for neither."""
        match request.get("ask"):
            case "gpu":
                return self._explained(str(request.get("gpu", "")))
            case "forget":
                return self._forgotten(GpuUuid(str(request.get("gpu", ""))))
            case other:
                raise ValueError(f"ask {other!r}: unknown; expected gpu or forget")

    def on_forgotten(self, stop_looking: Callable[[GpuUuid], None]) -> "DebugAnswers":
        """Has `stop_looking` called with each GPU that was forgotten, so that no source asks for it."""
        self._stop_looking = stop_looking
        return self

    def _forgotten(self, uuid: GpuUuid) -> str:
        if not self._plugin.publishing():
            raise ValueError("this agent does not publish for the node now; ask the one that does")
        self._agent.forgetting.ask(uuid, _FORGET_SECONDS)
        self._stop_looking(uuid)
        return f"gpu {uuid} is forgotten"

    def _explained(self, name: str) -> object:
        entry = find_gpu(self._agent.gpus, name)
        snapshot = self._agent.snapshot
        shown = snapshot.find(entry.gpu.uuid) if snapshot is not None else None
        held = {device.claim for device in self._plugin.prepared() if device.uuid == entry.gpu.uuid}
        around = Surroundings(
            now=self._clock.now(),
            rule=self._agent.rule(entry.gpu.uuid),
            naming=self._naming,
            facts=snapshot.facts if snapshot is not None else NodeFacts(),
            holders=tuple(sorted(held, key=lambda claim: claim.uid)),
            conflict=self._outputs.conflict,
            unprepared=shown.unprepared if shown is not None else None,
        )
        return [{"station": station.name, "text": station.text} for station in gpu_stations(entry, around)]
