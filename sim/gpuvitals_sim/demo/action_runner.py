"""Performs the actions of a scenario, each by the means of a real node or cluster.

Place in the chain: the scenario runner calls it; the observer checks the effects.
"""

import threading
import time
from typing import assert_never

from gpuvitals_sim.apiserver import ApiError
from gpuvitals_sim.cluster import SimulatedCluster, SimulatedNode
from gpuvitals_sim.demo.noise import Noise
from gpuvitals_sim.demo.objects import NAMESPACE, claim_template, pod
from gpuvitals_sim.scenario import actions
from gpuvitals_sim.scenario.model import Action, DeletePod, Wait

SLICES = "resourceslices.resource.k8s.io"
TEMPLATES = "resourceclaimtemplates.resource.k8s.io"

_NOISE_EVERY_SECONDS = 0.25
_LONGEST_WAIT_SECONDS = 0.5
_SCHEDULER_SECONDS = 5.0
_SCHEDULER_PERIOD_SECONDS = 0.01
_NOT_FOUND = 404


class ActionRunner:
    """Performs actions on one cluster. An action that fails raises; its deadlines are those of the parts.

    `stopping` ends waits and noise early.
    """

    def __init__(self, cluster: SimulatedCluster, stopping: threading.Event) -> None:
        self._cluster = cluster
        self._stopping = stopping

    def run(self, action: Action) -> None:
        """Performs one action and returns when it is done; the scenario runner handles `mark`."""
        match action:
            case (
                actions.Xid()
                | actions.KernelLine()
                | actions.OffBus()
                | actions.Lose()
                | actions.SetReadings()
                | actions.Reset()
            ):
                self._on_hardware(action)
            case actions.Restart() | actions.Kill() | actions.Start():
                self._on_program(action)
            case actions.CreatePod():
                self._create(action)
            case DeletePod(name=name):
                self._delete(name)
            case actions.Noise(lasts=seconds, node=node):
                self._noise(seconds, self._cluster.nodes if node is None else (self._node(node),))
            case Wait(seconds=seconds):
                self._wait(seconds)
            case actions.Mark():
                return
            case _:
                assert_never(action)

    def _wait(self, seconds: float) -> None:
        """Waits in short pieces: Python handles a signal only when the main thread runs again."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._stopping.wait(min(left, _LONGEST_WAIT_SECONDS)):
                return

    def _on_hardware(
        self,
        action: (
            actions.Xid
            | actions.KernelLine
            | actions.OffBus
            | actions.Lose
            | actions.SetReadings
            | actions.Reset
        ),
    ) -> None:
        gpus = self._node(action.node).gpus
        match action:
            case actions.Xid(gpu=gpu, code=code):
                for _ in range(action.repeat):
                    gpus.xid(gpu, code, action.message or "", process=action.process or "")
            case actions.KernelLine(text=text):
                gpus.kernel_line(text)
            case actions.OffBus(gpu=gpu):
                gpus.off_bus(gpu)
            case actions.Lose(gpu=gpu):
                gpus.lose(gpu)
            case actions.SetReadings(gpu=gpu, readings=readings):
                gpus.set(gpu, readings)
            case actions.Reset(gpu=gpu):
                gpus.reset(gpu)
            case _:
                assert_never(action)

    def _on_program(self, action: actions.Restart | actions.Kill | actions.Start) -> None:
        node = self._node(action.node)
        match action:
            case actions.Restart(component="kubelet"):
                node.kubelet.restart()
            case actions.Restart():
                node.agent.stop()
                node.agent.start()
            case actions.Kill():
                node.agent.kill()
            case actions.Start():
                node.agent.start()
            case _:
                assert_never(action)

    def _create(self, wanted: actions.CreatePod) -> None:
        node = None if wanted.node is None else self._node(wanted.node).name
        self._cluster.client.create(TEMPLATES, claim_template(wanted))
        self._await_scheduler()
        self._cluster.client.create("pods", pod(wanted, node))

    def _await_scheduler(self) -> None:
        """Waits until the scheduler has the stored slices, for 5 s at most. Its watches are independent.

        Otherwise it can place a pod on a device whose published failure an earlier step has already observed.
        """
        until = time.monotonic() + _SCHEDULER_SECONDS
        for item in self._cluster.client.list(SLICES):
            stored = {**item, "kind": "ResourceSlice"}  # items of a list name no kind
            while not self._cluster.control.scheduler.knows(stored) and time.monotonic() < until:
                if self._stopping.wait(_SCHEDULER_PERIOD_SECONDS):
                    return

    def _delete(self, name: str) -> None:
        """Deletes pod and template; a missing one is no error."""
        for kind in ("pods", TEMPLATES):
            try:
                self._cluster.client.delete(kind, name, NAMESPACE)
            except ApiError as error:
                if error.code != _NOT_FOUND:
                    raise

    def _noise(self, seconds: float, nodes: tuple[SimulatedNode, ...]) -> None:
        sources = [Noise(node.gpus, seed) for seed, node in enumerate(nodes)]
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._stopping.is_set():
            for source in sources:
                source.once()
            self._stopping.wait(_NOISE_EVERY_SECONDS)

    def _node(self, number: int) -> SimulatedNode:
        return self._cluster.nodes[number]
