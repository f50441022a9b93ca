"""The plugin's two gRPC servers: the DRA socket first, then the registration socket that leads to it.

Access is controlled by the modes of the directory (0700) and of the sockets (0600), because a synchronous grpcio handler
has no access to its peer's credentials.
"""

import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc

from gpuvitals.kubeletplugin.dra_service import DRA_VERSIONS, DraService, DraServicer
from gpuvitals.kubeletplugin.health_service import HEALTH_VERSIONS, HealthService, HealthServicer
from gpuvitals.kubeletplugin.registration import RegistrationService
from gpuvitals.kubeletplugin.settings import PluginSettings
from gpuvitals.kubeletplugin.sockets import PublishedSocket, SocketError, SocketPaths, sweep_dead
from gpuvitals.observability.logs import keys
from gpuvitals.proto.pluginregistration_v1_pb2_grpc import add_RegistrationServicer_to_server
from gpuvitals.stoppable_thread import StoppableThread

_REGISTRATION_CALLS = 2
_MAX_REPAIRS = 3
_JOIN_SECONDS = 2.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The services of both sockets."""

    dra: DraService
    health: HealthService
    registration: RegistrationService


class PluginServer:
    """Opens, watches and closes the sockets. `fatal` is called once, with the reason, if they can't be kept open."""

    def __init__(
        self, settings: PluginSettings, paths: SocketPaths, services: Services, fatal: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._paths = paths
        self._services = services
        self._fatal = fatal
        self._dra = PublishedSocket(paths.dra)
        self._registration = PublishedSocket(paths.registration)
        limits = settings.limits
        # Each service bounds its calls, so this number of threads is enough for all kinds of calls together.
        threads = limits.max_streams + limits.max_prepares + limits.max_unprepares + limits.spare_calls
        self._dra_pool = ThreadPoolExecutor(threads, "kubeletplugin-dra")
        self._registration_pool = ThreadPoolExecutor(_REGISTRATION_CALLS, "kubeletplugin-registration")
        self._dra_server = grpc.server(self._dra_pool)
        self._registration_server = grpc.server(self._registration_pool)
        self._watch = StoppableThread(self._watch_sockets, name="kubeletplugin-sockets", daemon=False)

    def start(self) -> None:
        """Starts to listen on both sockets. Raises SocketError, with both closed."""
        handlers = [DraServicer(self._services.dra, version).handler() for version in DRA_VERSIONS]
        handlers += [HealthServicer(self._services.health, version).handler() for version in HEALTH_VERSIONS]
        self._dra_server.add_generic_rpc_handlers(handlers)
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
        """Removes the sockets of killed instances. Not part of `start`, because it is not urgent."""
        try:
            removed = sweep_dead(self._settings.naming.driver, self._paths)
        except OSError as error:
            log.warning("dead sockets not removed", extra=keys(reason=error))
            return
        if removed:
            log.info("dead sockets removed", extra=keys(paths=[str(path) for path in removed]))

    def stop(self, grace_seconds: float) -> None:
        """Refuses new calls, ends the health streams, lets current calls finish, and removes this instance's sockets."""
        self._watch.stop(_JOIN_SECONDS)
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
        """Restores a public name that was removed or taken; without it the kubelet can't connect again."""
        repairs = 0
        while not self._watch.stopping.wait(self._settings.limits.watch_seconds):
            lost = [each for each in (self._dra, self._registration) if not each.is_published()]
            if not lost:
                repairs = 0
                continue
            repairs += 1
            try:
                for published in lost:
                    published.publish()
                    log.warning("socket restored", extra=keys(path=published.public))
            except SocketError as error:
                if repairs >= _MAX_REPAIRS:
                    self._fatal(str(error))
                    return
                log.warning("socket lost", extra=keys(reason=error))


def ensure_private(settings: PluginSettings) -> None:
    """Creates the data directory, accessible to root only, and the registration directory. Raises SocketError."""
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
