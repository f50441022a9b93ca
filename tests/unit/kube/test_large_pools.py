"""Pools of many full slices: created once, left alone, and shrunk to one empty slice."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.pool import PoolSpec
from gpuvitals.kube.slices.ports import PublisherSettings
from gpuvitals.kube.slices.publisher import SlicePublisher
from gpuvitals.kube.transport import ConnectSettings, connect
from gpuvitals.model.health import HealthState
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals_sim.apiserver import ApiServer, InProcessClient
from support.worlds.publisher_world import Progress
from support.worlds.snapshots import snapshot

KIND = "resourceslices.resource.k8s.io"


@contextmanager
def publishing() -> Iterator[tuple[ApiServer, InProcessClient, SlicePublisher, list[int]]]:
    with ApiServer() as server:
        client = server.client("test")
        client.create("nodes", {"metadata": {"name": "node-a"}})
        transport = connect(ConnectSettings(url=server.url))
        progress = Progress()
        settings = PublisherSettings(
            driver=Naming().driver,
            node="node-a",
            annotation=Naming().node_report,
            mode=None,
        )
        publisher = SlicePublisher(settings, transport, NodeMetrics("test"), progress)
        publisher.start()
        publisher.set_kubelet_connected(True)
        try:
            yield server, client, publisher, progress.published
        finally:
            publisher.stop(5)
            transport.close()


def await_stored(stored: list[int], revision: int) -> None:
    deadline = time.monotonic() + 20
    while revision not in stored:
        assert time.monotonic() < deadline, stored
        time.sleep(0.02)


def test_ten_full_slices_are_written_once_each_and_shrink_to_one_that_is_empty() -> None:
    node = snapshot(640, {5: HealthState.UNHEALTHY, 600: HealthState.DEGRADED})
    with publishing() as (server, client, publisher, stored):
        publisher.publish(PoolSpec(snapshot=node, naming=Naming()), 1)
        await_stored(stored, 1)
        slices = client.list(KIND)
        assert sorted(len(one["spec"]["devices"]) for one in slices) == [64] * 10
        assert {one["spec"]["pool"]["resourceSliceCount"] for one in slices} == {10}
        assert len({one["spec"]["pool"]["generation"] for one in slices}) == 1
        server.requests.clear()
        publisher.publish(PoolSpec(snapshot=node, naming=Naming()), 2)
        await_stored(stored, 2)
        time.sleep(1)
        assert server.requests.writes(resource="resourceslices") == ()
        publisher.publish(PoolSpec(snapshot=snapshot(0), naming=Naming()), 3)
        await_stored(stored, 3)
        (left,) = client.list(KIND)
        assert left["spec"].get("devices") in (None, [])
        assert left["spec"]["pool"]["resourceSliceCount"] == 1
