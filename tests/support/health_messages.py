"""The messages of a plugin instance on its health stream, read by a second listener beside the kubelet."""

from contextlib import suppress
from pathlib import Path

import grpc

from gpuvitals.proto import dra_health_v1_pb2 as health
from gpuvitals.proto.dra_health_v1_pb2_grpc import DRAResourceHealthStub
from support.worlds.plugin_world import channel


def words(endpoint: Path, seconds: float) -> int:
    """How many lists a health stream on that socket gives in this time."""
    count = 0
    with channel(endpoint) as opened:
        request = health.NodeWatchResourcesRequest()
        with suppress(grpc.RpcError):  # the deadline ends it
            for _ in DRAResourceHealthStub(opened).NodeWatchResources(request, timeout=seconds):
                count += 1
    return count
