"""Registration with the kubelet's plugin watcher, and whether a kubelet is connected at all.

Source: kubernetes/kubernetes pkg/kubelet/cm/dra/plugin/dra_plugin_manager.go (the kubelet takes the first DRAPlugin
entry that it supports, so the newest comes first).
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc

from gpuvitals.kubeletplugin.ports import PluginEvent
from gpuvitals.observability.logs import keys
from gpuvitals.proto import pluginregistration_v1_pb2 as pb
from gpuvitals.proto.pluginregistration_v1_pb2_grpc import RegistrationServicer

SERVICES = ("v1.DRAPlugin", "v1beta1.DRAPlugin", "v1.DRAResourceHealth", "v1alpha1.DRAResourceHealth")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationStatus:
    """What the kubelet said last; `registered` None before it said anything."""

    registered: bool | None = None
    error: str = ""


class KubeletConnection:
    """Whether a kubelet is there to serve pods: slices published without one would attract pods that can't start.

    A kubelet that opens health streams is believed while one is open or was so `recent_seconds` ago; one that opens
    none (its gate is off) is believed from its registration on.
    """

    def __init__(self, recent_seconds: float, changed: Callable[[], None]) -> None:
        self._recent_seconds = recent_seconds
        self._changed = changed
        self._lock = threading.Lock()
        self._status = RegistrationStatus()
        self._streams = 0
        self._streams_since_notify = False
        self._last_sign = 0.0

    def notified(self, status: RegistrationStatus) -> None:
        """The kubelet told how the registration went."""
        with self._lock:
            self._status = status
            self._streams_since_notify = self._streams > 0
            self._last_sign = time.monotonic()
        self._changed()

    @contextmanager
    def stream(self) -> Iterator[None]:
        """For as long as a health stream is open."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def streams(self) -> int:
        """Open health streams."""
        with self._lock:
            return self._streams

    def status(self) -> RegistrationStatus:
        """What the kubelet said last."""
        with self._lock:
            return self._status

    def connected(self) -> bool:
        """Whether a kubelet is connected now."""
        with self._lock:
            if not self._status.registered:
                return False
            if self._streams > 0 or not self._streams_since_notify:
                return True
            return time.monotonic() - self._last_sign < self._recent_seconds

    def _count(self, change: int) -> None:
        with self._lock:
            self._streams += change
            self._streams_since_notify = True
            self._last_sign = time.monotonic()
        self._changed()


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginIdentity:
    """What GetInfo answers: the driver's name and the absolute path of its DRA socket."""

    driver: str
    endpoint: str


class RegistrationService(RegistrationServicer):
    """Answers the plugin watcher. Nothing waits for it: the kubelet may open the health stream before it notifies."""

    def __init__(
        self, identity: PluginIdentity, connection: KubeletConnection, emit: Callable[[PluginEvent], None]
    ) -> None:
        self._info = pb.PluginInfo(
            type="DRAPlugin",
            name=identity.driver,
            endpoint=identity.endpoint,
            supported_versions=SERVICES,
        )
        self._connection = connection
        self._emit = emit

    def GetInfo(self, request: pb.InfoRequest, context: grpc.ServicerContext) -> pb.PluginInfo:  # noqa: N802 - the RPC's name
        """Who this plugin is and where it listens."""
        return self._info

    def NotifyRegistrationStatus(  # noqa: N802 - the RPC's name
        self, request: pb.RegistrationStatus, context: grpc.ServicerContext
    ) -> pb.RegistrationStatusResponse:
        """Keeps the status. A refusal is answered with an error, as upstream does; the kubelet starts over."""
        status = RegistrationStatus(registered=request.plugin_registered, error=request.error)
        previous = self._connection.status()
        self._connection.notified(status)
        if not request.plugin_registered:
            message = f"the kubelet refused the registration: {request.error}; it tries again by itself"
            if previous != status:
                log.warning("registration refused", extra=keys(reason=request.error))
                self._emit(PluginEvent(reason="RegistrationRefused", message=message))
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, message)
        log.info("registered with the kubelet", extra=keys(endpoint=self._info.endpoint))
        return pb.RegistrationStatusResponse()
