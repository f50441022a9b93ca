"""The agent's pod on a node, and a command run in it, for a person with a kubeconfig.

The official client speaks the exec protocol; it is imported only here and for kubeconfigs (docs/adr/028).
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import msgspec
import urllib3

from gpuvitals.decode_error import decoded
from gpuvitals.kube.errors import Permanent, Retryable
from gpuvitals.kube.kubeconfig import configuration, official_client
from gpuvitals.kube.transport import Call, ConnectSettings, Transport

SELECTOR = "app.kubernetes.io/name=gpuvitals,app.kubernetes.io/component=agent"
"""The labels that the chart gives its agents, unless nameOverride changes the first."""
_EXEC_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentPod:
    """A running pod of an agent, the name of its container and the flags that it was started with."""

    namespace: str
    name: str
    container: str
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a command in a pod printed, and its exit code."""

    output: str
    errors: str
    code: int


class _Container(msgspec.Struct):
    name: str
    args: list[str] = []


class _Spec(msgspec.Struct):
    containers: list[_Container]


class _Metadata(msgspec.Struct, rename="camel"):
    namespace: str
    name: str
    creation_timestamp: str = ""


class _Status(msgspec.Struct):
    phase: str = ""


class _Pod(msgspec.Struct):
    metadata: _Metadata
    spec: _Spec
    status: _Status


class _Pods(msgspec.Struct):
    items: list[_Pod]


_PODS = msgspec.json.Decoder(_Pods)


def agent_pods(transport: Transport, node: str, selector: str = SELECTOR) -> tuple[AgentPod, ...]:
    """The running agents of a node, the newest first. Raises ApiError."""
    query = (("labelSelector", selector), ("fieldSelector", f"spec.nodeName={node},status.phase=Running"))
    body = transport.request(Call(method="GET", path="/api/v1/pods", query=query))
    try:
        found = decoded(_PODS, body).items
    except msgspec.DecodeError as error:
        raise Permanent(f"GET /api/v1/pods: not a list of pods: {error}") from error
    found.sort(key=lambda pod: pod.metadata.creation_timestamp, reverse=True)
    return tuple(
        AgentPod(
            namespace=pod.metadata.namespace,
            name=pod.metadata.name,
            container=pod.spec.containers[0].name,
            flags=tuple(pod.spec.containers[0].args),
        )
        for pod in found
        if pod.spec.containers
    )


def run_in_pod(settings: ConnectSettings, pod: AgentPod, command: Sequence[str]) -> Finished:
    """Runs a command in the pod, as `kubectl exec` does. Raises ApiError, also where it takes longer than 15 s."""
    if settings.url:
        raise Permanent("a plain URL is a simulation, which runs no pods")
    kubeconfig = settings.kubeconfig
    kubernetes = official_client()
    client, config = kubernetes.client, kubernetes.config
    from websocket import WebSocketException

    access = client.Configuration() if kubeconfig is None else configuration(kubeconfig)
    where = f"exec in pod {pod.namespace}/{pod.name}"
    try:
        if kubeconfig is None:
            config.load_incluster_config(client_configuration=access)
        with client.ApiClient(access) as api:
            channel = kubernetes.stream.stream(
                client.CoreV1Api(api).connect_get_namespaced_pod_exec,
                pod.name,
                pod.namespace,
                container=pod.container,
                command=list(command),
                stdout=True,
                stderr=True,
                stdin=False,
                tty=False,
                _preload_content=False,
                _request_timeout=_EXEC_SECONDS,
            )
            with closing(channel):
                channel.run_forever(timeout=_EXEC_SECONDS)
                return _finished(where, channel)
    except client.ApiException as error:
        raise Permanent(f"{where}: {error.reason} (HTTP {error.status})", status=error.status or 0) from error
    except (config.ConfigException, OSError, urllib3.exceptions.HTTPError, WebSocketException) as error:
        raise Retryable(f"{where}: {error}") from error


class _Channel(Protocol):
    """The part of kubernetes.stream.ws_client.WSClient that is used here; the client has no types."""

    @property
    def returncode(self) -> int | None: ...

    def is_open(self) -> bool: ...
    def read_stdout(self, timeout: float) -> str: ...
    def read_stderr(self, timeout: float) -> str: ...


def _finished(where: str, channel: _Channel) -> Finished:
    if channel.is_open():
        raise Retryable(f"{where}: no end within {_EXEC_SECONDS:.0f} s")
    try:
        code = channel.returncode
    except (KeyError, TypeError, ValueError, IndexError) as error:
        # The client reads it from the last message, which a broken connection does not bring.
        raise Retryable(f"{where}: the connection ended before the command did") from error
    output, errors = channel.read_stdout(timeout=0), channel.read_stderr(timeout=0)
    return Finished(output=output or "", errors=errors or "", code=code or 0)
