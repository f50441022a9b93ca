"""Finds the agent's pod on a node and runs a command in it, with the credentials of a kubeconfig.

The official client implements the exec protocol (docs/adr/028).
"""

from collections.abc import Sequence
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
    """A running pod of an agent, its container, and the flags of its command line."""

    namespace: str
    name: str
    container: str
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """The output of a command in a pod, and its exit code."""

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


class _Pod(msgspec.Struct):
    metadata: _Metadata
    spec: _Spec


class _Pods(msgspec.Struct):
    items: list[_Pod]


_PODS = msgspec.json.Decoder(_Pods)


def agent_pods(transport: Transport, node: str, selector: str = SELECTOR) -> tuple[AgentPod, ...]:
    """The running agent pods of a node, the newest first. Raises ApiError."""
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


def run_in_pod(settings: ConnectSettings, pod: AgentPod, command: Sequence[str]) -> CommandResult:
    """Runs a command in the pod, as `kubectl exec` does. Raises ApiError, also for a command that takes over 15 s."""
    if settings.url:
        raise Permanent("a plain URL is a simulation, which runs no pods")
    kubeconfig = settings.kubeconfig
    official = official_client()
    client, config = official.client, official.config
    access = client.Configuration() if kubeconfig is None else configuration(kubeconfig)
    attempt = f"exec in pod {pod.namespace}/{pod.name}"
    try:
        if kubeconfig is None:
            config.load_incluster_config(client_configuration=access)
        with client.ApiClient(access) as api:
            channel = official.stream(
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
            try:
                channel.run_forever(timeout=_EXEC_SECONDS)
                return _result(attempt, channel)
            finally:
                channel.close()
                # After the server's close frame `close` leaves the socket open.
                channel.sock.shutdown()
    except client.ApiException as error:
        raise Permanent(
            f"{attempt}: {error.reason} (HTTP {error.status})", status=error.status or 0
        ) from error
    except (config.ConfigException, OSError, urllib3.exceptions.HTTPError, official.websocket_error) as error:
        raise Retryable(f"{attempt}: {error}") from error


class _Channel(Protocol):
    """The methods of kubernetes.stream.ws_client.WSClient that are used here; the client has no types."""

    @property
    def returncode(self) -> int | None: ...

    def is_open(self) -> bool: ...
    def read_stdout(self, timeout: float) -> str: ...
    def read_stderr(self, timeout: float) -> str: ...


def _result(attempt: str, channel: _Channel) -> CommandResult:
    if channel.is_open():
        raise Retryable(f"{attempt}: not finished within {_EXEC_SECONDS:.0f} s")
    try:
        code = channel.returncode
    except (KeyError, TypeError, ValueError, IndexError) as error:
        # The client reads the code from the last message, which a broken connection does not deliver.
        raise Retryable(f"{attempt}: the connection ended before the command") from error
    output, errors = channel.read_stdout(timeout=0), channel.read_stderr(timeout=0)
    return CommandResult(output=output or "", errors=errors or "", code=code or 0)
