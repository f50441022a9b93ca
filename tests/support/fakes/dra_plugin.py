"""A small DRA plugin on real sockets, for tests of the simulated kubelet, with scripted answers and a record of calls."""

import json
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from gpuvitals.proto import (
    dra_health_v1_pb2,
    dra_health_v1_pb2_grpc,
    dra_health_v1alpha1_pb2,
    dra_health_v1alpha1_pb2_grpc,
    dra_v1_pb2,
    dra_v1_pb2_grpc,
    dra_v1beta1_pb2,
    dra_v1beta1_pb2_grpc,
    pluginregistration_v1_pb2,
    pluginregistration_v1_pb2_grpc,
)

DRIVER = "gpu.vitals.internal"
ALL_VERSIONS = ("v1.DRAPlugin", "v1beta1.DRAPlugin", "v1.DRAResourceHealth", "v1alpha1.DRAResourceHealth")
HEALTH = {"Unknown": 0, "Healthy": 1, "Unhealthy": 2}

Devices = dict[str, tuple[str, str]]
"""Health and message by device name."""


@dataclass
class Behaviour:
    """The behaviour of the plugin; tests change it while it runs. `prepare` returns an error text, or raises."""

    versions: tuple[str, ...] = ALL_VERSIONS
    prepare: Callable[[str], str] = lambda _uid: ""
    unprepare: Callable[[str], str] = lambda _uid: ""
    skip_answers: bool = False
    get_info_error: bool = False
    notify_error: bool = False
    health_error: grpc.StatusCode | None = None
    health_timeout_seconds: int = 0
    driver: str = DRIVER
    device: str = "gpu-0"
    requests: tuple[str, ...] = ("gpu",)
    cdi: bool = True


@dataclass
class Record:
    """The calls that the plugin received, in order: `prepare <service>`, `unprepare <service>`, `health <service>`, `notify ...`."""

    entries: list[str] = field(default_factory=list)

    def count(self, prefix: str) -> int:
        return sum(entry.startswith(prefix) for entry in self.entries)


class TinyPlugin:
    """Starts listening at once; `stop` ends it well, which removes the sockets."""

    def __init__(
        self, root: Path, pool: str, cdi_dir: Path, name: str = "one", behaviour: Behaviour | None = None
    ) -> None:
        self.does = behaviour or Behaviour()
        self.driver = self.does.driver
        self.calls = Record()
        self.pool = pool
        self.endpoint = root / f"dra-{name}.sock"
        self.registration = root / "plugins_registry" / f"{self.driver}-{name}-reg.sock"
        self.registration.parent.mkdir(parents=True, exist_ok=True)
        cdi_dir.mkdir(parents=True, exist_ok=True)
        self.cdi_dir = cdi_dir
        self._streams: list[queue.Queue[Devices | None]] = []
        self._lock = threading.Lock()
        self._server = self._serve(self.endpoint, self._add_dra)
        self._registrar = self._serve(self.registration, self._add_registration)

    def report(self, **devices: tuple[str, str]) -> None:
        """Sends a message on every open health stream; `gpu_0` is device gpu-0."""
        named = {name.replace("_", "-"): value for name, value in devices.items()}
        with self._lock:
            for stream in self._streams:
                stream.put(named)

    def end_streams(self) -> None:
        """Ends the health streams with OK."""
        with self._lock:
            for stream in self._streams:
                stream.put(None)

    def stop(self) -> None:
        self.end_streams()
        for server in (self._registrar, self._server):
            server.stop(0).wait(5)

    def _serve(self, path: Path, add: Callable[[grpc.Server], None]) -> grpc.Server:
        server = grpc.server(futures.ThreadPoolExecutor(8, thread_name_prefix="tiny-plugin"))
        add(server)
        server.add_insecure_port(f"unix:{path}")
        server.start()
        return server

    def _add_registration(self, server: grpc.Server) -> None:
        pluginregistration_v1_pb2_grpc.add_RegistrationServicer_to_server(_Registration(self), server)

    def _add_dra(self, server: grpc.Server) -> None:
        """Both versions of both services; one class serves either version, which the stubs can't know."""
        dra: Any = _Dra
        health: Any = _Health
        dra_v1_pb2_grpc.add_DRAPluginServicer_to_server(dra(self, dra_v1_pb2, "v1"), server)
        dra_v1beta1_pb2_grpc.add_DRAPluginServicer_to_server(dra(self, dra_v1beta1_pb2, "v1beta1"), server)
        dra_health_v1_pb2_grpc.add_DRAResourceHealthServicer_to_server(
            health(self, dra_health_v1_pb2, "v1"), server
        )
        dra_health_v1alpha1_pb2_grpc.add_DRAResourceHealthServicer_to_server(
            health(self, dra_health_v1alpha1_pb2, "v1alpha1"), server
        )

    def write_cdi(self, uid: str) -> str:
        """Writes the claim's CDI spec and gives its only id."""
        name = f"{uid}-{self.does.device}"
        edits = {
            "env": [f"GPU={self.does.device}"],
            "mounts": [{"hostPath": "/usr", "containerPath": "/usr/gpu"}],
        }
        spec = {
            "cdiVersion": "0.5.0",
            "kind": f"{self.driver}/gpu",
            "devices": [{"name": name, "containerEdits": edits}],
        }
        (self.cdi_dir / f"{uid}.json").write_text(json.dumps(spec))
        return f"{self.driver}/gpu={name}"

    def open_stream(self) -> "queue.Queue[Devices | None]":
        stream: queue.Queue[Devices | None] = queue.Queue()
        with self._lock:
            self._streams.append(stream)
        return stream

    def close_stream(self, stream: "queue.Queue[Devices | None]") -> None:
        with self._lock:
            self._streams.remove(stream)


class _Registration(pluginregistration_v1_pb2_grpc.RegistrationServicer):
    def __init__(self, plugin: TinyPlugin) -> None:
        self._plugin = plugin

    def GetInfo(self, request: Any, context: Any) -> Any:  # noqa: N802  # name of the wire
        self._plugin.calls.entries.append("getinfo")
        if self._plugin.does.get_info_error:
            context.abort(grpc.StatusCode.INTERNAL, "not now")
        return pluginregistration_v1_pb2.PluginInfo(
            type="DRAPlugin",
            name=self._plugin.driver,
            endpoint=str(self._plugin.endpoint),
            supported_versions=list(self._plugin.does.versions),
        )

    def NotifyRegistrationStatus(self, request: Any, context: Any) -> Any:  # noqa: N802  # name of the wire
        self._plugin.calls.entries.append(f"notify {request.plugin_registered} {request.error}")
        if self._plugin.does.notify_error:
            context.abort(grpc.StatusCode.INTERNAL, "not now")
        return pluginregistration_v1_pb2.RegistrationStatusResponse()


class _Dra:
    def __init__(self, plugin: TinyPlugin, messages: Any, version: str) -> None:
        self._plugin = plugin
        self._messages = messages
        self._version = version

    def NodePrepareResources(self, request: Any, context: Any) -> Any:  # noqa: N802  # name of the wire
        self._plugin.calls.entries.append(f"prepare {self._version} {len(request.claims)}")
        response = self._messages.NodePrepareResourcesResponse()
        for claim in request.claims if not self._plugin.does.skip_answers else ():
            answer = response.claims[claim.uid]
            answer.error = self._plugin.does.prepare(claim.uid)
            if not answer.error:
                device = answer.devices.add(pool_name=self._plugin.pool, device_name=self._plugin.does.device)
                device.request_names.extend(self._plugin.does.requests)
                if self._plugin.does.cdi:
                    device.cdi_device_ids.append(self._plugin.write_cdi(claim.uid))
        return response

    def NodeUnprepareResources(self, request: Any, context: Any) -> Any:  # noqa: N802  # name of the wire
        self._plugin.calls.entries.append(f"unprepare {self._version} {len(request.claims)}")
        response = self._messages.NodeUnprepareResourcesResponse()
        for claim in request.claims:
            response.claims[claim.uid].error = self._plugin.does.unprepare(claim.uid)
        return response


class _Health:
    def __init__(self, plugin: TinyPlugin, messages: Any, version: str) -> None:
        self._plugin = plugin
        self._messages = messages
        self._version = version

    def NodeWatchResources(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802  # name of the wire
        self._plugin.calls.entries.append(f"health {self._version}")
        if self._plugin.does.health_error is not None:
            context.abort(self._plugin.does.health_error, "no")
        stream = self._plugin.open_stream()
        try:
            while context.is_active():
                try:
                    devices = stream.get(timeout=0.05)
                except queue.Empty:
                    continue
                if devices is None:
                    return
                yield self._message(devices)
        finally:
            self._plugin.close_stream(stream)

    def _message(self, devices: Devices) -> Any:
        response = self._messages.NodeWatchResourcesResponse()
        for name, (health, message) in devices.items():
            entry = response.devices.add(health=HEALTH[health], message=message, last_updated_time=1)
            entry.device.pool_name, entry.device.device_name = self._plugin.pool, name
            entry.health_check_timeout_seconds = self._plugin.does.health_timeout_seconds
        return response
