"""Registers plugins: scans the registration directory, calls GetInfo on each socket, and sends the result.

Place in the chain: the entry of plugins. It scans about once a second; a socket that was replaced under its name is
unregistered in one scan and registered in the next.
Source: kubernetes/kubernetes pkg/kubelet/pluginmanager; observed on 1.37.2.
"""

import logging
import random
import threading
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISSOCK

import grpc

from gpuvitals.proto import pluginregistration_v1_pb2, pluginregistration_v1_pb2_grpc
from gpuvitals_sim.kubelet.config import KubeletConfig
from gpuvitals_sim.kubelet.plugin import Plugin, PluginEvents, PluginId, rpc_text
from gpuvitals_sim.kubelet.plugin_manager import PluginManager

log = logging.getLogger(__name__)

_TYPE = "DRAPlugin"
_MAX_BACKOFFS = 10
_JOIN_SECONDS = 10.0


class Refused(Exception):
    """The plugin can't be registered; the message is sent to it."""


@dataclass(slots=True)
class _Socket:
    """One socket in the directory: its inode and time, and the result of its registration."""

    identity: tuple[int, int]
    plugin: Plugin | None = None
    failures: int = 0
    waits_looks: int = 0


class Registrar:
    """Keeps `plugins` equal to the sockets in the registration directory."""

    def __init__(
        self, config: KubeletConfig, plugins: PluginManager, events: PluginEvents, rng: random.Random
    ) -> None:
        self._config = config
        self._plugins = plugins
        self._events = events
        self._rng = rng
        self._sockets: dict[Path, _Socket] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"kubelet {config.node_name} registrar")
        self._first_look_seconds = 0.0

    def start(self, first_look_seconds: float) -> None:
        """Starts scanning, the first time after this delay."""
        self._config.registry_dir.mkdir(parents=True, exist_ok=True)
        self._first_look_seconds = first_look_seconds
        self._thread.start()

    def stop(self) -> None:
        """Stops scanning; registered plugins stay registered."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        wait = self._first_look_seconds
        while not self._stop.wait(wait):
            self._look()
            wait = self._config.timings.registration_tick_seconds

    def _look(self) -> None:
        present = _sockets_in(self._config.registry_dir)
        replaced = set()
        for path, socket in list(self._sockets.items()):
            if present.get(path) != socket.identity:
                replaced.add(path)
                del self._sockets[path]
                if socket.plugin is not None:
                    self._plugins.remove(socket.plugin)
        for path, identity in self._in_some_order(present):
            if path in replaced or self._stop.is_set():
                continue
            socket = self._sockets.setdefault(path, _Socket(identity))
            if socket.plugin is None:
                self._try(path, socket)

    def _in_some_order(self, present: dict[Path, tuple[int, int]]) -> list[tuple[Path, tuple[int, int]]]:
        """The sockets in random order, since those of one scan have no order of their own."""
        entries = sorted(present.items())
        self._rng.shuffle(entries)
        return entries

    def _try(self, path: Path, socket: _Socket) -> None:
        if socket.waits_looks > 0:
            socket.waits_looks -= 1
            return
        socket.plugin = self._register(path)
        if socket.plugin is None:
            socket.failures += 1
            ticks = self._config.timings.registration_backoff_seconds * min(socket.failures, _MAX_BACKOFFS)
            socket.waits_looks = round(ticks / self._config.timings.registration_tick_seconds) - 1
        else:
            socket.failures = 0

    def _register(self, path: Path) -> Plugin | None:
        """Registers one plugin over a connection of its own. Returns it, or None."""
        timings = self._config.timings
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"unix:{path}", options=options) as channel:
            stub = pluginregistration_v1_pb2_grpc.RegistrationStub(channel)
            plugin = None
            try:
                request = pluginregistration_v1_pb2.InfoRequest()
                info = stub.GetInfo(request, timeout=timings.get_info_seconds)
                plugin = self._accept(path, info)
                self._notify(stub, plugin)
            except Refused as refused:
                self._refuse(stub, str(refused))
            except grpc.RpcError as error:
                log.debug("registration at %s: %s; tried again", path, rpc_text(error))
                if plugin is not None:
                    self._plugins.remove(plugin)
                    plugin = None
        return plugin

    def _accept(self, path: Path, info: pluginregistration_v1_pb2.PluginInfo) -> Plugin:
        if info.type != _TYPE:
            raise Refused(f"no handler registered for plugin type: {info.type} at socket {path}")
        identity = self._identity(info)
        if self._plugins.has(identity.driver, identity.endpoint):
            raise Refused(
                f"endpoint {identity.endpoint} already registered for DRA driver plugin {identity.driver}: "
                "one plugin instance cannot hijack the other"
            )
        plugin = Plugin(identity, self._events, self._config.timings)
        self._plugins.add(plugin)
        return plugin

    def _identity(self, info: pluginregistration_v1_pb2.PluginInfo) -> PluginId:
        """The chosen services: DRA by the plugin's order, health by the kubelet's. Raises Refused."""
        offered, known = list(info.supported_versions), self._config.dra_services
        dra = next((service for service in offered if service in known), "")
        if not dra:
            raise Refused(
                f"none of services supported by the plugin ({_quoted(offered)}) are supported by the kubelet "
                f"({_quoted(known)})"
            )
        health = next((service for service in self._config.health_services if service in offered), "")
        return PluginId(driver=info.name, endpoint=info.endpoint, dra_service=dra, health_service=health)

    def _notify(self, stub: pluginregistration_v1_pb2_grpc.RegistrationStub, plugin: Plugin) -> None:
        """Sends the successful registration; the health stream may be opened before or after that."""
        stream_first = self._rng.random() < 0.5
        if stream_first:
            plugin.watch_health()
        status = pluginregistration_v1_pb2.RegistrationStatus(plugin_registered=True)
        stub.NotifyRegistrationStatus(status, timeout=self._config.timings.notify_seconds)
        plugin.watch_health()

    def _refuse(self, stub: pluginregistration_v1_pb2_grpc.RegistrationStub, text: str) -> None:
        status = pluginregistration_v1_pb2.RegistrationStatus(plugin_registered=False, error=text)
        try:
            stub.NotifyRegistrationStatus(status, timeout=self._config.timings.notify_seconds)
        except grpc.RpcError as error:
            log.debug("refused plugin: %s", rpc_text(error))


def _quoted(services: list[str] | tuple[str, ...]) -> str:
    return "[" + " ".join(f'"{service}"' for service in services) + "]"


def _sockets_in(directory: Path) -> dict[Path, tuple[int, int]]:
    """The sockets of the directory with inode and change time, which differ for a successor of the same name."""
    found = {}
    for path in directory.iterdir():
        if path.name.startswith("."):
            continue
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # removed since it was listed
        if S_ISSOCK(status.st_mode):
            found[path] = (status.st_ino, status.st_ctime_ns)
    return found
