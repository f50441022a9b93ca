"""Composes the kubelet edge: one object that wiring starts first and stops last.

Two steps, because the kubelet's clock runs: `start` opens the sockets with nothing but the settings; `attach` brings
what takes longer to construct. In between, registration works, prepared claims are released and answered again, and a
first preparation waits.
"""

import logging
import threading
from collections.abc import Callable

from gpuvitals.inventory.claims import PreparedDevice
from gpuvitals.kubeletplugin.cdi.driver_root import DriverRoot
from gpuvitals.kubeletplugin.cdi.files import CdiFiles, CdiNames
from gpuvitals.kubeletplugin.checkpoint.checkpoint import Checkpoint
from gpuvitals.kubeletplugin.checkpoint.format import State
from gpuvitals.kubeletplugin.claims.claim_queue import ClaimQueue
from gpuvitals.kubeletplugin.claims.preparer import Context, Preparer, Store
from gpuvitals.kubeletplugin.claims.reconciler import ReconcileContext, Reconciler
from gpuvitals.kubeletplugin.debug_socket import DebugSocket
from gpuvitals.kubeletplugin.directory import Directory, StorageError
from gpuvitals.kubeletplugin.dra_service import DraContext, DraService
from gpuvitals.kubeletplugin.health_service import HealthService, HealthView
from gpuvitals.kubeletplugin.held_claim import prepared_devices
from gpuvitals.kubeletplugin.outbox import TelemetryBuffer
from gpuvitals.kubeletplugin.outcome import RefusedError
from gpuvitals.kubeletplugin.ports import PluginEvent, PluginPorts
from gpuvitals.kubeletplugin.publisher_lock import InstanceHooks, PublisherLock
from gpuvitals.kubeletplugin.registration import KubeletConnection, PluginIdentity, RegistrationService
from gpuvitals.kubeletplugin.self_probe import probe
from gpuvitals.kubeletplugin.server import PluginServer, Services, ensure_private
from gpuvitals.kubeletplugin.settings import PluginSettings
from gpuvitals.kubeletplugin.sockets import SocketPaths, socket_paths
from gpuvitals.kubeletplugin.telemetry import Listeners, OutcomeReporter
from gpuvitals.model.clock import Clock
from gpuvitals.model.ids import BootId
from gpuvitals.model.snapshot import Snapshot
from gpuvitals.observability.logs import keys

log = logging.getLogger(__name__)


class KubeletPlugin:
    """The DRA kubelet plugin of one node. It alone owns what is prepared. Thread safe.

    `fatal` is called, from a thread of the plugin, with the reason why it can't go on: the process should end.
    """

    def __init__(self, settings: PluginSettings, clock: Clock, fatal: Callable[[str], None]) -> None:
        self.settings = settings
        self.paths: SocketPaths = socket_paths(
            settings.naming.driver, settings.pod_uid, settings.data_directory, settings.registry_directory
        )
        self._outbox = TelemetryBuffer()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._told: State | None = None
        self._notified: Snapshot | None = None
        self._debug: DebugSocket | None = None
        self._prepared_callbacks: list[Callable[[], None]] = []
        self._kubelet_callbacks: list[Callable[[], None]] = []
        self._connection = KubeletConnection(settings.limits.connected_seconds, self._kubelet_changed)
        self._turns = ClaimQueue()
        self.driver_root = DriverRoot(settings.driver_root)
        self._store = self._build_store()
        hooks = InstanceHooks(
            is_ready=self._can_publish,
            changed=self._publishing_changed,
            departed=self._departed,
            stands_by=self._stands_by,
            standby_seconds=settings.limits.standby_seconds,
        )
        self._publisher = PublisherLock(settings.data_directory, clock.now().at, settings.pod_uid, hooks)
        self._answered = OutcomeReporter(
            Listeners(observe=self._outbox.observe, emit=self._outbox.emit, changed=self._refresh)
        )
        self._preparer = self._build_preparer(clock)
        self._health = self._build_health()
        self._reconciler = self._build_reconciler()
        self._server = self._build_server(clock, fatal)

    def start(self) -> None:
        """Opens the sockets. Raises SocketError, StorageError or InstanceRunningError; nothing is left open then."""
        ensure_private(self.settings)
        self._publisher.announce(exclusive=not self.settings.pod_uid)
        try:
            self._server.start()
        except Exception:  # whatever it was, the directory must be free for the next attempt; it is raised on
            self._publisher.stop()
            raise
        self._answered.start()
        self._publisher.start()
        self._reconciler.start()
        self._server.sweep()

    def attach(self, sources: PluginPorts) -> None:
        """Brings the rest. Calls that waited for it go on at once. Raises OSError where the debug socket can't open."""
        self._outbox.attach(sources)
        self._turns.wake()
        self._health.notify()
        if sources.answer is not None:
            self._debug = DebugSocket(self.settings.data_directory, sources.answer)
            self._debug.start()

    def stop(self, deadline_seconds: float) -> None:
        """Ends the streams, lets calls in flight finish, removes the own sockets. Slices and claims stay."""
        self._stop.set()
        self._turns.wake()
        if self._debug is not None:
            self._debug.stop()
        self._server.stop(deadline_seconds)
        self._answered.stop(deadline_seconds)
        self._reconciler.stop(deadline_seconds)
        self._publisher.stop()

    def notify(self, snapshot: Snapshot) -> None:
        """A new snapshot: the health streams send it at once, waiting preparations look again. Returns at once."""
        self._notified = snapshot
        self._turns.wake()
        self._health.notify()

    def prepared(self) -> tuple[PreparedDevice, ...]:
        """Every device that is prepared on this node, by this instance or another."""
        return prepared_devices(self._store.checkpoint.known())

    def on_prepared_change(self, callback: Callable[[], None]) -> None:
        """Calls back soon after `prepared()` has changed. The callback returns at once and raises nothing."""
        self._prepared_callbacks.append(callback)

    def kubelet_connected(self) -> bool:
        """Whether a kubelet is there that could serve pods of this driver."""
        return self._connection.connected()

    def publishing(self) -> bool:
        """Whether this instance is the one that publishes: the newest that lives and is ready."""
        return self._publisher.publishing()

    def stands_by(self) -> str:
        """The pod UID of the instance that publishes in place of this one; empty where there is none."""
        return self._publisher.stands_by

    def on_kubelet_change(self, callback: Callable[[], None]) -> None:
        """Calls back when `kubelet_connected()` or `publishing()` may have changed. The callback returns at once."""
        self._kubelet_callbacks.append(callback)

    def probe(self, seconds: float) -> None:
        """Asks itself over the real sockets. Raises ProbeError where it does not answer in time."""
        probe(self.paths, seconds)

    def _build_store(self) -> Store:
        settings = self.settings
        boot = _boot_id(settings)
        cdi = CdiFiles(
            Directory(settings.cdi_directory),
            self.driver_root,
            CdiNames(naming=settings.naming, boot=boot),
            self._snapshot,
        )
        checkpoint = Checkpoint(
            settings.data_directory,
            boot,
            cdi.recorded,
            self._outbox.recovered,
            settings.limits.lock_wait_seconds,
        )
        return Store(checkpoint=checkpoint, cdi=cdi)

    def _build_preparer(self, clock: Clock) -> Preparer:
        context = Context(
            naming=self.settings.naming,
            node=self.settings.node,
            limits=self.settings.limits,
            clock=clock,
            stop=self._stop,
            sources=self._outbox.sources,
            snapshot=self._snapshot,
            emit=self._outbox.emit,
        )
        return Preparer(self._store, self._turns, context)

    def _build_health(self) -> HealthService:
        view = HealthView(
            snapshot=self._snapshot,
            prepared=self._store.checkpoint.known,
            tick_age=self._tick_age,
            speaks=self._publisher.publishing,
        )
        return HealthService(view, self._connection, self.settings.limits, self.settings.node)

    def _build_reconciler(self) -> Reconciler:
        context = ReconcileContext(
            naming=self.settings.naming,
            node=self.settings.node,
            limits=self.settings.limits,
            sources=self._outbox.sources,
            publishing=self._publisher.publishing,
            emit=self._outbox.emit,
            changed=self._refresh,
        )
        return Reconciler(self._store, self._turns, self._preparer, context)

    def _build_server(self, clock: Clock, fatal: Callable[[str], None]) -> PluginServer:
        context = DraContext(
            naming=self.settings.naming,
            node=self.settings.node,
            clock=clock,
            limits=self.settings.limits,
            answered=self._answered.add,
        )
        identity = PluginIdentity(driver=self.settings.naming.driver, endpoint=str(self.paths.dra))
        services = Services(
            dra=DraService(self._preparer, context),
            health=self._health,
            registration=RegistrationService(identity, self._connection, self._outbox.emit),
        )
        return PluginServer(self.settings, self.paths, services, fatal)

    def _snapshot(self) -> Snapshot | None:
        """The newest snapshot that either way has brought."""
        sources = self._outbox.sources()
        current = None if sources is None else sources.snapshots.current()
        notified = self._notified
        if current is None or notified is None:
            return current or notified
        return current if current.revision > notified.revision else notified

    def _tick_age(self) -> float | None:
        sources = self._outbox.sources()
        return None if sources is None else sources.tick_age()

    def _refresh(self) -> None:
        """Takes over what the checkpoint says now, and tells whoever asked where it differs."""
        # the read is a stat where nothing changed; unordered, an older view could replace a newer one
        with self._lock:
            try:
                state = self._store.checkpoint.read()
            except RefusedError as error:
                log.warning("checkpoint not readable", extra=keys(reason=error))
                return
            # the very object, not an equal one: somebody may have looked at what came and went between two tellings
            if state is self._told:
                return
            self._told = state
        self._outbox.claims(len(state.claims))
        self._health.notify()
        for callback in self._prepared_callbacks:
            callback()

    def _kubelet_changed(self) -> None:
        self._outbox.streams(self._connection.streams())
        for callback in self._kubelet_callbacks:
            callback()

    def _publishing_changed(self, publishing: bool) -> None:
        log.info("publishing" if publishing else "not publishing any more")
        self._health.notify()
        self._kubelet_changed()

    def _can_publish(self) -> bool:
        sources = self._outbox.sources()
        return sources is not None and self._snapshot() is not None and sources.can_publish()

    def _stands_by(self, pod: str) -> None:
        message = (
            f"agent {self.settings.pod_uid} stands by: agent {pod} on this node publishes for "
            f"driver {self.settings.naming.driver}; two installations have one driver name: remove one of them, or give "
            "it a driver name and a state folder of its own"
        )
        log.warning("stands by", extra=keys(publisher=pod))
        self._outbox.emit(PluginEvent(reason="StandingBy", message=message))

    def _departed(self) -> None:
        """Another instance has gone, and its stream's end emptied the kubelet's cache: say everything again."""
        self._health.repeat()


def _boot_id(settings: PluginSettings) -> BootId:
    try:
        return BootId(settings.boot_id_file.read_text(encoding="ascii").strip())
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(
            f"{settings.boot_id_file}: {error}; without a boot id the checkpoint can't be trusted"
        ) from error
