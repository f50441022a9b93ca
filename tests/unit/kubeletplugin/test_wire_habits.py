"""Habits of a real kubelet on the wire, and failures that only the driver reports."""

import fcntl
import os
from dataclasses import replace
from urllib.parse import quote

import grpc

from gpuvitals.proto import dra_health_v1_pb2 as v1
from gpuvitals.proto import pluginregistration_v1_pb2 as registration
from gpuvitals.proto.dra_health_v1_pb2_grpc import DRAResourceHealthStub
from gpuvitals.proto.pluginregistration_v1_pb2_grpc import RegistrationStub
from support.waiting import eventually
from support.worlds.plugin_world import DRIVER, FAST, World, channel, kubelet, uid_of


def test_the_sockets_path_is_accepted_as_authority(node: World) -> None:
    """A kubelet sends it percent-encoded on the registration connection; some gRPC servers refuse it."""
    with node.running() as plugin:
        path = str(plugin.paths.registration)
        options = [("grpc.default_authority", quote(path, safe=""))]
        with grpc.insecure_channel(f"unix:{path}", options=options) as opened:
            info = RegistrationStub(opened).GetInfo(registration.InfoRequest(), timeout=5)
    assert info.name == DRIVER


def test_the_health_stream_sends_before_the_kubelet_confirms_the_registration(node: World) -> None:
    with node.running() as plugin, channel(plugin.paths.dra) as opened:
        call = DRAResourceHealthStub(opened).NodeWatchResources(v1.NodeWatchResourcesRequest(), timeout=5)
        assert len(next(call).devices) == 4
        assert not plugin.kubelet_connected()
        call.cancel()


def test_an_unprepare_that_fails_is_an_event_of_the_drivers_own(node: World) -> None:
    """The kubelet tries again without a word, and the pod stays Terminating."""
    claim = node.allocate(1, 0)
    with node.running(limits=replace(FAST, lock_wait_seconds=0.2)) as plugin, kubelet(plugin) as calls:
        calls.prepare(claim)
        lock = next((node.directory / "data").glob("checkpoint*.lock"))
        descriptor = os.open(lock, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            assert calls.unprepare(claim)[uid_of(1)].startswith("Busy: ")
        finally:
            os.close(descriptor)
        eventually(lambda: "Busy" in node.events.reasons())
        event = next(one for one in node.events.events if one.reason == "Busy")
        assert event.claim is not None
        assert event.claim.uid == uid_of(1)
        assert event.message.startswith("unprepare of claim ml/claim-1 refused: ")
        assert calls.unprepare(claim) == {uid_of(1): ""}
    assert node.cdi_files() == []


def test_unprepare_of_a_claim_whose_prepare_failed_succeeds(node: World) -> None:
    with node.running() as plugin, kubelet(plugin) as calls:
        claim = node.allocate(1, 0, allocated=False)
        assert calls.prepare(claim)[uid_of(1)].error.startswith("NotAllocated: ")
        assert calls.unprepare(claim) == {uid_of(1): ""}
