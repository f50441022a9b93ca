"""A slice publisher on the embedded API server with one Node, for its tests."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from gpuvitals.inventory.device import Device, Taint, TaintEffect
from gpuvitals.inventory.pool import Pool, PoolSlice
from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.kube.slices.ports import PoolSource, PublisherSettings
from gpuvitals.kube.slices.publisher import SlicePublisher
from gpuvitals.kube.transport import Call, ConnectSettings, LineStream, Transport, connect
from gpuvitals.model.ids import DeviceName, NodeName
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals_sim.apiserver import ApiServer

DRIVER, NOTE = "gpu.vitals.internal", "vitals.internal/node-report"
KIND = "resourceslices.resource.k8s.io"


def device(index: int, *, failed: bool = False) -> Device:
    taint = Taint(key=f"{DRIVER}/unhealthy", value="Xid79", effect=TaintEffect.NO_SCHEDULE)
    return Device(
        name=DeviceName(f"gpu-{index}"),
        attributes=(("health/score", 0 if failed else 100),),
        capacity=(("memory", "80Gi"),),
        taints=(taint,) if failed else (),
    )


@dataclass(frozen=True)
class EightGpus:
    """A pool of eight devices, some of them failed."""

    failed: tuple[int, ...]

    def pool(self, mode: ServiceMode) -> Pool:
        devices = [device(index, failed=index in self.failed) for index in range(8)]
        if mode is ServiceMode.WITHDRAW:
            devices = [replace(entry, taints=()) for entry in devices if not entry.taints]
        entry = PoolSlice(index=0, devices=tuple(devices), annotations=((NOTE, "{}"),))
        return Pool(node=NodeName("node-a"), driver=DRIVER, slices=(entry,))


def pool_for(*failed: int) -> PoolSource:
    return EightGpus(failed)


class Progress:
    """A listener that keeps the stored revisions and the refusals."""

    def __init__(self) -> None:
        self.published: list[int] = []
        self.refusals: list[str] = []

    def stored(self, revision: int) -> None:
        self.published.append(revision)

    def slices_refused(self, reason: str) -> None:
        self.refusals.append(reason)


class LateAnswers:
    """A transport whose answers to updates come after the watch has shown the next delete."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._has_shown_delete = threading.Event()
        self.is_written = threading.Event()

    def request(self, call: Call) -> bytes:
        answer = self._transport.request(call)
        if call.method == "PUT":
            self.is_written.set()
            assert self._has_shown_delete.wait(10)
        return answer

    @contextmanager
    def stream(self, call: Call) -> Iterator[LineStream]:
        with self._transport.stream(call) as lines:
            yield _Watched(lines, self._has_shown_delete)


class _Watched:
    def __init__(self, lines: LineStream, has_shown_delete: threading.Event) -> None:
        self._lines = lines
        self._has_shown_delete = has_shown_delete

    def __iter__(self) -> Iterator[bytes]:
        for line in self._lines:
            yield line
            # Asked for the next line, the reader has taken this one.
            if b'"DELETED"' in line:
                self._has_shown_delete.set()

    def cut(self) -> None:
        self._lines.cut()


class World:
    """A server with one Node, and a publisher on it."""

    def __init__(
        self, server: ApiServer, *, through: Callable[[Transport], Transport] | None = None, **changed: Any
    ) -> None:
        self.server = server
        self.client = server.client("test")
        self.progress = Progress()
        self.published, self.refusals = self.progress.published, self.progress.refusals
        if self.client.find("nodes", "node-a") is None:
            self.create_node()
        self.transport = connect(ConnectSettings(url=server.url))
        self.settings = PublisherSettings(
            **{
                "driver": DRIVER,
                "node": "node-a",
                "annotation": NOTE,
                "mode": ServiceMode.TAINT,
                **changed,
            }
        )
        self.metrics = NodeMetrics("test")
        wire: Transport = self.transport if through is None else through(self.transport)
        self.publisher = SlicePublisher(self.settings, wire, self.metrics, self.progress)

    def create_node(self) -> str:
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"}}
        made: str = self.client.create("nodes", body)["metadata"]["uid"]
        return made

    def slices(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.client.list(KIND)
        return listed

    def publish(self, revision: int, *failed: int) -> None:
        self.publisher.publish(pool_for(*failed), revision)
        self.wait(lambda: revision in self.published)

    def wait(self, holds: Callable[[], bool], seconds: float = 5.0) -> float:
        started = time.monotonic()
        while not holds():
            assert time.monotonic() - started < seconds, "did not happen in time"
            time.sleep(0.005)
        return time.monotonic() - started

    def wipe(self) -> None:
        for entry in self.slices():
            self.client.delete(KIND, entry["metadata"]["name"])

    def taint_of(self, index: int) -> dict[str, Any]:
        taint: dict[str, Any] = self.slices()[0]["spec"]["devices"][index]["taints"][0]
        return taint

    def writes(self) -> list[str]:
        return [entry.method for entry in self.server.requests.writes(resource="resourceslices")]


@contextmanager
def running(server: ApiServer | None = None, *, connected: bool = True, **changed: Any) -> Iterator[World]:
    with server or ApiServer() as serving:
        with started(World(serving, **changed), connected=connected) as built:
            yield built
        assert serving.failures == ()


@contextmanager
def started(built: World, *, connected: bool = True) -> Iterator[World]:
    built.publisher.start()
    built.publisher.set_kubelet_connected(connected)
    try:
        yield built
    finally:
        built.publisher.stop(5)
        built.transport.close()
