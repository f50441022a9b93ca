"""Answers the requests that `gpuvitals` verbs send over the debug socket."""

from collections.abc import Mapping

from gpuvitals.inventory.naming import Naming
from gpuvitals.kubeletplugin.plugin import KubeletPlugin
from gpuvitals.model.clock import Clock
from gpuvitals.model.snapshot import NodeFacts
from gpuvitals.node.agent import NodeAgent
from gpuvitals.node.explanation import Surroundings, find_gpu, gpu_stations
from gpuvitals.node.outputs import Outputs


class DebugAnswers:
    """Called on the debug socket's thread; reads what other threads replace whole."""

    def __init__(
        self, naming: Naming, clock: Clock, agent: NodeAgent, plugin: KubeletPlugin, outputs: Outputs
    ) -> None:
        self._naming = naming
        self._clock = clock
        self._agent = agent
        self._plugin = plugin
        self._outputs = outputs

    def answer(self, request: Mapping[str, object]) -> object:
        """The stations of one GPU. Raises ValueError for any other request, and for a GPU that is not here."""
        if request.get("ask") != "gpu":
            raise ValueError(f"ask {request.get('ask')!r}: unknown; ask for a gpu")
        entry = find_gpu(self._agent.gpus, str(request.get("gpu", "")))
        snapshot = self._agent.snapshot
        held = {device.claim for device in self._plugin.prepared() if device.uuid == entry.gpu.uuid}
        around = Surroundings(
            now=self._clock.now(),
            rule=self._agent.rule(entry.gpu.uuid),
            naming=self._naming,
            facts=snapshot.facts if snapshot is not None else NodeFacts(),
            holders=tuple(sorted(held, key=lambda claim: claim.uid)),
            rival=self._outputs.rival,
        )
        return [{"station": station.name, "text": station.text} for station in gpu_stations(entry, around)]
