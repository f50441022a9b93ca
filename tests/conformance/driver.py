"""The interface that the socket checks need of any DRA driver, and gpuvitals as such a driver.

To check another driver, implement `Driver` for it and give it to the fixture in `conftest.py`.
"""

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grpc

from conformance.cluster import AGENT_CONFIG, NODE
from gpuvitals.proto import dra_v1_pb2 as dra
from gpuvitals.proto import pluginregistration_v1_pb2 as registration
from gpuvitals.proto.pluginregistration_v1_pb2_grpc import RegistrationStub
from gpuvitals_sim.apiserver import ApiServer
from gpuvitals_sim.cluster import NodeSettings, create_node
from support.worlds.plugin_world import channel

CLAIMS = "resourceclaims.resource.k8s.io"
SLICES = "resourceslices.resource.k8s.io"
Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Given:
    """One allocation result: a device of the driver by its number, or of somebody else."""

    device: int
    request: str = "r0"
    driver: str = ""
    share_id: str = ""
    admin: bool = False


class Driver(Protocol):
    """A driver on one node with at least three devices, without a kubelet."""

    name: str
    node: str
    registry: Path
    cdi: Path

    def start(self) -> None:
        """Starts it; it is not waited for."""
        ...

    def stop(self) -> None:
        """SIGTERM, and waits."""
        ...

    def kill(self) -> None:
        """SIGKILL, and waits."""
        ...

    def device(self, number: int) -> str:
        """The name under which the driver publishes a device."""
        ...

    def allocate(self, name: str, *given: Given) -> dra.Claim:
        """A claim that the scheduler has allocated these; none: it is not allocated. As the kubelet names it."""
        ...

    def remove(self, claim: dra.Claim) -> None:
        """The claim goes from the API server."""
        ...


class Gpuvitals:
    """The real agent on scripted GPUs, against the embedded API server."""

    name = "gpu.vitals.internal"
    node = NODE

    def __init__(self, folder: Path, server: ApiServer) -> None:
        settings = NodeSettings(name=NODE, gpus=4, agent_config=AGENT_CONFIG)
        self._node = create_node(folder, settings, server.url)
        self.registry, self.cdi = folder / "plugins_registry", folder / "cdi"
        self._agent = self._node.agent
        self._client = server.client("test")
        self._client.create("nodes", {"metadata": {"name": NODE}})

    def start(self) -> None:
        self._agent.start()

    def stop(self) -> None:
        self._agent.stop()

    def kill(self) -> None:
        self._agent.kill()

    def device(self, number: int) -> str:
        return self._node.device(number)

    def allocate(self, name: str, *given: Given) -> dra.Claim:
        names = sorted({one.request for one in given}) or ["r0"]
        requests = [_request(*each.split("/")) for each in names]
        body = {
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"devices": {"requests": requests}},
        }
        stored = self._client.create(CLAIMS, body)
        if given:
            results = [self._result(one) for one in given]
            status = {"allocation": {"devices": {"results": results}}}
            stored = self._client.update_status(CLAIMS, {**stored, "status": status})
        return dra.Claim(namespace="default", name=name, uid=stored["metadata"]["uid"])

    def remove(self, claim: dra.Claim) -> None:
        self._client.delete(CLAIMS, claim.name, "default")

    def _result(self, given: Given) -> Json:
        result: Json = {
            "request": given.request,
            "driver": given.driver or self.name,
            "pool": NODE,
            "device": self.device(given.device),
        }
        if given.share_id:
            result["shareID"] = given.share_id
        if given.admin:
            result["adminAccess"] = True
        return result


def _request(name: str, alternative: str = "") -> Json:
    if alternative:
        return {"name": name, "firstAvailable": [{"name": alternative, "deviceClassName": "any"}]}
    return {"name": name, "exactly": {"deviceClassName": "any"}}


@contextmanager
def gpuvitals() -> Iterator[Gpuvitals]:
    """The driver, not started; stopped with the block."""
    with tempfile.TemporaryDirectory(prefix="gv-", dir="/tmp") as made, ApiServer() as server:
        driver = Gpuvitals(Path(made), server)
        try:
            yield driver
        finally:
            driver.stop()


def registration_socket(driver: Driver, seconds: float = 20.0) -> Path:
    """The driver's socket in the registration directory, once it answers; there must be one."""
    until = time.monotonic() + seconds
    while True:
        found = [path for path in driver.registry.iterdir() if not path.name.startswith(".")]
        for path in found:
            try:
                get_info(path)
            except grpc.RpcError:
                continue
            return path
        assert time.monotonic() < until, f"no plugin answers: {found}"
        time.sleep(0.05)


def get_info(path: Path, seconds: float = 1.0) -> registration.PluginInfo:
    """As the kubelet asks, with its deadline."""
    with channel(path) as opened:
        return RegistrationStub(opened).GetInfo(registration.InfoRequest(), timeout=seconds)


def notify(path: Path, *, registered: bool, error: str = "") -> None:
    with channel(path) as opened:
        status = registration.RegistrationStatus(plugin_registered=registered, error=error)
        RegistrationStub(opened).NotifyRegistrationStatus(status, timeout=5)


def registered_endpoint(driver: Driver) -> Path:
    """The DRA socket, after the kubelet's two calls of registration."""
    path = registration_socket(driver)
    notify(path, registered=True)
    return Path(get_info(path).endpoint)


def cdi_devices(driver: Driver) -> dict[str, Json]:
    """Every CDI device by its qualified name, with its edits."""
    specs = [json.loads(path.read_text(encoding="utf-8")) for path in driver.cdi.glob("*.json")]
    return {
        f"{spec['kind']}={device['name']}": device["containerEdits"]
        for spec in specs
        for device in spec["devices"]
    }
