"""The DRA service of the kubelet plugin: one implementation, served in the wire versions v1 and v1beta1.

Source: kubernetes/kubernetes pkg/kubelet/cm/dra/manager.go (a missing or an unknown entry of an answer fails the pod).
"""

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.inventory.naming import Naming
from gpuvitals.kubeletplugin.cdi.spec import cdi_device_id
from gpuvitals.kubeletplugin.claims.preparer import PARALLEL_PREPARES, Call, Preparer
from gpuvitals.kubeletplugin.held_claim import HeldClaim, HeldDevice
from gpuvitals.kubeletplugin.outcome import ClaimOutcome, Operation, Refusal, RefusalCode
from gpuvitals.kubeletplugin.settings import Limits
from gpuvitals.kubeletplugin.telemetry import OutcomeReporter
from gpuvitals.model.clock import Clock
from gpuvitals.model.ids import ClaimUid, NodeName
from gpuvitals.observability.logs import keys
from gpuvitals.proto import dra_v1_pb2 as pb

KUBELET_SECONDS = 45.0
"""The kubelet's deadline. Source: kubernetes/kubernetes pkg/kubelet/cm/dra/plugin/dra_plugin.go."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DraVersion:
    """One wire version. The messages of all versions are v1's; v1beta1 has no `share_id`."""

    advertised: str
    service: str
    has_share_id: bool


DRA_VERSIONS = (
    DraVersion(
        advertised="v1.DRAPlugin", service="k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin", has_share_id=True
    ),
    DraVersion(
        advertised="v1beta1.DRAPlugin",
        service="k8s.io.kubelet.pkg.apis.dra.v1beta1.DRAPlugin",
        has_share_id=False,
    ),
)
"""Newest first. A test compares the messages of both versions field by field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DraContext:
    """Settings and collaborators of the service. `reporter` gets the outcomes of each call after its answer was sent."""

    naming: Naming
    node: NodeName
    clock: Clock
    limits: Limits
    reporter: OutcomeReporter


class DraService:
    """Prepares and unprepares the claims of a request, each on its own."""

    def __init__(self, preparer: Preparer, context: DraContext) -> None:
        self._preparer = preparer
        self._context = context
        self._prepares = _CallLimit(Operation.PREPARE, context.limits.max_prepares)
        self._unprepares = _CallLimit(Operation.UNPREPARE, context.limits.max_unprepares)

    def prepare(
        self, claims: Iterable[pb.Claim], rpc: grpc.ServicerContext
    ) -> dict[ClaimUid, HeldClaim | Refusal]:
        """Prepares every claim of the request. This is the whole contract with the kubelet:

        - One result per claim UID of the request and no other: the devices, or a refusal. The refusal of one claim leaves
          the others as they are. The call itself never fails.
        - Idempotent. A claim that is prepared already gets the same answer again, also when its GPU has become
          unhealthy or the API server can't be reached. Such a replay reads the checkpoint (two stats), compares the
          CDI file and writes nothing; if `confirmed_seconds` have passed, it reads the claim from the API server once.
          A claim that was allocated anew under its UID is released and prepared with its new devices.
        - Durable before the answer: first the CDI file, then the checkpoint's entry, normally with one flush each. After
          a crash in between, the next call prepares the claim as if for the first time.
        - Exclusive: the checkpoint's lock makes sure that no two claims hold a device, also between two instances of
          the plugin. Admin access and different shares of a device are no conflict.
        - Ordered per claim: calls for one claim run one after the other, calls for different claims at the same time.
          A Prepare that is overtaken by an Unprepare, or cancelled by the kubelet, records nothing.
        - Causes that can clear (API server away, device not yet released, agent starting) are waited for, up to
          `transient_wait_seconds` and always less than the caller's deadline, since the kubelet retries only after 60
          to 80 s.
        """
        refs = _refs(claims)
        results: list[tuple[HeldClaim | Refusal, ClaimOutcome]]
        with self._prepares.admit(is_free=not refs) as busy:
            if busy:
                results = [(busy, _refused(Operation.PREPARE, ref, busy)) for ref in refs]
            else:
                results = self._prepare_all(refs, self._call(rpc))
        self._report_after(rpc, [outcome for _, outcome in results])
        return {outcome.ref.uid: result for result, outcome in results}

    def unprepare(
        self, claims: Iterable[pb.Claim], rpc: grpc.ServicerContext
    ) -> dict[ClaimUid, Refusal | None]:
        """Releases every claim of the request. The result per claim UID is None once it is not prepared, else a refusal.

        Succeeds for claims that were never prepared or are gone from the API server. Durable before the answer.
        """
        refs = _refs(claims)
        with self._unprepares.admit(is_free=not refs) as busy:
            if busy:
                outcomes = [_refused(Operation.UNPREPARE, ref, busy) for ref in refs]
            else:
                call = self._call(rpc)
                outcomes = [self._unprepare(ref, call) for ref in refs]
        self._report_after(rpc, outcomes)
        return {outcome.ref.uid: outcome.refusal for outcome in outcomes}

    def cdi_ids(self, held: HeldClaim, device: HeldDevice) -> list[str]:
        """The device's CDI ids. The first is unique per claim, because the kubelet merges entries with equal ids."""
        return [cdi_device_id(self._context.naming, held.claim.uid, device)]

    @property
    def pool(self) -> str:
        """The pool of all devices of this plugin: the node's name."""
        return self._context.node

    def _prepare_all(
        self, refs: list[ClaimRef], call: Call
    ) -> list[tuple[HeldClaim | Refusal, ClaimOutcome]]:
        if len(refs) < 2:
            return [self._prepare(ref, call) for ref in refs]
        with ThreadPoolExecutor(min(len(refs), PARALLEL_PREPARES), "kubeletplugin-claims") as pool:
            return list(pool.map(lambda ref: self._prepare(ref, call), refs))

    def _prepare(self, ref: ClaimRef, call: Call) -> tuple[HeldClaim | Refusal, ClaimOutcome]:
        started = time.monotonic()
        result: HeldClaim | Refusal
        try:
            result = self._preparer.prepare(ref, call)
        except Exception as error:  # noqa: BLE001 - logged; a defect must not fail the other claims of the call
            result = _internal_error(ref, error)
        refusal = result if isinstance(result, Refusal) else None
        seconds = time.monotonic() - started
        return result, ClaimOutcome(operation=Operation.PREPARE, ref=ref, refusal=refusal, seconds=seconds)

    def _unprepare(self, ref: ClaimRef, call: Call) -> ClaimOutcome:
        started = time.monotonic()
        try:
            refusal = self._preparer.unprepare(ref, call)
        except Exception as error:  # noqa: BLE001 - logged; a defect must not fail the other claims of the call
            refusal = _internal_error(ref, error)
        seconds = time.monotonic() - started
        return ClaimOutcome(operation=Operation.UNPREPARE, ref=ref, refusal=refusal, seconds=seconds)

    def _call(self, rpc: grpc.ServicerContext) -> Call:
        granted = _granted_seconds(rpc)
        seconds = KUBELET_SECONDS if granted is None else min(granted, KUBELET_SECONDS)
        return Call(arrived=self._context.clock.now().at, deadline=time.monotonic() + seconds, caller=rpc)

    def _report_after(self, rpc: grpc.ServicerContext, outcomes: list[ClaimOutcome]) -> None:
        """Reports the outcomes once the answer was sent, so that the pod does not wait for telemetry."""

        def report() -> None:
            self._context.reporter.add(outcomes)

        if not rpc.add_callback(report):  # the caller has gone already
            report()


class DraServicer:
    """The RPCs of the DRA service in one wire version."""

    def __init__(self, service: DraService, version: DraVersion) -> None:
        self._service = service
        self._version = version

    def handler(self) -> grpc.GenericRpcHandler:
        """The handler to add to a server."""
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "NodePrepareResources": grpc.unary_unary_rpc_method_handler(
                self.prepare,
                request_deserializer=pb.NodePrepareResourcesRequest.FromString,
                response_serializer=pb.NodePrepareResourcesResponse.SerializeToString,
            ),
            "NodeUnprepareResources": grpc.unary_unary_rpc_method_handler(
                self.unprepare,
                request_deserializer=pb.NodeUnprepareResourcesRequest.FromString,
                response_serializer=pb.NodeUnprepareResourcesResponse.SerializeToString,
            ),
        }
        return grpc.method_handlers_generic_handler(self._version.service, methods)

    def prepare(
        self, request: pb.NodePrepareResourcesRequest, rpc: grpc.ServicerContext
    ) -> pb.NodePrepareResourcesResponse:
        """NodePrepareResources."""
        answer = pb.NodePrepareResourcesResponse()
        for uid, result in self._service.prepare(request.claims, rpc).items():
            entry = answer.claims[uid]
            if isinstance(result, Refusal):
                entry.error = str(result)
                continue
            for device in result.devices:
                entry.devices.add(
                    request_names=device.requests,
                    pool_name=self._service.pool,
                    device_name=device.device,
                    cdi_device_ids=self._service.cdi_ids(result, device),
                    share_id=device.share_id if self._version.has_share_id else None,
                )
        return answer

    def unprepare(
        self, request: pb.NodeUnprepareResourcesRequest, rpc: grpc.ServicerContext
    ) -> pb.NodeUnprepareResourcesResponse:
        """NodeUnprepareResources."""
        answer = pb.NodeUnprepareResourcesResponse()
        for uid, refusal in self._service.unprepare(request.claims, rpc).items():
            answer.claims[uid].error = "" if refusal is None else str(refusal)
        return answer


class _CallLimit:
    """Bounds the calls of one kind: each occupies a thread of the server, and the other kinds need threads too."""

    def __init__(self, operation: Operation, count: int) -> None:
        self._slots = threading.BoundedSemaphore(count)
        self._refusal = Refusal(
            code=RefusalCode.BUSY,
            message=f"{count} other {operation.value} calls are in progress; the kubelet retries",
        )

    @contextmanager
    def admit(self, *, is_free: bool) -> Iterator[Refusal | None]:
        """A slot for the block, or the refusal if none is free. A call that `is_free` needs no slot."""
        if is_free:
            yield None
        elif self._slots.acquire(blocking=False):
            try:
                yield None
            finally:
                self._slots.release()
        else:
            yield self._refusal


def _internal_error(ref: ClaimRef, error: Exception) -> Refusal:
    log.error("claim failed", extra=keys(claim=ref.uid), exc_info=error)
    return Refusal(
        code=RefusalCode.INTERNAL,
        message=f"{type(error).__name__}: {error}; this is a defect of the driver, see its log",
    )


def _refused(operation: Operation, ref: ClaimRef, refusal: Refusal) -> ClaimOutcome:
    return ClaimOutcome(operation=operation, ref=ref, refusal=refusal, seconds=0.0)


def _granted_seconds(rpc: grpc.ServicerContext) -> float | None:
    """Seconds until the caller's deadline; None if it set none, which the stubs' types leave out."""
    return rpc.time_remaining()


def _refs(claims: Iterable[pb.Claim]) -> list[ClaimRef]:
    """Each UID once, in the order of the request."""
    found: dict[str, ClaimRef] = {}
    for claim in claims:
        uid = ClaimUid(claim.uid)
        found.setdefault(uid, ClaimRef(namespace=claim.namespace, name=claim.name, uid=uid))
    return list(found.values())
