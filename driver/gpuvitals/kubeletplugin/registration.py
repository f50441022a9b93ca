"""Registration with the kubelet's plugin watcher.

Source: kubernetes/kubernetes pkg/kubelet/cm/dra/plugin/dra_plugin_manager.go (the kubelet takes the first DRAPlugin
entry that it supports, so the newest comes first).
"""

import logging
from dataclasses import dataclass

import grpc

from gpuvitals.inventory.event import Event, EventSink
from gpuvitals.kubeletplugin.dra_service import DRA_VERSIONS
from gpuvitals.kubeletplugin.health_service import HEALTH_VERSIONS
from gpuvitals.kubeletplugin.kubelet_connection import KubeletConnection, RegistrationStatus
from gpuvitals.observability.logs import keys
from gpuvitals.proto import pluginregistration_v1_pb2 as pb
from gpuvitals.proto.pluginregistration_v1_pb2_grpc import RegistrationServicer

SERVICES = (
    *(version.advertised for version in DRA_VERSIONS),
    *(version.advertised for version in HEALTH_VERSIONS),
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginIdentity:
    """The driver's name and the absolute path of its DRA socket, as GetInfo returns them."""

    driver: str
    endpoint: str


class RegistrationService(RegistrationServicer):
    """Serves the plugin watcher. Nothing else waits for it: a kubelet may open the health stream before it notifies."""

    def __init__(self, identity: PluginIdentity, connection: KubeletConnection, events: EventSink) -> None:
        self._info = pb.PluginInfo(
            type="DRAPlugin",
            name=identity.driver,
            endpoint=identity.endpoint,
            supported_versions=SERVICES,
        )
        self._connection = connection
        self._events = events

    def GetInfo(self, request: pb.InfoRequest, context: grpc.ServicerContext) -> pb.PluginInfo:  # noqa: N802 - the RPC's name
        """The plugin's name, endpoint and services."""
        return self._info

    def NotifyRegistrationStatus(  # noqa: N802 - the RPC's name
        self, request: pb.RegistrationStatus, context: grpc.ServicerContext
    ) -> pb.RegistrationStatusResponse:
        """Records the status. Aborts after a refusal, as upstream's helper does; the kubelet then registers again."""
        status = RegistrationStatus(registered=request.plugin_registered, error=request.error)
        previous = self._connection.status()
        self._connection.set_status(status)
        if not request.plugin_registered:
            message = f"the kubelet refused the registration: {request.error}; it retries by itself"
            if previous != status:
                log.warning("registration refused", extra=keys(reason=request.error))
                self._events.emit(Event(reason="RegistrationRefused", message=message))
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, message)
        log.info("registered with the kubelet", extra=keys(endpoint=self._info.endpoint))
        return pb.RegistrationStatusResponse()
