"""The least Python program that a kubelet can register: it imports grpc and serves one registration socket.

B10 starts it beside the agent. Its arguments are the socket and the name of the driver; SIGTERM ends it.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

from gpuvitals.proto import pluginregistration_v1_pb2 as registration
from gpuvitals.proto.pluginregistration_v1_pb2_grpc import (
    RegistrationServicer,
    add_RegistrationServicer_to_server,
)


class _Registration(RegistrationServicer):
    def __init__(self, socket: str, name: str) -> None:
        self._info = registration.PluginInfo(
            type="DRAPlugin", name=name, endpoint=socket, supported_versions=["v1.DRAPlugin"]
        )

    def GetInfo(  # noqa: N802
        self, request: registration.InfoRequest, context: grpc.ServicerContext
    ) -> registration.PluginInfo:
        return self._info

    def NotifyRegistrationStatus(  # noqa: N802
        self, request: registration.RegistrationStatus, context: grpc.ServicerContext
    ) -> registration.RegistrationStatusResponse:
        return registration.RegistrationStatusResponse()


def main(socket: str, name: str) -> None:
    """Serves until a signal ends the process."""
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    add_RegistrationServicer_to_server(_Registration(socket, name), server)
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main(*sys.argv[1:])
