"""Messages of the health stream: a change of the text only, and the list after a silence beyond the kubelet's lease."""

import time
from dataclasses import replace

from gpuvitals.kubeletplugin.device_health import device_reports
from gpuvitals.model.health import HealthState
from gpuvitals.model.ids import Reason
from gpuvitals.proto import dra_health_v1_pb2 as v1
from gpuvitals.proto.dra_health_v1_pb2_grpc import DRAResourceHealthStub
from support.worlds.plugin_world import FAST, World, channel


def test_a_message_that_changes_while_the_device_stays_unhealthy_is_sent_at_once(node: World) -> None:
    calm = replace(FAST, heartbeat_seconds=5.0)
    node.judge(1, HealthState.UNHEALTHY, reason=Reason("Xid48"), message="double bit error")
    with node.running(limits=calm) as plugin, channel(plugin.paths.dra) as opened:
        call = DRAResourceHealthStub(opened).NodeWatchResources(v1.NodeWatchResourcesRequest(), timeout=20)
        first = next(call).devices[1]
        began = time.monotonic()
        plugin.notify(node.judge(1, HealthState.UNHEALTHY, reason=Reason("Xid79"), message="off the bus"))
        second = next(call).devices[1]
        call.cancel()
    assert time.monotonic() - began < 1
    assert (first.health, second.health) == (v1.UNHEALTHY, v1.UNHEALTHY)
    assert first.message == "Unhealthy (Xid48): double bit error"
    assert second.message == "Unhealthy (Xid79): off the bus"


def test_a_gpu_in_mig_mode_is_no_device_of_the_list(node: World) -> None:
    entries = list(node.snapshot.gpus)
    entries[1] = replace(entries[1], gpu=replace(entries[1].gpu, mig_enabled=True))
    listed = [report.device for report in device_reports(replace(node.snapshot, gpus=tuple(entries)), ())]
    assert listed == [node.device(index) for index in (0, 2, 3)]


def test_after_a_silence_longer_than_the_lease_the_list_begins_with_unknown(node: World) -> None:
    """A repeated value would be no news to the kubelet, and its pods would stay Unknown until their next sync."""
    limits = replace(FAST, health_timeout_seconds=1)
    freeze = [0.0]

    class FreezingAgent:
        snapshot = node.snapshot

        @property
        def tick_age_seconds(self) -> float:
            seconds, freeze[0] = freeze[0], 0.0
            time.sleep(seconds)
            return 0.0

    with node.running(limits=limits, agent=FreezingAgent()) as plugin, channel(plugin.paths.dra) as opened:
        call = DRAResourceHealthStub(opened).NodeWatchResources(v1.NodeWatchResourcesRequest(), timeout=20)
        before = next(call)
        assert next(call) == before
        freeze[0] = 1.2
        said = [next(call) for _ in range(4)]
        call.cancel()
    states = [{entry.health for entry in message.devices} for message in said]
    unknown = states.index({v1.UNKNOWN})
    assert states[unknown + 1 :] == [{v1.HEALTHY}] * (3 - unknown)
    assert "silent for too long" in said[unknown].devices[0].message
    assert said[-1] == before
