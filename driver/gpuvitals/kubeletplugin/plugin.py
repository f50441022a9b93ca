"""Composes the kubelet edge into one object, which is started first and stopped last.

It starts in two steps, because the kubelet does not wait: `start` opens the sockets with the settings alone; `attach`
adds the parts that take longer to construct. In between, registration and Unprepare work, prepared claims are answered
again, and a first Prepare waits.
"""

import threading
from collections.abc import Callable

from gpuvitals.inventory.claims import PreparedDevice
from gpuvitals.kubeletplugin.attached_ports import AttachedPorts
from gpuvitals.kubeletplugin.cdi.driver_root import DriverRoot
from gpuvitals.kubeletplugin.cdi.files import CdiFiles, CdiNames
from gpuvitals.kubeletplugin.checkpoint.checkpoint import Checkpoint
from gpuvitals.kubeletplugin.claims.claim_queue import ClaimQueue
from gpuvitals.kubeletplugin.claims.preparer import Preparer, PreparerContext, Store
from gpuvitals.kubeletplugin.claims.reconciler import Reconciler, ReconcilerContext
from gpuvitals.kubeletplugin.debug_socket import DebugSocket
from gpuvitals.kubeletplugin.directory import Directory, StorageError
from gpuvitals.kubeletplugin.dra_service import DraContext, DraService
from gpuvitals.kubeletplugin.health_service import HealthService, HealthSources
from gpuvitals.kubeletplugin.held_claim import prepared_devices
from gpuvitals.kubeletplugin.instance import Instance
from gpuvitals.kubeletplugin.kubelet_connection import KubeletConnection
from gpuvitals.kubeletplugin.ports import PluginListener, PluginPorts
from gpuvitals.kubeletplugin.prepared_claims import PluginListeners, PreparedClaims
from gpuvitals.kubeletplugin.publisher_lock import PublisherLock
from gpuvitals.kubeletplugin.registration import PluginIdentity, RegistrationService
from gpuvitals.kubeletplugin.self_probe import probe
from gpuvitals.kubeletplugin.server import PluginServer, Services, ensure_private
from gpuvitals.kubeletplugin.settings import PluginSettings
from gpuvitals.kubeletplugin.sockets import SocketPaths, socket_paths
from gpuvitals.kubeletplugin.telemetry import OutcomeReporter, TelemetryBuffer
from gpuvitals.model.clock import Clock
from gpuvitals.model.ids import BootId
from gpuvitals.model.snapshot import Snapshot


class KubeletPlugin:
    """The DRA kubelet plugin of one node, and the only writer of its prepared claims. Thread safe.

    `fatal` is called on one of the plugin's threads, with the reason, if it can't continue; the process should end.
    """

    def __init__(self, settings: PluginSettings, clock: Clock, fatal: Callable[[str], None]) -> None:
        limits = settings.limits
        self.settings = settings
        self.paths: SocketPaths = socket_paths(
            settings.naming.driver, settings.pod_uid, settings.data_directory, settings.registry_directory
        )
        self.driver_root = DriverRoot(settings.driver_root)
        self._clock = clock
        self._fatal = fatal
        self._stop = threading.Event()
        self._ports = AttachedPorts()
        self._telemetry = TelemetryBuffer()
        self._listeners = PluginListeners()
        self._debug: DebugSocket | None = None
        self._connection = KubeletConnection(limits.connected_seconds, self._telemetry, self._listeners)
        self._queue = ClaimQueue()
        self._store = self._build_store()
        self._publisher = PublisherLock(
            settings.data_directory, clock.now().at, settings.pod_uid, limits.standby_seconds
        )
        sources = HealthSources(
            ports=self._ports,
            checkpoint=self._store.checkpoint,
            publisher=self._publisher,
            connection=self._connection,
        )
        self._health = HealthService(sources, limits, settings.node)
        self._prepared = PreparedClaims(
            self._store.checkpoint, self._health, self._telemetry, self._listeners
        )
        self._reporter = OutcomeReporter(self._telemetry, self._prepared)
        self._preparer = self._build_preparer()
        self._reconciler = self._build_reconciler()
        self._server = self._build_server()

    def start(self) -> None:
        """Opens the sockets. Raises SocketError, StorageError or InstanceRunningError, with everything closed again."""
        ensure_private(self.settings)
        self._publisher.announce(exclusive=not self.settings.pod_uid)
        try:
            self._server.start()
        except Exception:  # raised on; the directory must be free for the next attempt
            self._publisher.stop()
            raise
        self._reporter.start()
        instance = Instance(self.settings, self._ports, self._telemetry, self._health, self._listeners)
        self._publisher.start(instance)
        self._reconciler.start()
        self._server.sweep()

    def attach(self, ports: PluginPorts) -> None:
        """Sets the ports; calls that waited for them continue. Raises OSError if the debug socket can't be opened."""
        self._ports.attach(ports)
        self._telemetry.attach(ports)
        self._queue.wake()
        self._health.notify()
        if ports.debug is not None:
            self._debug = DebugSocket(self.settings.data_directory, ports.debug)
            self._debug.start()

    def stop(self, deadline_seconds: float) -> None:
        """Ends the streams, lets current calls finish, and removes this instance's sockets. Prepared claims stay."""
        self._stop.set()
        self._queue.wake()
        if self._debug is not None:
            self._debug.stop()
        self._server.stop(deadline_seconds)
        self._reporter.stop(deadline_seconds)
        self._reconciler.stop(deadline_seconds)
        self._publisher.stop()

    def notify(self, snapshot: Snapshot) -> None:
        """Sends a new snapshot to the health streams and wakes waiting Prepares. Returns at once."""
        self._ports.notify(snapshot)
        self._queue.wake()
        self._health.notify()

    def subscribe(self, listener: PluginListener) -> None:
        """Calls `listener` after changes. Before `attach`."""
        self._listeners.add(listener)

    def prepared(self) -> tuple[PreparedDevice, ...]:
        """All prepared devices of this node, whichever instance prepared them."""
        return prepared_devices(self._store.checkpoint.known())

    def kubelet_connected(self) -> bool:
        """Whether a kubelet is connected that can run pods with this driver's devices."""
        return self._connection.connected()

    def publishing(self) -> bool:
        """Whether this instance publishes: it is the newest one that runs and is ready."""
        return self._publisher.publishing()

    def stands_by(self) -> str:
        """The pod UID of the instance that publishes in place of this one; empty without one."""
        return self._publisher.stands_by

    def probe(self, seconds: float) -> None:
        """Calls the plugin's own sockets. Raises ProbeError if one does not answer within `seconds`."""
        probe(self.paths, seconds)

    def _build_store(self) -> Store:
        settings = self.settings
        boot = _boot_id(settings)
        names = CdiNames(naming=settings.naming, boot=boot)
        cdi = CdiFiles(Directory(settings.cdi_directory), self.driver_root, names, self._ports)
        checkpoint = Checkpoint(
            settings.data_directory, boot, cdi, self._telemetry, settings.limits.lock_wait_seconds
        )
        return Store(checkpoint=checkpoint, cdi=cdi)

    def _build_preparer(self) -> Preparer:
        context = PreparerContext(
            naming=self.settings.naming,
            node=self.settings.node,
            limits=self.settings.limits,
            clock=self._clock,
            stop=self._stop,
            ports=self._ports,
            events=self._telemetry,
        )
        return Preparer(self._store, self._queue, context)

    def _build_reconciler(self) -> Reconciler:
        context = ReconcilerContext(
            naming=self.settings.naming,
            node=self.settings.node,
            limits=self.settings.limits,
            ports=self._ports,
            publisher=self._publisher,
            events=self._telemetry,
            prepared=self._prepared,
        )
        return Reconciler(self._store, self._queue, self._preparer, context)

    def _build_server(self) -> PluginServer:
        context = DraContext(
            naming=self.settings.naming,
            node=self.settings.node,
            clock=self._clock,
            limits=self.settings.limits,
            reporter=self._reporter,
        )
        identity = PluginIdentity(driver=self.settings.naming.driver, endpoint=str(self.paths.dra))
        services = Services(
            dra=DraService(self._preparer, context),
            health=self._health,
            registration=RegistrationService(identity, self._connection, self._telemetry),
        )
        return PluginServer(self.settings, self.paths, services, self._fatal)


def _boot_id(settings: PluginSettings) -> BootId:
    try:
        return BootId(settings.boot_id_file.read_text(encoding="ascii").strip())
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(
            f"{settings.boot_id_file}: {error}; without a boot id the checkpoint can't be used"
        ) from error
