"""The health stream over the real socket: complete lists, heartbeats, and the reporting instance."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import grpc
import pytest
from prometheus_client import generate_latest

from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.inventory.device import device_name
from gpuvitals.kubeletplugin.device_health import KubeletHealth, all_unknown, device_reports
from gpuvitals.kubeletplugin.held_claim import HeldClaim, HeldDevice
from gpuvitals.kubeletplugin.plugin import KubeletPlugin
from gpuvitals.model.health import HealthState, Phase
from gpuvitals.model.ids import DeviceName, GpuUuid, Reason
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals.proto import dra_health_v1_pb2 as v1
from gpuvitals.proto import dra_health_v1alpha1_pb2 as v1alpha1
from gpuvitals.proto.dra_health_v1_pb2_grpc import DRAResourceHealthStub
from gpuvitals.proto.dra_health_v1alpha1_pb2_grpc import DRAResourceHealthStub as AlphaStub
from support.waiting import eventually
from support.worlds.plugin_world import FAST, NODE, World, channel, kubelet, snapshot_of, uid_of

CALM = replace(FAST, heartbeat_seconds=5.0)


class Stream:
    """An open health stream; every message that arrives is in `messages`."""

    def __init__(self, call: Iterator[v1.NodeWatchResourcesResponse]) -> None:
        self.messages: queue.Queue[v1.NodeWatchResourcesResponse] = queue.Queue()
        self.code: grpc.StatusCode | None = None
        self._call = call
        self._thread = threading.Thread(target=self._read, name="stream")
        self._thread.start()

    def next(self, seconds: float = 5.0) -> dict[str, v1.DeviceHealth]:
        return {entry.device.device_name: entry for entry in self.messages.get(timeout=seconds).devices}

    def silent(self, seconds: float) -> bool:
        try:
            self.messages.get(timeout=seconds)
        except queue.Empty:
            return True
        return False

    def close(self) -> None:
        self._call.cancel()
        self._thread.join(5)

    def _read(self) -> None:
        try:
            for message in self._call:
                self.messages.put(message)
            self.code = grpc.StatusCode.OK
        except grpc.RpcError as error:
            self.code = error.code()


@contextmanager
def stream(plugin: KubeletPlugin) -> Iterator[Stream]:
    with channel(plugin.paths.dra) as opened:
        request = v1.NodeWatchResourcesRequest()
        watched = Stream(DRAResourceHealthStub(opened).NodeWatchResources(request, timeout=30))
        try:
            yield watched
        finally:
            watched.close()


def test_first_message_is_the_complete_list_at_once(node: World) -> None:
    with node.running(limits=CALM) as plugin, stream(plugin) as watched:
        devices = watched.next(1.0)
    assert sorted(devices) == [node.device(index) for index in range(4)]
    first = devices[node.device(0)]
    assert (first.device.pool_name, first.health, first.message) == (NODE, v1.HEALTHY, "")
    assert first.health_check_timeout_seconds == CALM.health_timeout_seconds
    assert first.last_updated_time == int(node.snapshot.taken.time.timestamp())


def test_change_is_sent_at_once_and_a_snapshot_without_one_is_not(node: World) -> None:
    with node.running(limits=CALM) as plugin, stream(plugin) as watched:
        watched.next()
        plugin.notify(node.judge(1, HealthState.UNHEALTHY, reason=Reason("Xid79"), message="off the bus"))
        devices = watched.next(1.0)
        assert devices[node.device(1)].health == v1.UNHEALTHY
        assert devices[node.device(1)].message == "Unhealthy (Xid79): off the bus"
        assert devices[node.device(0)].health == v1.HEALTHY
        plugin.notify(replace(node.snapshot, revision=99))
        assert watched.silent(0.3)


def test_heartbeat_repeats_the_list(node: World) -> None:
    with node.running() as plugin, stream(plugin) as watched:
        first = watched.next()
        for _ in range(3):
            assert watched.next(FAST.heartbeat_seconds * 3) == first


def test_prepared_device_that_left_the_node_stays_in_the_list_as_unknown(node: World) -> None:
    claim = node.allocate(1, 3)
    with node.running(limits=CALM) as plugin, stream(plugin) as watched, kubelet(plugin) as calls:
        watched.next()
        calls.prepare(claim)
        gone = replace(node.snapshot, revision=2, gpus=node.snapshot.gpus[:3])
        node.agent.snapshot = gone
        plugin.notify(gone)
        devices = watched.next(1.0)
        assert devices[node.device(3)].health == v1.UNKNOWN
        assert devices[node.device(3)].message == "the device is no longer on this node"
        calls.unprepare(claim)
        assert node.device(3) not in watched.next(1.0)


def test_agent_that_stands_still_is_unknown_once_and_then_silent_until_it_turns(node: World) -> None:
    with node.running() as plugin, stream(plugin) as watched:
        watched.next()
        node.agent.tick_age_seconds = 60.0
        states: set[int] = set()
        while states != {v1.UNKNOWN}:
            states = {device.health for device in watched.next().values()}
        assert watched.silent(FAST.heartbeat_seconds * 3)
        node.agent.tick_age_seconds = 0.0
        assert {device.health for device in watched.next().values()} == {v1.HEALTHY}


def test_before_the_first_snapshot_prepared_devices_are_unknown_after_a_grace(node: World) -> None:
    with node.running() as plugin, kubelet(plugin) as calls:
        calls.prepare(node.allocate(1, 0))
    snapshot = node.snapshot
    node.agent.snapshot = None
    with node.running() as plugin, stream(plugin) as watched:
        assert watched.silent(FAST.heartbeat_seconds / 2)
        devices = watched.next()
        assert {name: entry.health for name, entry in devices.items()} == {node.device(0): v1.UNKNOWN}
        plugin.notify(snapshot)
        assert len(watched.next(1.0)) == 4


def test_v1alpha1_sends_the_same(node: World) -> None:
    node.judge(0, HealthState.DEGRADED, reason=Reason("Xid94"), message="contained error")
    with node.running() as plugin, channel(plugin.paths.dra) as opened, stream(plugin) as watched:
        request = v1alpha1.NodeWatchResourcesRequest()
        call = AlphaStub(opened).NodeWatchResources(request, timeout=10)
        message = next(call)
        call.cancel()
        assert (
            message.SerializeToString()
            == v1.NodeWatchResourcesResponse(devices=watched.next().values()).SerializeToString()
        )
        assert message.devices[0].health == v1alpha1.HEALTHY
        assert message.devices[0].message == "Degraded (Xid94): contained error"


def test_streams_are_bounded_and_never_use_up_the_threads_of_calls(node: World) -> None:
    limits = replace(CALM, max_streams=2, max_prepares=1, max_unprepares=1, spare_calls=1)
    with node.running(limits=limits) as plugin, kubelet(plugin) as calls:
        with stream(plugin) as first, stream(plugin) as second:
            first.next()
            second.next()
            with stream(plugin) as third:
                eventually(lambda: third.code is grpc.StatusCode.RESOURCE_EXHAUSTED)
            assert calls.prepare(node.allocate(1, 0))[uid_of(1)].error == ""
        with stream(plugin) as again:
            again.next()


def test_stop_ends_the_streams_with_ok(node: World) -> None:
    plugin = node.plugin()
    plugin.start()
    plugin.attach(node.ports())
    with stream(plugin) as watched:
        watched.next()
        plugin.stop(2.0)
        eventually(lambda: watched.code is grpc.StatusCode.OK)


def test_open_streams_and_prepared_claims_are_counted(node: World) -> None:
    metrics = NodeMetrics("test")

    def shows(line: str) -> Callable[[], bool]:
        return lambda: line in generate_latest(metrics.registry).decode()

    plugin = node.plugin()
    plugin.start()
    try:
        plugin.attach(node.ports(metrics=metrics))
        with stream(plugin) as watched, kubelet(plugin) as calls:
            watched.next()
            calls.prepare(node.allocate(1, 0), node.allocate(2, 0))
            eventually(shows("gpuvitals_health_stream_clients 1.0"))
            eventually(shows("gpuvitals_prepared_claims 1.0"))
            for code in ("ok", "DeviceInUse"):
                labels = f'code="{code}",op="prepare"'
                eventually(shows(f"gpuvitals_prepare_seconds_count{{{labels}}} 1.0"))
        eventually(shows("gpuvitals_health_stream_clients 0.0"))
    finally:
        plugin.stop(1.0)


def test_in_a_rolling_update_only_the_newest_instance_reports(node: World) -> None:
    """The old stream stays open and silent: its end would empty the kubelet's cache of the whole driver."""
    with node.running("pod-a") as old, stream(old) as from_old:
        from_old.next()
        assert old.publishing()
        with node.running("pod-b") as new, stream(new) as from_new:
            from_new.next()
            assert (old.publishing(), new.publishing()) == (False, True)
            while not from_old.messages.empty():
                from_old.messages.get()
            assert from_old.silent(FAST.heartbeat_seconds * 2)
            assert from_old.code is None
            assert len(from_new.next()) == 4
        assert len(from_old.next()) == 4, "the successor has gone: the old one speaks again"
        assert old.publishing()


def test_departure_of_the_old_instance_makes_the_new_one_say_everything_again(node: World) -> None:
    old = node.plugin("pod-a")
    old.start()
    old.attach(node.ports())
    with node.running("pod-b", limits=CALM) as new, stream(new) as watched:
        watched.next()
        eventually(new.publishing)
        old.stop(1.0)
        assert len(watched.next(CALM.heartbeat_seconds / 2)) == 4


def held(device: str) -> HeldClaim:
    entry = HeldDevice(uuid=GpuUuid("GPU-x"), device=DeviceName(device), minor=0, requests=("r",))
    return HeldClaim(
        claim=ClaimRef(namespace="ml", name="c", uid=uid_of(1)),
        devices=(entry,),
        prepared_time=datetime(2026, 1, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("state", "health", "message"),
    [
        (HealthState.HEALTHY, KubeletHealth.HEALTHY, ""),
        (HealthState.DEGRADED, KubeletHealth.HEALTHY, "Degraded (Xid94): text"),
        (HealthState.UNHEALTHY, KubeletHealth.UNHEALTHY, "Unhealthy (Xid94): text"),
        (HealthState.UNKNOWN, KubeletHealth.UNKNOWN, "Unknown (Xid94): text"),
    ],
    ids=lambda value: getattr(value, "value", None),
)
def test_each_state_in_the_kubelets_words(state: HealthState, health: KubeletHealth, message: str) -> None:
    snapshot = snapshot_of(1)
    entry = snapshot.gpus[0]
    verdict = replace(entry.verdict, state=state, reason=Reason("Xid94"), message="text")
    (report,) = device_reports(replace(snapshot, gpus=(replace(entry, verdict=verdict),)), ())
    assert (report.health, report.message) == (health, message)


def test_long_messages_are_cut_to_1024_characters() -> None:
    snapshot = snapshot_of(1)
    entry = snapshot.gpus[0]
    verdict = replace(entry.verdict, phase=Phase.PROBATION, message="x" * 2000)
    (report,) = device_reports(replace(snapshot, gpus=(replace(entry, verdict=verdict),)), ())
    assert len(report.message) == 1024
    assert report.message.endswith("...")


def test_unknown_device_that_is_prepared_is_listed_with_and_without_a_snapshot() -> None:
    for snapshot in (None, snapshot_of(2)):
        reports = device_reports(snapshot, (held("gpu-gone"),))
        assert [report.health for report in reports if report.device == "gpu-gone"] == [KubeletHealth.UNKNOWN]
        assert {report.health for report in all_unknown(reports, "why")} == {KubeletHealth.UNKNOWN}


def holder(uuid: str, device: str, *, admin: bool = False) -> HeldClaim:
    claim = held(device)
    return replace(claim, devices=(replace(claim.devices[0], uuid=GpuUuid(uuid), admin=admin),))


def test_a_replaced_board_is_unhealthy_to_its_pod_whatever_the_new_one_is() -> None:
    """Finding N1: the kubelet identifies a device by its name, which now is the new board's."""
    snapshot = snapshot_of(1)
    there = snapshot.gpus[0]
    name = device_name(there.gpu)
    old = replace(
        there,
        gpu=replace(there.gpu, uuid=GpuUuid("GPU-old")),
        verdict=replace(
            there.verdict, state=HealthState.UNHEALTHY, reason=Reason("GpuReplaced"), message="gone"
        ),
    )
    (report,) = device_reports(replace(snapshot, replaced=(old,)), (holder("GPU-old", name),))
    assert (report.health, report.message) == (KubeletHealth.UNHEALTHY, "Unhealthy (GpuReplaced): gone")

    (watched,) = device_reports(replace(snapshot, replaced=(old,)), (holder("GPU-old", name, admin=True),))
    assert watched.health is KubeletHealth.HEALTHY, "a monitor's access does not speak for the slot"


def test_a_gpu_in_mig_mode_is_unhealthy_to_the_pod_that_holds_it_whole() -> None:
    """Finding P6."""
    snapshot = snapshot_of(1)
    there = snapshot.gpus[0]
    divided = replace(there, gpu=replace(there.gpu, mig_enabled=True))
    name = device_name(there.gpu)
    (report,) = device_reports(replace(snapshot, gpus=(divided,)), (holder(there.gpu.uuid, name),))
    assert report.health is KubeletHealth.UNHEALTHY
    assert report.message.startswith("Unhealthy (MigEnabled): ")
