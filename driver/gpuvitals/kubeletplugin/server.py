"""The two gRPC servers of the plugin: the DRA socket first, then the registration socket that leads to it.

Access is controlled by the directory's mode, 0700, and the sockets' own, 0600: a sync grpcio handler is not told its
peer's credentials.
"""

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc

from gpuvitals.kubeletplugin.dra_service import DraService, DraV1, DraV1beta1
from gpuvitals.kubeletplugin.health_service import HealthService, HealthV1, HealthV1alpha1
from gpuvitals.kubeletplugin.registration import RegistrationService
from gpuvitals.kubeletplugin.settings import PluginSettings
from gpuvitals.kubeletplugin.sockets import PublishedSocket, SocketError, SocketPaths, sweep_dead
from gpuvitals.observability.logs import keys
from gpuvitals.proto.dra_health_v1_pb2_grpc import add_DRAResourceHealthServicer_to_server as add_health_v1
from gpuvitals.proto.dra_health_v1alpha1_pb2_grpc import (
    add_DRAResourceHealthServicer_to_server as add_health_v1alpha1,
)
from gpuvitals.proto.dra_v1_pb2_grpc import add_DRAPluginServicer_to_server as add_dra_v1
from gpuvitals.proto.dra_v1beta1_pb2_grpc import add_DRAPluginServicer_to_server as add_dra_v1beta1
from gpuvitals.proto.pluginregistration_v1_pb2_grpc import add_RegistrationServicer_to_server

_REGISTRATION_CALLS = 2
_MAX_REPAIRS = 3
_JOIN_SECONDS = 2.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the servers serve."""

    dra: DraService
    health: HealthService
    registration: RegistrationService


class PluginServer:
    """Opens, watches and closes the sockets. `fatal` is called once, with the reason, when they can't be kept open."""

    def __init__(
        self, settings: PluginSettings, paths: SocketPaths, services: Services, fatal: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._paths = paths
        self._services = services
        self._fatal = fatal
        self._stop = threading.Event()
        self._dra = PublishedSocket(paths.dra)
        self._registration = PublishedSocket(paths.registration)
        limits = settings.limits
        # Every kind of call is bounded by its service, so that this many threads are enough for all kinds together.
        threads = limits.max_streams + limits.max_prepares + limits.max_unprepares + limits.spare_calls
        self._dra_pool = ThreadPoolExecutor(threads, "kubeletplugin-dra")
        self._registration_pool = ThreadPoolExecutor(_REGISTRATION_CALLS, "kubeletplugin-registration")
        self._dra_server = grpc.server(self._dra_pool)
        self._registration_server = grpc.server(self._registration_pool)
        self._watch = threading.Thread(target=self._watch_sockets, name="kubeletplugin-sockets", daemon=False)

    def start(self) -> None:
        """Both sockets are listening when this returns. Raises SocketError."""
        add_dra_v1(DraV1(self._services.dra), self._dra_server)
        add_dra_v1beta1(DraV1beta1(self._services.dra), self._dra_server)
        add_health_v1(HealthV1(self._services.health), self._dra_server)
        add_health_v1alpha1(HealthV1alpha1(self._services.health), self._dra_server)
        add_RegistrationServicer_to_server(self._services.registration, self._registration_server)
        try:
            _listen(self._dra_server, self._dra)
            _listen(self._registration_server, self._registration)
        except SocketError:
            self._close(0.0)
            raise
        self._watch.start()
        log.info("sockets open", extra=keys(dra=self._paths.dra, registration=self._paths.registration))

    def sweep(self) -> None:
        """Removes sockets of killed predecessors; not urgent, so not part of `start`."""
        try:
            removed = sweep_dead(self._settings.naming.driver, self._paths)
        except OSError as error:
            log.warning("dead sockets not removed", extra=keys(reason=error))
            return
        if removed:
            log.info("dead sockets removed", extra=keys(paths=[str(path) for path in removed]))

    def stop(self, grace_seconds: float) -> None:
        """Takes no new call, ends the health streams, lets calls in flight finish, removes the own sockets."""
        self._stop.set()
        if self._watch.ident is not None:
            self._watch.join(_JOIN_SECONDS)
        self._services.health.stop()
        self._close(grace_seconds)

    def _close(self, grace_seconds: float) -> None:
        for published in (self._registration, self._dra):
            try:
                published.withdraw()
            except SocketError as error:
                log.warning("socket not removed", extra=keys(reason=error))
        stopped = [
            self._registration_server.stop(grace_seconds),
            self._dra_server.stop(grace_seconds),
        ]
        for event in stopped:
            event.wait(grace_seconds + 1)
        for pool in (self._registration_pool, self._dra_pool):
            pool.shutdown(wait=False, cancel_futures=True)

    def _watch_sockets(self) -> None:
        """Puts a public name back that somebody removed or took: without it the kubelet never comes again."""
        repairs = 0
        while not self._stop.wait(self._settings.limits.watch_seconds):
            lost = [each for each in (self._dra, self._registration) if not each.is_published()]
            if not lost:
                repairs = 0
                continue
            repairs += 1
            try:
                for published in lost:
                    published.publish()
                    log.warning("socket put back", extra=keys(path=published.public))
            except SocketError as error:
                if repairs >= _MAX_REPAIRS:
                    self._fatal(str(error))
                    return
                log.warning("socket lost", extra=keys(reason=error))


def ensure_private(settings: PluginSettings) -> None:
    """The data directory exists and only root enters it; the registration directory exists. Raises SocketError."""
    try:
        settings.data_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chmod(settings.data_directory, 0o700)
        settings.registry_directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        raise SocketError(f"{error.filename}: {error.strerror}; the plugin can't start") from error


def _listen(server: grpc.Server, published: PublishedSocket) -> None:
    try:
        server.add_insecure_port(published.address)
    except RuntimeError as error:
        raise SocketError(f"{published.public}: grpc can't bind: {error}") from error
    server.start()
    published.publish()
