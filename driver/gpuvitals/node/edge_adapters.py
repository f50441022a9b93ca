"""Adapters between edges: implementations of `kubeletplugin`'s Protocols on `kube`."""

from collections.abc import Iterable

from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.inventory.event import Event
from gpuvitals.inventory.next_step import with_next_step
from gpuvitals.kube.claim_reader import ClaimReader, DeviceConfig, DeviceResult, ReadClaim
from gpuvitals.kube.errors import ApiError, NoSuchObject
from gpuvitals.kube.events import EventRecord, EventRecorder, Regarding
from gpuvitals.kubeletplugin.allocated_claim import (
    AllocatedClaim,
    AllocatedDevice,
    ConfigSource,
    OpaqueConfig,
    Toleration,
)
from gpuvitals.kubeletplugin.ports import ClaimNotFoundError, ClaimUnavailableError
from gpuvitals.model.ids import ClaimUid


class ClaimAdapter:
    """A ClaimSource on `kube`'s reader."""

    def __init__(self, reader: ClaimReader) -> None:
        self._reader = reader

    def allocated(self, namespace: str, name: str) -> AllocatedClaim:
        """Reads the claim. Raises ClaimNotFoundError, ClaimUnavailableError."""
        try:
            read = self._reader.read(namespace, name)
        except NoSuchObject as error:
            raise ClaimNotFoundError(str(error)) from error
        except ApiError as error:
            raise ClaimUnavailableError(str(error)) from error
        try:
            configs = tuple(_config(config) for config in read.configs if config.opaque is not None)
        except ValueError as error:
            raise ClaimUnavailableError(
                f"claim {namespace}/{name}: {error}; this agent may be too old"
            ) from error
        return AllocatedClaim(
            namespace=namespace,
            name=name,
            uid=ClaimUid(read.uid),
            allocated=read.allocated,
            results=tuple(_device(result, read) for result in read.results),
            configs=configs,
            allocated_by=read.allocated_by,
        )


def _config(config: DeviceConfig) -> OpaqueConfig:
    """Raises ValueError for a source that this version does not know."""
    assert config.opaque is not None
    return OpaqueConfig(
        source=ConfigSource(config.source),
        requests=config.requests,
        driver=config.opaque.driver,
        parameters=bytes(config.opaque.parameters),
    )


def _device(result: DeviceResult, read: ReadClaim) -> AllocatedDevice:
    key = (result.driver, result.pool, result.device, result.share_id)
    before = (
        each.gpu_uuid
        for each in read.prepared_before
        if (each.driver, each.pool, each.device, each.share_id) == key
    )
    return AllocatedDevice(
        request=result.request,
        driver=result.driver,
        pool=result.pool,
        device=result.device,
        admin_access=result.admin_access,
        share_id=result.share_id,
        tolerations=tuple(
            Toleration(key=each.key, operator=each.operator, value=each.value, effect=each.effect)
            for each in result.tolerations
        ),
        prepared_on=next(before, ""),
    )


class EventAdapter:
    """An EventSink on `kube`'s recorder."""

    def __init__(self, recorder: EventRecorder, node: str) -> None:
        self._recorder = recorder
        # `kubectl describe node` looks for events whose uid is the node's name, as the kubelet writes them.
        # Source: kubernetes/kubectl pkg/describe/describe.go, NodeDescriber.
        self._node = Regarding(api_version="v1", kind="Node", name=node, uid=node)

    def emit(self, event: Event, holders: Iterable[ClaimRef] = ()) -> None:
        """Queues an event about its claim; without one, about the node and about each of `holders`."""
        if event.claim is not None:
            self._send(_claim(event.claim), event, event.message)
            return
        self._send(self._node, event, event.message)
        for holder in holders:
            note = with_next_step(event.message) if event.has_next_step else event.message
            self._send(_claim(holder), event, note)

    def _send(self, about: Regarding, event: Event, note: str) -> None:
        self._recorder.emit(
            EventRecord(regarding=about, reason=event.reason, note=note, warning=event.warning)
        )


def _claim(claim: ClaimRef) -> Regarding:
    return Regarding(
        api_version="resource.k8s.io/v1",
        kind="ResourceClaim",
        name=claim.name,
        namespace=claim.namespace,
        uid=claim.uid,
    )
