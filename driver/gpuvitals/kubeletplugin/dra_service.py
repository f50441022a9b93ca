"""The DRA service: v1 and v1beta1 from one implementation.

Exactly one entry a claim of the request, and none beside; one claim's failure is that claim's alone.
Source: kubernetes/kubernetes pkg/kubelet/cm/dra/manager.go (a missing or an unknown entry fails the pod).
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import grpc

from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.inventory.naming import Naming
from gpuvitals.kubeletplugin.cdi.spec import cdi_device_id
from gpuvitals.kubeletplugin.claims.claim_queue import Operation
from gpuvitals.kubeletplugin.claims.preparer import AT_ONCE, Call, Preparer
from gpuvitals.kubeletplugin.held_claim import HeldClaim, HeldDevice
from gpuvitals.kubeletplugin.outcome import Refusal, RefusalCode
from gpuvitals.kubeletplugin.settings import Limits
from gpuvitals.kubeletplugin.telemetry import ClaimOutcome
from gpuvitals.model.clock import Clock
from gpuvitals.model.ids import ClaimUid, NodeName
from gpuvitals.observability.logs import keys
from gpuvitals.proto import dra_v1_pb2 as v1
from gpuvitals.proto import dra_v1beta1_pb2 as v1beta1
from gpuvitals.proto.dra_v1_pb2_grpc import DRAPluginServicer as V1Servicer
from gpuvitals.proto.dra_v1beta1_pb2_grpc import DRAPluginServicer as V1beta1Servicer

KUBELET_SECONDS = 45.0
"""The kubelet's deadline. Source: kubernetes/kubernetes pkg/kubelet/cm/dra/plugin/dra_plugin.go."""

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class WireClaim(Protocol):
    """A claim of a request, in either version."""

    namespace: str
    uid: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DraContext:
    """What the service is constructed with. `answered` takes every claim of a call once its answer has gone."""

    naming: Naming
    node: NodeName
    clock: Clock
    limits: Limits
    answered: Callable[[list[ClaimOutcome]], None]


class DraService:
    """Answers whole requests, claim by claim."""

    def __init__(self, preparer: Preparer, context: DraContext) -> None:
        self._preparer = preparer
        self._context = context
        self._prepares = _Places(Operation.PREPARE, context.limits.max_prepares)
        self._unprepares = _Places(Operation.UNPREPARE, context.limits.max_unprepares)

    def prepare(
        self, claims: Iterable[WireClaim], rpc: grpc.ServicerContext
    ) -> dict[ClaimUid, HeldClaim | Refusal]:
        """The outcome for each UID of the request."""
        refs = _refs(claims)
        found: list[tuple[HeldClaim | Refusal, ClaimOutcome]]
        with self._prepares.place(free=not refs) as busy:
            if busy:
                found = [(busy, _ended_at_once(Operation.PREPARE, ref, busy)) for ref in refs]
            else:
                found = self._all_prepared(refs, self._call(rpc))
        self._when_answered(rpc, [ended for _, ended in found])
        return {ended.ref.uid: outcome for outcome, ended in found}

    def _all_prepared(
        self, refs: list[ClaimRef], call: Call
    ) -> list[tuple[HeldClaim | Refusal, ClaimOutcome]]:
        if len(refs) < 2:
            return [self._prepared(ref, call) for ref in refs]
        with ThreadPoolExecutor(min(len(refs), AT_ONCE), "kubeletplugin-claims") as pool:
            return list(pool.map(lambda ref: self._prepared(ref, call), refs))

    def _prepared(self, ref: ClaimRef, call: Call) -> tuple[HeldClaim | Refusal, ClaimOutcome]:
        started = time.monotonic()
        outcome = self._guarded(ref, partial(self._preparer.prepare, ref, call))
        refusal = outcome if isinstance(outcome, Refusal) else None
        seconds = time.monotonic() - started
        return outcome, ClaimOutcome(operation=Operation.PREPARE, ref=ref, refusal=refusal, seconds=seconds)

    def unprepare(
        self, claims: Iterable[WireClaim], rpc: grpc.ServicerContext
    ) -> dict[ClaimUid, Refusal | None]:
        """The refusal for each UID of the request, None where it is not prepared any more."""
        refs = _refs(claims)
        with self._unprepares.place(free=not refs) as busy:
            if busy:
                found = [_ended_at_once(Operation.UNPREPARE, ref, busy) for ref in refs]
            else:
                call = self._call(rpc)
                found = [self._unprepared(ref, call) for ref in refs]
        self._when_answered(rpc, found)
        return {ended.ref.uid: ended.refusal for ended in found}

    def _unprepared(self, ref: ClaimRef, call: Call) -> ClaimOutcome:
        started = time.monotonic()
        refusal = self._guarded(ref, partial(self._preparer.unprepare, ref, call))
        seconds = time.monotonic() - started
        return ClaimOutcome(operation=Operation.UNPREPARE, ref=ref, refusal=refusal, seconds=seconds)

    def cdi_ids(self, held: HeldClaim, device: HeldDevice) -> list[str]:
        """The device's CDI ids; the first is unique for it, since the kubelet merges entries with equal ids."""
        return [cdi_device_id(self._context.naming, held.claim.uid, device)]

    @property
    def pool(self) -> str:
        """The pool of every device here: the node's name."""
        return self._context.node

    def _call(self, rpc: grpc.ServicerContext) -> Call:
        granted = _granted(rpc)
        until = time.monotonic() + (KUBELET_SECONDS if granted is None else min(granted, KUBELET_SECONDS))
        return Call(
            arrived=self._context.clock.now().at,
            active=rpc.is_active,
            remaining=lambda: max(0.0, until - time.monotonic()),
        )

    def _guarded(self, ref: ClaimRef, answer: Callable[[], _T]) -> _T | Refusal:
        """The answer, or InternalError: an unforeseen failure of one claim must not fail its neighbours."""
        try:
            return answer()
        except Exception as error:  # the batch's other claims have to be answered whatever happened here
            log.exception("claim failed", extra=keys(claim=ref.uid))
            return Refusal(
                code=RefusalCode.INTERNAL,
                message=f"{type(error).__name__}: {error}; this is a defect of the driver, see its log",
            )

    def _when_answered(self, rpc: grpc.ServicerContext, found: list[ClaimOutcome]) -> None:
        tell = partial(self._context.answered, found)
        if not rpc.add_callback(tell):  # the caller has gone already
            tell()


class _Places:
    """Bounds the calls of one kind: each parks a thread of the server, and other kinds need threads too."""

    def __init__(self, operation: Operation, count: int) -> None:
        self._places = threading.BoundedSemaphore(count)
        self._refusal = Refusal(
            code=RefusalCode.BUSY,
            message=f"{count} other {operation.value} calls are being worked on; the kubelet asks again",
        )

    @contextmanager
    def place(self, *, free: bool) -> Iterator[Refusal | None]:
        """A place for the block, or the refusal where there is none. `free`: the call needs none."""
        if free:
            yield None
        elif self._places.acquire(blocking=False):
            try:
                yield None
            finally:
                self._places.release()
        else:
            yield self._refusal


class DraV1(V1Servicer):
    """k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin."""

    def __init__(self, service: DraService) -> None:
        self._service = service

    def NodePrepareResources(  # noqa: N802 - the RPC's name
        self, request: v1.NodePrepareResourcesRequest, context: grpc.ServicerContext
    ) -> v1.NodePrepareResourcesResponse:
        """Prepares each claim of the request."""
        answer = v1.NodePrepareResourcesResponse()
        for uid, outcome in self._service.prepare(request.claims, context).items():
            entry = answer.claims[uid]
            if isinstance(outcome, Refusal):
                entry.error = str(outcome)
                continue
            for device in outcome.devices:
                entry.devices.add(
                    request_names=device.requests,
                    pool_name=self._service.pool,
                    device_name=device.device,
                    cdi_device_ids=self._service.cdi_ids(outcome, device),
                    share_id=device.share_id,
                )
        return answer

    def NodeUnprepareResources(  # noqa: N802 - the RPC's name
        self, request: v1.NodeUnprepareResourcesRequest, context: grpc.ServicerContext
    ) -> v1.NodeUnprepareResourcesResponse:
        """Releases each claim of the request."""
        answer = v1.NodeUnprepareResourcesResponse()
        for uid, refusal in self._service.unprepare(request.claims, context).items():
            answer.claims[uid].error = "" if refusal is None else str(refusal)
        return answer


class DraV1beta1(V1beta1Servicer):
    """k8s.io.kubelet.pkg.apis.dra.v1beta1.DRAPlugin: the same without share ids."""

    def __init__(self, service: DraService) -> None:
        self._service = service

    def NodePrepareResources(  # noqa: N802 - the RPC's name
        self, request: v1beta1.NodePrepareResourcesRequest, context: grpc.ServicerContext
    ) -> v1beta1.NodePrepareResourcesResponse:
        """Prepares each claim of the request."""
        answer = v1beta1.NodePrepareResourcesResponse()
        for uid, outcome in self._service.prepare(request.claims, context).items():
            entry = answer.claims[uid]
            if isinstance(outcome, Refusal):
                entry.error = str(outcome)
                continue
            for device in outcome.devices:
                entry.devices.add(
                    request_names=device.requests,
                    pool_name=self._service.pool,
                    device_name=device.device,
                    cdi_device_ids=self._service.cdi_ids(outcome, device),
                )
        return answer

    def NodeUnprepareResources(  # noqa: N802 - the RPC's name
        self, request: v1beta1.NodeUnprepareResourcesRequest, context: grpc.ServicerContext
    ) -> v1beta1.NodeUnprepareResourcesResponse:
        """Releases each claim of the request."""
        answer = v1beta1.NodeUnprepareResourcesResponse()
        for uid, refusal in self._service.unprepare(request.claims, context).items():
            answer.claims[uid].error = "" if refusal is None else str(refusal)
        return answer


def _ended_at_once(operation: Operation, ref: ClaimRef, refusal: Refusal) -> ClaimOutcome:
    return ClaimOutcome(operation=operation, ref=ref, refusal=refusal, seconds=0.0)


def _granted(rpc: grpc.ServicerContext) -> float | None:
    """Seconds until the caller's deadline; None where it set none, which the stubs' types do not say."""
    return rpc.time_remaining()


def _refs(claims: Iterable[WireClaim]) -> list[ClaimRef]:
    """Each UID once, in the order of the request."""
    found: dict[str, ClaimRef] = {}
    for claim in claims:
        uid = ClaimUid(claim.uid)
        found.setdefault(uid, ClaimRef(namespace=claim.namespace, name=claim.name, uid=uid))
    return list(found.values())
