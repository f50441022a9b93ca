"""The health stream to the kubelet: one implementation, served in the wire versions v1 and v1alpha1.

A message is sent at once after a change, and again before the kubelet's lease ends. If the agent's loop stands still,
the stream reports Unknown once and then stays silent, so that the lease runs out. In a rolling update only the
publishing instance reports; the other one keeps its stream open and silent, because the end of any stream clears the
kubelet's cache of this driver.
Source: kubernetes/kubernetes pkg/kubelet/cm/dra/{manager,healthinfo}.go; KEP-4680.
"""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import grpc

from gpuvitals.kubeletplugin.attached_ports import AttachedPorts
from gpuvitals.kubeletplugin.checkpoint.checkpoint import Checkpoint
from gpuvitals.kubeletplugin.device_health import DeviceReport, all_unknown, device_reports
from gpuvitals.kubeletplugin.kubelet_connection import KubeletConnection
from gpuvitals.kubeletplugin.publisher_lock import PublisherLock
from gpuvitals.kubeletplugin.settings import Limits
from gpuvitals.model.ids import NodeName
from gpuvitals.observability.logs import keys
from gpuvitals.proto import dra_health_v1_pb2 as pb

_LATE = "the agent was silent for too long; its health report begins anew"
"""Message of the Unknown list that precedes the first list after a silence longer than the kubelet's lease.

After such a silence pods show Unknown, and the kubelet ignores a list that equals the last one. Observed on 1.37.2.
"""
_STALLED = "the agent's health loop stands still; health is unknown until it runs again"

log = logging.getLogger(__name__)

Reports = tuple[DeviceReport, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthVersion:
    """One wire version. Both have the same messages."""

    advertised: str
    service: str


HEALTH_VERSIONS = tuple(
    HealthVersion(advertised=name, service=name)
    for name in ("v1.DRAResourceHealth", "v1alpha1.DRAResourceHealth")
)
"""Newest first. v1 is used by kubelets from 1.37 on, v1alpha1 by 1.34 to 1.36. A test compares the messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSources:
    """The objects from which the list is computed. All of them answer at once."""

    ports: AttachedPorts
    checkpoint: Checkpoint
    publisher: PublisherLock
    connection: KubeletConnection


class HealthService:
    """Feeds every open stream. Each occupies a thread of the server, so their number is bounded. Thread safe."""

    def __init__(self, sources: HealthSources, limits: Limits, node: NodeName) -> None:
        self.node = node
        self.timeout_seconds = limits.health_timeout_seconds
        self._sources = sources
        self._connection = sources.connection
        self._limits = limits
        self._slots = threading.BoundedSemaphore(limits.max_streams)
        self._condition = threading.Condition()
        self._changes = 0
        self._repeats = 0
        self._is_stopped = False

    def notify(self) -> None:
        """Makes every stream compute its list, and send it if it has changed."""
        with self._condition:
            self._changes += 1
            self._condition.notify_all()

    def repeat(self) -> None:
        """Makes every stream send its list again, after the end of another instance's stream cleared the kubelet's cache."""
        with self._condition:
            self._repeats += 1
            self._condition.notify_all()

    def stop(self) -> None:
        """Ends all streams, also those opened later."""
        with self._condition:
            self._is_stopped = True
            self._condition.notify_all()

    def watch(self, rpc: grpc.ServicerContext) -> Iterator[Reports]:
        """The lists to send, until the stream ends. Aborts the RPC if too many streams are open."""
        if not self._slots.acquire(blocking=False):
            log.warning("health stream refused", extra=keys(limit=self._limits.max_streams))
            rpc.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many health streams; close one and try again")
        try:
            rpc.add_callback(self.notify)
            with self._connection.stream():
                log.info("health stream opened", extra=keys(streams=self._connection.streams()))
                yield from self._lists(rpc)
        finally:
            self._slots.release()
            log.info("health stream ended", extra=keys(streams=self._connection.streams()))

    def _lists(self, rpc: grpc.ServicerContext) -> Iterator[Reports]:
        sent: Reports | None = None
        opened = due = sent_at = time.monotonic()
        last_repeat = self._repeats
        while not self._is_stopped and rpc.is_active():
            changes, repeats = self._changes, self._repeats
            now = time.monotonic()
            list_ = self._list(now - opened)
            again = repeats != last_repeat or now >= due
            due = now + self._limits.heartbeat_seconds if again else due
            last_repeat = repeats
            if list_ is None:
                sent = None  # once this instance publishes again, it sends the whole list
            elif list_.reports != sent or (again and list_.is_current):
                if list_.reports == sent and time.monotonic() - sent_at > self.timeout_seconds:
                    yield all_unknown(sent, _LATE)
                sent, due = list_.reports, now + self._limits.heartbeat_seconds
                yield list_.reports
                sent_at = time.monotonic()
            self._wait(changes, repeats, due)

    def _list(self, open_seconds: float) -> "_List | None":
        """The list to send now, None if this instance must stay silent."""
        if not self._sources.publisher.publishing():
            return None
        snapshot = self._sources.ports.snapshot
        if snapshot is None and open_seconds < self._limits.heartbeat_seconds:
            return None  # a fast start must not turn every pod to Unknown and back
        reports = device_reports(snapshot, self._sources.checkpoint.known())
        age = self._sources.ports.tick_age_seconds
        if age is None or age <= self._limits.stale_tick_seconds:
            return _List(reports=reports, is_current=True)
        return _List(reports=all_unknown(reports, _STALLED), is_current=False)

    def _wait(self, changes: int, repeats: int, due: float) -> None:
        """Waits for a change, a repeat or the next heartbeat, at which the agent's loop is checked too."""
        with self._condition:
            self._condition.wait_for(
                lambda: self._is_stopped or self._changes != changes or self._repeats != repeats,
                max(0.0, due - time.monotonic()),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _List:
    """A list to send. One that is not current is sent once, and not repeated as a heartbeat."""

    reports: Reports
    is_current: bool


class HealthServicer:
    """The RPC of the health service in one wire version."""

    def __init__(self, service: HealthService, version: HealthVersion) -> None:
        self._service = service
        self._version = version

    def handler(self) -> grpc.GenericRpcHandler:
        """The handler to add to a server."""
        methods = {
            "NodeWatchResources": grpc.unary_stream_rpc_method_handler(
                self.watch,
                request_deserializer=pb.NodeWatchResourcesRequest.FromString,
                response_serializer=pb.NodeWatchResourcesResponse.SerializeToString,
            )
        }
        return grpc.method_handlers_generic_handler(self._version.service, methods)

    def watch(
        self, request: pb.NodeWatchResourcesRequest, rpc: grpc.ServicerContext
    ) -> Iterator[pb.NodeWatchResourcesResponse]:
        """NodeWatchResources: complete lists until either side ends the stream."""
        for reports in self._service.watch(rpc):
            message = pb.NodeWatchResourcesResponse()
            for report in reports:
                message.devices.add(
                    device=pb.DeviceIdentifier(pool_name=self._service.node, device_name=report.device),
                    health=cast(pb.HealthStatus.ValueType, report.health.value),
                    last_updated_time=report.updated,
                    health_check_timeout_seconds=self._service.timeout_seconds,
                    message=report.message,
                )
            yield message
