"""The health stream: v1 and v1alpha1 from one implementation.

Stage 9 of the walk: the snapshot reaches the pod's status. A message goes out at once when the list changes and
again before the kubelet's lease ends. An agent whose loop stands still vouches for nothing: it says Unknown once and
then falls silent. In a rolling update only the publishing instance speaks; the other keeps its stream open and
silent, since the end of any stream clears the kubelet's cache of this driver.
Source: kubernetes/kubernetes pkg/kubelet/cm/dra/{manager,healthinfo}.go; KEP-4680.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import grpc

from gpuvitals.kubeletplugin.device_health import DeviceReport, all_unknown, device_reports
from gpuvitals.kubeletplugin.held_claim import HeldClaim
from gpuvitals.kubeletplugin.registration import KubeletConnection
from gpuvitals.kubeletplugin.settings import Limits
from gpuvitals.model.ids import NodeName
from gpuvitals.model.snapshot import Snapshot
from gpuvitals.observability.logs import keys
from gpuvitals.proto import dra_health_v1_pb2 as v1
from gpuvitals.proto import dra_health_v1alpha1_pb2 as v1alpha1
from gpuvitals.proto.dra_health_v1_pb2_grpc import DRAResourceHealthServicer as V1Servicer
from gpuvitals.proto.dra_health_v1alpha1_pb2_grpc import DRAResourceHealthServicer as V1alpha1Servicer

_LATE = "the agent was silent for too long; its health report begins anew"
"""Said before the list of an agent that was stopped in its tracks: the kubelet's lease has ended, so pods are shown as
Unknown, and a repeated value is no news that would have it look at them again. Observed on 1.37.2."""

log = logging.getLogger(__name__)

Reports = tuple[DeviceReport, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthView:
    """What a stream looks at; every callable returns at once.

    `tick_age` None: the agent's loop has not begun. `speaks`: this instance is the one that publishes.
    """

    snapshot: Callable[[], Snapshot | None]
    prepared: Callable[[], tuple[HeldClaim, ...]]
    tick_age: Callable[[], float | None]
    speaks: Callable[[], bool]


class HealthService:
    """Feeds every open stream. Each parks one thread of the server's pool, so their number is bounded."""

    def __init__(
        self, view: HealthView, connection: KubeletConnection, limits: Limits, node: NodeName
    ) -> None:
        self.node = node
        self.timeout_seconds = limits.health_timeout_seconds
        self._view = view
        self._connection = connection
        self._limits = limits
        self._places = threading.BoundedSemaphore(limits.max_streams)
        self._changed = threading.Condition()
        self._round = 0
        self._repeat = 0
        self._stopped = False

    def notify(self) -> None:
        """Something that the list shows may have changed: every stream looks, and sends where it did."""
        with self._changed:
            self._round += 1
            self._changed.notify_all()

    def repeat(self) -> None:
        """Every stream sends its list again: another instance's stream ended and took the kubelet's cache along."""
        with self._changed:
            self._repeat += 1
            self._changed.notify_all()

    def stop(self) -> None:
        """Ends all streams, also those opened later."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def watch(self, rpc: grpc.ServicerContext) -> Iterator[Reports]:
        """The lists to send, for as long as the stream is open."""
        if not self._places.acquire(blocking=False):
            log.warning("health stream refused", extra=keys(limit=self._limits.max_streams))
            rpc.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many health streams; close one and try again")
        try:
            rpc.add_callback(self.notify)
            with self._connection.stream():
                log.info("health stream opened", extra=keys(streams=self._connection.streams()))
                yield from self._lists(rpc)
        finally:
            self._places.release()
            log.info("health stream ended", extra=keys(streams=self._connection.streams()))

    def _lists(self, rpc: grpc.ServicerContext) -> Iterator[Reports]:
        sent: Reports | None = None
        opened = due = spoke = time.monotonic()
        repeated = self._repeat
        while not self._stopped and rpc.is_active():
            seen, repeat = self._round, self._repeat
            now = time.monotonic()
            wanted = self._wanted(now - opened)
            again = repeat != repeated or now >= due
            due = now + self._limits.heartbeat_seconds if again else due
            repeated = repeat
            if wanted is None:
                sent = None  # once this instance speaks again, its first word is the whole list
            elif wanted.reports != sent or (again and wanted.vouched):
                if wanted.reports == sent and time.monotonic() - spoke > self.timeout_seconds:
                    yield all_unknown(sent, _LATE)
                sent, due = wanted.reports, now + self._limits.heartbeat_seconds
                yield wanted.reports
                spoke = time.monotonic()
            self._wait(seen, repeat, due)

    def _wanted(self, open_seconds: float) -> "_Wanted | None":
        """The list to send now, None where this instance has nothing to say."""
        if not self._view.speaks():
            return None
        snapshot = self._view.snapshot()
        if snapshot is None and open_seconds < self._limits.heartbeat_seconds:
            return None  # an agent that starts fast need not flip every pod to Unknown and back
        reports = device_reports(snapshot, self._view.prepared())
        age = self._view.tick_age()
        if age is None or age <= self._limits.stale_tick_seconds:
            return _Wanted(reports=reports, vouched=True)
        message = "the agent's health loop stands still; nothing is known until it turns again"
        return _Wanted(reports=all_unknown(reports, message), vouched=False)

    def _wait(self, seen: int, repeated: int, due: float) -> None:
        """Until something changes or the next look is due, which is also a look at the agent's tick."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._stopped or self._round != seen or self._repeat != repeated,
                max(0.0, due - time.monotonic()),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    reports: Reports
    vouched: bool


class HealthV1(V1Servicer):
    """v1.DRAResourceHealth: kubelets from 1.37 on."""

    def __init__(self, service: HealthService) -> None:
        self._service = service

    def NodeWatchResources(  # noqa: N802 - the RPC's name
        self, request: v1.NodeWatchResourcesRequest, context: grpc.ServicerContext
    ) -> Iterator[v1.NodeWatchResourcesResponse]:
        """Complete lists until either side ends the stream."""
        for reports in self._service.watch(context):
            message = v1.NodeWatchResourcesResponse()
            for report in reports:
                message.devices.add(
                    device=v1.DeviceIdentifier(pool_name=self._service.node, device_name=report.device),
                    health=cast(v1.HealthStatus.ValueType, report.health.value),
                    last_updated_time=report.updated,
                    health_check_timeout_seconds=self._service.timeout_seconds,
                    message=report.message,
                )
            yield message


class HealthV1alpha1(V1alpha1Servicer):
    """v1alpha1.DRAResourceHealth: kubelets 1.34 to 1.36."""

    def __init__(self, service: HealthService) -> None:
        self._service = service

    def NodeWatchResources(  # noqa: N802 - the RPC's name
        self, request: v1alpha1.NodeWatchResourcesRequest, context: grpc.ServicerContext
    ) -> Iterator[v1alpha1.NodeWatchResourcesResponse]:
        """Complete lists until either side ends the stream."""
        for reports in self._service.watch(context):
            message = v1alpha1.NodeWatchResourcesResponse()
            for report in reports:
                message.devices.add(
                    device=v1alpha1.DeviceIdentifier(pool_name=self._service.node, device_name=report.device),
                    health=cast(v1alpha1.HealthStatus.ValueType, report.health.value),
                    last_updated_time=report.updated,
                    health_check_timeout_seconds=self._service.timeout_seconds,
                    message=report.message,
                )
            yield message
