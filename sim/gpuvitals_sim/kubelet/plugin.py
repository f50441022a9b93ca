"""One registered plugin instance: its long-lived connection, the calls over it, and its health stream.

Place in the chain: the registrar makes it after the handshake; protobuf messages do not leave this module.
Source: kubernetes/kubernetes pkg/kubelet/cm/dra/plugin/dra_plugin.go and dra_plugin_manager.go; observed on 1.37.2.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc

from gpuvitals.proto import (
    dra_health_v1_pb2,
    dra_health_v1_pb2_grpc,
    dra_health_v1alpha1_pb2,
    dra_health_v1alpha1_pb2_grpc,
    dra_v1_pb2,
    dra_v1_pb2_grpc,
    dra_v1beta1_pb2,
    dra_v1beta1_pb2_grpc,
)
from gpuvitals_sim.kubelet.config import Call
from gpuvitals_sim.kubelet.timings import KubeletTimings

log = logging.getLogger(__name__)

_DRA: dict[str, tuple[Any, Callable[[grpc.Channel], Any]]] = {
    "v1.DRAPlugin": (dra_v1_pb2, dra_v1_pb2_grpc.DRAPluginStub),
    "v1beta1.DRAPlugin": (dra_v1beta1_pb2, dra_v1beta1_pb2_grpc.DRAPluginStub),
}
_HEALTH: dict[str, tuple[Any, Callable[[grpc.Channel], Any]]] = {
    "v1.DRAResourceHealth": (dra_health_v1_pb2, dra_health_v1_pb2_grpc.DRAResourceHealthStub),
    "v1alpha1.DRAResourceHealth": (
        dra_health_v1alpha1_pb2,
        dra_health_v1alpha1_pb2_grpc.DRAResourceHealthStub,
    ),
}
_STATES = {0: "Unknown", 1: "Healthy", 2: "Unhealthy"}
_DIAL_ERRORS = {
    "Connection refused": "connection refused",
    "No such file or directory": "no such file or directory",
}
"""Texts of grpcio for a socket without a listener, and those of Go."""
_JOIN_SECONDS = 10.0
_POLLER_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginId:
    """The result of registration: driver, endpoint, and the chosen services (health may be empty)."""

    driver: str
    endpoint: str
    dra_service: str
    health_service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRef:
    """A claim as it is sent to the plugin."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedDevice:
    """A device as the plugin prepared it; without request names it serves all requests of the claim."""

    pool: str
    device: str
    requests: tuple[str, ...] = ()
    cdi_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The plugin's answer about one claim; an empty error is success."""

    error: str = ""
    devices: tuple[PreparedDevice, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One device in a message of the health stream; `timeout_seconds` 0 means the kubelet's own."""

    pool: str
    device: str
    health: str
    message: str = ""
    timeout_seconds: float = 0.0


class CallFailed(Exception):
    """The call failed; the message has the form of Go: `rpc error: code = Internal desc = ...`."""


class PluginEvents(Protocol):
    """The receiver of a plugin's events, called on its threads."""

    def connection_changed(self, plugin: "Plugin") -> None:
        """`plugin.connected` has changed."""
        ...

    def health_reported(self, driver: str, reports: Sequence[Report]) -> None:
        """A message of the health stream has arrived."""
        ...

    def health_ended(self, driver: str) -> None:
        """A health stream has ended, for any reason."""
        ...

    def called(self, call: Call) -> None:
        """A call has ended."""
        ...


class _Open:
    """The calls in flight, so that close() can cancel them. Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._calls: list[Any] = []

    def add(self, call: Any) -> None:
        with self._lock:
            self._calls.append(call)
            closed = self._closed
        if closed:
            call.cancel()

    def remove(self, call: Any) -> None:
        with self._lock:
            self._calls.remove(call)

    def cancel_all(self) -> None:
        with self._lock:
            self._closed = True
            calls = list(self._calls)
        for call in calls:
            call.cancel()


class Plugin:
    """Connects at once and stays connected until `close`."""

    def __init__(self, identity: PluginId, events: PluginEvents, timings: KubeletTimings) -> None:
        self.id = identity
        self.registered_at = time.monotonic()
        self._events = events
        self._timings = timings
        self._connected = threading.Event()
        self._closed = threading.Event()
        self._open = _Open()
        self._channel = grpc.insecure_channel(f"unix:{identity.endpoint}", options=_options(timings))
        self._messages, stub = _DRA[identity.dra_service]
        self._stub = stub(self._channel)
        self._watcher: threading.Thread | None = None
        self._channel.subscribe(self._state_changed, try_to_connect=True)

    @property
    def connected(self) -> bool:
        """Whether the connection is established."""
        return self._connected.is_set()

    def watch_health(self) -> None:
        """Opens the health stream, if the plugin has one, and keeps it open."""
        if self.id.health_service and self._watcher is None:
            name = f"kubelet health {self.id.driver}"
            self._watcher = threading.Thread(target=self._watch, name=name)
            self._watcher.start()

    def prepare(self, claims: Sequence[ClaimRef]) -> dict[str, Answer]:
        """Answers by claim UID. Raises CallFailed."""
        request = self._messages.NodePrepareResourcesRequest(claims=self._claims(claims))
        response = self._call("NodePrepareResources", request, claims)
        return {
            uid: Answer(error=answer.error, devices=tuple(_prepared(device) for device in answer.devices))
            for uid, answer in response.claims.items()
        }

    def unprepare(self, claims: Sequence[ClaimRef]) -> dict[str, Answer]:
        """Answers by claim UID. Raises CallFailed."""
        request = self._messages.NodeUnprepareResourcesRequest(claims=self._claims(claims))
        response = self._call("NodeUnprepareResources", request, claims)
        return {uid: Answer(error=answer.error) for uid, answer in response.claims.items()}

    def close(self) -> None:
        """Closes the connection and cancels calls in flight; takes about half a second."""
        self._closed.set()
        self._open.cancel_all()
        for callback in (self._state_changed, _nothing):
            self._channel.unsubscribe(callback)
        # The channel's poller in grpc wakes every 0.2 s and fails on a channel that was closed meanwhile.
        time.sleep(_POLLER_SECONDS)
        self._channel.close()
        if self._watcher is not None:
            self._watcher.join(_JOIN_SECONDS)
        self._connected.clear()

    def _claims(self, claims: Sequence[ClaimRef]) -> list[Any]:
        return [self._messages.Claim(namespace=ref.namespace, uid=ref.uid, name=ref.name) for ref in claims]

    def _call(self, method: str, request: Any, claims: Sequence[ClaimRef]) -> Any:
        started = time.monotonic()
        outcome = "OK"
        if self._closed.is_set():
            raise CallFailed("rpc error: code = Canceled desc = grpc: the client connection is closing")
        call = getattr(self._stub, method).future(request, timeout=self._timings.call_seconds)
        self._open.add(call)
        try:
            return call.result()
        except grpc.RpcError as error:
            outcome = error.code().name
            raise CallFailed(_as_dialled(rpc_text(error), self.id.endpoint)) from error
        except grpc.FutureCancelledError as error:
            outcome = "CANCELLED"
            raise CallFailed(
                "rpc error: code = Canceled desc = grpc: the client connection is closing"
            ) from error
        finally:
            self._open.remove(call)
            self._events.called(
                Call(
                    method=method,
                    driver=self.id.driver,
                    endpoint=self.id.endpoint,
                    claims=tuple(ref.uid for ref in claims),
                    outcome=outcome,
                    started_at=started,
                    seconds=time.monotonic() - started,
                )
            )

    def _state_changed(self, state: grpc.ChannelConnectivity) -> None:
        """Called on a thread of grpc. Connects an idle channel again, as the real kubelet does."""
        if self._closed.is_set():
            return
        if state is grpc.ChannelConnectivity.IDLE:
            self._channel.unsubscribe(_nothing)
            self._channel.subscribe(_nothing, try_to_connect=True)
        ready = state is grpc.ChannelConnectivity.READY
        if ready != self._connected.is_set():
            (self._connected.set if ready else self._connected.clear)()
            self._events.connection_changed(self)

    def _watch(self) -> None:
        while not self._closed.is_set():
            code = self._read_stream()
            self._events.health_ended(self.id.driver)
            if code is grpc.StatusCode.UNIMPLEMENTED:
                return
            self._closed.wait(self._timings.health_retry_seconds)

    def _read_stream(self) -> grpc.StatusCode | None:
        """Reads one stream to its end. Returns its status code."""
        messages, stub = _HEALTH[self.id.health_service]
        call = stub(self._channel).NodeWatchResources(messages.NodeWatchResourcesRequest())
        self._open.add(call)
        try:
            for response in call:
                self._events.health_reported(self.id.driver, [_report(device) for device in response.devices])
        except grpc.RpcError as error:
            log.debug("health stream of %s: %s", self.id.endpoint, rpc_text(error))
        finally:
            self._open.remove(call)
        code: grpc.StatusCode | None = call.code()
        return code


def rpc_text(error: grpc.RpcError) -> str:
    """A failed call in the words of grpc-go."""
    code: grpc.StatusCode = error.code()
    name = "Canceled" if code is grpc.StatusCode.CANCELLED else code.name.title().replace("_", "")
    if code is grpc.StatusCode.OK:
        name = "OK"
    details = error.details()
    text = "context deadline exceeded" if code is grpc.StatusCode.DEADLINE_EXCEEDED else details
    return f"rpc error: code = {name} desc = {text}"


def _as_dialled(text: str, endpoint: str) -> str:
    """A failed connection in the words of grpc-go; other texts unchanged."""
    for ours, theirs in _DIAL_ERRORS.items():
        if f"error: {ours}" in text:
            dialled = f"transport: Error while dialing: dial unix {endpoint}: connect: {theirs}"
            return f'rpc error: code = Unavailable desc = connection error: desc = "{dialled}"'
    return text


def _options(timings: KubeletTimings) -> list[tuple[str, int | str]]:
    redial = max(1, int(timings.redial_seconds * 1000))
    return [
        ("grpc.default_authority", "localhost"),
        ("grpc.use_local_subchannel_pool", 1),  # else all kubelets of this process share one connection
        ("grpc.initial_reconnect_backoff_ms", redial),
        ("grpc.min_reconnect_backoff_ms", redial),
        ("grpc.max_reconnect_backoff_ms", redial),
    ]


def _nothing(_state: grpc.ChannelConnectivity) -> None:
    return


def _prepared(device: Any) -> PreparedDevice:
    return PreparedDevice(
        pool=device.pool_name,
        device=device.device_name,
        requests=tuple(device.request_names),
        cdi_ids=tuple(device.cdi_device_ids),
    )


def _report(device: Any) -> Report:
    return Report(
        pool=device.device.pool_name,
        device=device.device.device_name,
        health=_STATES.get(device.health, "Unknown"),
        message=device.message,
        timeout_seconds=float(device.health_check_timeout_seconds),
    )
