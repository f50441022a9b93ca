"""The liveness probe: calls the plugin over its own sockets, as the kubelet does."""

from pathlib import Path
from typing import TypeVar

import grpc

from gpuvitals.kubeletplugin.sockets import SocketPaths
from gpuvitals.proto import dra_v1_pb2, pluginregistration_v1_pb2
from gpuvitals.proto.dra_v1_pb2_grpc import DRAPluginStub
from gpuvitals.proto.pluginregistration_v1_pb2_grpc import RegistrationStub

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")


class ProbeError(Exception):
    """The plugin does not answer on one of its sockets. The message names the socket."""


def probe(paths: SocketPaths, seconds: float) -> None:
    """Calls GetInfo and an empty Prepare, each with the deadline `seconds`. Raises ProbeError."""
    with _channel(paths.registration) as channel:
        _call(
            paths.registration,
            RegistrationStub(channel).GetInfo,
            pluginregistration_v1_pb2.InfoRequest(),
            seconds,
        )
    with _channel(paths.dra) as channel:
        request = dra_v1_pb2.NodePrepareResourcesRequest()
        _call(paths.dra, DRAPluginStub(channel).NodePrepareResources, request, seconds)


def _channel(path: Path) -> grpc.Channel:
    return grpc.insecure_channel(f"unix:{path}", options=[("grpc.default_authority", "localhost")])


def _call(
    path: Path, method: "grpc.UnaryUnaryMultiCallable[_Request, _Answer]", request: _Request, seconds: float
) -> None:
    try:
        method(request, timeout=seconds)
    except grpc.RpcError as error:
        raise ProbeError(f"{path}: {error.details()}; the kubelet can't reach this plugin either") from error
