"""One node as a whole: the real agent on scripted GPUs, and the simulated kubelet, scheduler, controllers and API server."""

import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpuvitals_sim.apiserver import ApiServer, DeleteOptions, InProcessClient, Match
from gpuvitals_sim.cluster import AgentProgram, NodeSettings, published_name, simulated_cluster
from gpuvitals_sim.cluster.driver_objects import device_classes
from gpuvitals_sim.hardware.scripted_node import ScriptedNode
from gpuvitals_sim.kubelet import Kubelet, KubeletTimings
from gpuvitals_sim.kubelet.config import DRA_SERVICES, HEALTH_SERVICES
from support.dra_objects import CLAIMS, CLASSES, DRIVER, SLICES, Json, claim, eventually, exactly, pod

NODE = "node-a"
SECONDS = 30.0
AGENT_CONFIG = {"poll_seconds": 0.3}
AGENT = Match(user_agent="gpuvitals/")
QUICK = replace(
    KubeletTimings(),
    registration_tick_seconds=0.1,
    registration_backoff_seconds=0.2,
    call_seconds=2.0,
    wiping_delay_seconds=3.0,
    startup_wipe_seconds=0.1,
    pod_sync_min_seconds=1.0,
    pod_sync_max_seconds=1.2,
    unprepare_first_retry_seconds=0.1,
    unprepare_retry_seconds=0.3,
    container_retry_seconds=0.3,
    termination_seconds=0.05,
    health_retry_seconds=0.3,
    health_coalesce_seconds=0.1,
    reconcile_seconds=0.3,
    redial_seconds=0.1,
)


@dataclass(kw_only=True)
class NodeCluster:
    """The parts of the cluster."""

    server: ApiServer
    client: InProcessClient
    kubelet: Kubelet
    gpus: ScriptedNode
    agent: AgentProgram
    folder: Path

    def wait(self, check: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
        """The first true result of `check`. Fails with the agent's log."""
        try:
            return eventually(lambda: check() or None, what, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.agent.log_tail(30)}") from None

    def device(self, gpu: int) -> str:
        return published_name(self.gpus.gpus[gpu])

    def slices(self) -> list[Json]:
        return [one for one in self.client.list(SLICES) if one["spec"]["driver"] == DRIVER]

    def devices(self) -> dict[str, Json]:
        return {
            device["name"]: device for one in self.slices() for device in one["spec"].get("devices") or ()
        }

    def published(self) -> None:
        """Every GPU is there and well."""
        self.wait(
            lambda: (
                len(self.devices()) == len(self.gpus.gpus)
                and all(
                    one["attributes"]["health/state"]["string"] == "Healthy"
                    for one in self.devices().values()
                )
            ),
            "published",
        )

    def registered(self) -> None:
        """The agent's plugin is connected, and gets the calls."""
        self.wait(lambda: any(one.connected for one in self.kubelet.plugins()), "registered")

    def create(self, name: str, *requests: Json, **spec: Any) -> Json:
        """A claim and a pod of that name that uses it."""
        self.client.create(CLAIMS, claim(name, *(requests or (exactly(),)), **spec))
        return self.client.create("pods", pod(name, name, grace_seconds=1))

    def pod(self, name: str) -> Json | None:
        return self.client.find("pods", name, "default")

    def runs(self, name: str) -> bool:
        found = self.pod(name)
        return found is not None and found["status"].get("phase") == "Running"

    def running(self, name: str) -> Json:
        self.wait(lambda: self.runs(name), f"{name} running")
        found = self.pod(name)
        assert found is not None
        return found

    def delete(self, name: str, *, force: bool = False) -> None:
        """Deletes the pod and waits until its object is gone."""
        options = DeleteOptions(grace_seconds=0) if force else None
        self.client.delete("pods", name, "default", options=options)
        if not force:
            self.wait(lambda: self.pod(name) is None, f"{name} gone")

    def uid(self, name: str) -> str:
        found: str = self.client.get(CLAIMS, name, "default")["metadata"]["uid"]
        return found

    def held(self, name: str) -> list[str]:
        """The devices that the claim holds."""
        allocation = (self.client.get(CLAIMS, name, "default").get("status") or {}).get("allocation") or {}
        return [one["device"] for one in allocation["devices"]["results"]]

    def container(self, name: str, container: str = "main") -> Any:
        """The pod's container, or None."""
        return next(
            (one for one in self.kubelet.containers() if (one.pod, one.container) == (name, container)), None
        )

    def cdi_files(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "cdi").glob(f"*{DRIVER}*"))

    def nothing_is_left(self) -> None:
        """No claim is in use, and the driver keeps no file of any."""
        self.wait(lambda: self.kubelet.claims_in_use() == (), "no claim in use")
        self.wait(lambda: self.cdi_files() == [], "no CDI file")

    def calls(self, method: str, uid: str) -> list[str]:
        """How the calls of this method for the claim ended."""
        return [one.outcome for one in self.kubelet.calls(method) if uid in one.claims]

    def event(self, text: str) -> None:
        self.wait(
            lambda: any(text in (one.get("message") or "") for one in self.client.list("events", "default")),
            f"event {text}",
        )

    def health(self, name: str) -> list[Json]:
        """The devices' health in the pod's status."""
        statuses = (self.pod(name) or {}).get("status", {}).get("containerStatuses") or [{}]
        entries = statuses[0].get("allocatedResourcesStatus") or ()
        return [one for entry in entries for one in entry["resources"]]

    def shows(self, name: str, health: str) -> Json:
        """The pod's one device once it is shown as that."""
        self.wait(lambda: [one["health"] for one in self.health(name)] == [health], f"{name} {health}")
        return self.health(name)[0]

    def another_agent(self) -> AgentProgram:
        """A second instance on the same node, as a rolling update starts it; the caller starts and stops it."""
        settings = replace(self.agent.settings, pod_uid=str(uuid.uuid4()))
        return AgentProgram(settings, self.gpus)


@contextmanager
def node_cluster(
    *,
    gpus: int = 4,
    start: bool = True,
    timings: KubeletTimings = QUICK,
    dra_services: tuple[str, ...] = DRA_SERVICES,
    health_services: tuple[str, ...] = HEALTH_SERVICES,
) -> Iterator[NodeCluster]:
    """The running cluster. With `start` the agent runs and has published."""
    settings = NodeSettings(
        name=NODE,
        gpus=gpus,
        agent_config=AGENT_CONFIG,
        timings=timings,
        dra_services=dra_services,
        health_services=health_services,
    )
    with (
        tempfile.TemporaryDirectory(prefix="gv-", dir="/tmp") as made,
        simulated_cluster(Path(made), [settings], start_agents=start) as cluster,
    ):
        (node,) = cluster.nodes
        built = NodeCluster(
            server=cluster.server,
            client=cluster.client,
            kubelet=node.kubelet,
            gpus=node.gpus,
            agent=node.agent,
            folder=node.folder,
        )
        ours = device_classes(cluster.naming)[0]
        built.client.create(CLASSES, {**ours, "metadata": {"name": "gpu"}})
        if start:
            built.registered()
            built.published()
            time.sleep(QUICK.startup_wipe_seconds)
        yield built
