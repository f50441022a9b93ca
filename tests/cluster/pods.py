"""Pods with claims under the real kubelet, and what the agent was called for them."""

from functools import partial

from cluster.agent import Agent
from cluster.cluster import Cluster
from cluster.objects import DRIVER, PODS, claim_uid, is_gone, is_running, messages, start_gpu_pod


class Pods:
    """Pods and claims of one name each, and what becomes of them."""

    def __init__(self, cluster: Cluster, agent: Agent) -> None:
        self.cluster, self.api, self.agent = cluster, cluster.api, agent

    def start(self, *names: str, **wanted: str) -> list[str]:
        """Creates a claim and a pod for each name; the claims' UIDs. `wanted` is what a claim says of its GPU."""
        for name in names:
            start_gpu_pod(self.api, name, **wanted)
        return [claim_uid(self.api, name) for name in names]

    def running(self, *names: str, seconds: float = 30) -> None:
        for name in names:
            self.cluster.wait(f"{name} runs", partial(is_running, self.api, name), seconds=seconds)

    def gone(self, *names: str, seconds: float = 30) -> None:
        for name in names:
            self.cluster.wait(f"{name} is gone", partial(is_gone, self.api, name), seconds=seconds)

    def told(self, name: str, text: str, seconds: float = 30) -> None:
        """Waits until an event of the pod has this text."""
        self.cluster.wait(
            f"{name}: {text}", lambda: any(text in each for each in messages(self.api, name)), seconds=seconds
        )

    def called(self, uid: str, event: str, seconds: float = 30) -> None:
        """Waits until a call for the claim has ended so."""
        self.cluster.wait(f"{uid} {event}", lambda: event in self.agent.calls(uid), seconds=seconds)

    def is_bound(self, name: str) -> bool:
        return bool(self.api.get(f"{PODS}/{name}").body["spec"].get("nodeName"))

    def in_use(self) -> float:
        """How many claims the kubelet has in use, by its own metric."""
        wanted = f'dra_resource_claims_in_use{{driver_name="{DRIVER}"}}'
        return sum(
            float(line.rpartition(" ")[2])
            for line in self.cluster.kubelet_metrics()
            if line.startswith(wanted)
        )

    def log(self, name: str, container: str) -> list[str]:
        """What the container has said, once it has."""
        path = f"{PODS}/{name}/log"
        text = self.cluster.wait(
            f"{container} has spoken",
            lambda: self.api.get(path, container=container).body.get("text", ""),
            seconds=20,
        )
        return str(text).split()
